"""A credential reaches its own tenant only: whatever one tenant does is nowhere to be found by another."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from sync_server.app import open_application
from sync_server.asgi import Application
from tests.access.credentials import ACCESS, bearer
from tests.server.shop import new_vin
from tests.server.test_access_matrix import API, ROUTES, http
from tests.serving import serving, sqlite_settings
from tests.sockets.client import socket
from tests.streams import stream

MINE, FOREIGN = bearer("admin", sub="boss"), bearer("admin", sub="boss", tenant="other")
MARK = "secret-of-the-first-shop"


@pytest.fixture
async def application(tmp_path: Path) -> AsyncIterator[Application]:
    async with open_application(sqlite_settings(tmp_path, access=ACCESS)) as application:
        yield application


async def fill(client: httpx2.AsyncClient) -> dict[str, str]:
    """A shop's day in the default tenant; ids by the names that paths have for them."""
    ids = {"orderID": f"{MARK}-order", "queueID": f"{MARK}-queue", "bayID": f"{MARK}-bay", "key:path": f"{MARK}-key"}
    item = {"sku": "WASH", "name": MARK, "quantity": 1, "unitPrice": "1.00"}

    async def do(path: str, body: dict[str, Any], **headers: str) -> None:
        reply = await client.post(API + path, json=body, headers=MINE | headers)
        assert reply.status_code in (200, 201), reply.text

    order = {"orderID": ids["orderID"], "items": [item]}
    await do("/orders", order, **{"Idempotency-Key": ids["key:path"]})
    await do("/queues", {"queueID": ids["queueID"], "name": MARK})
    await do("/bays", {"bayID": ids["bayID"], "name": MARK})
    await do(f"/queues/{ids['queueID']}/entries", {"orderID": ids["orderID"]})
    event = {"eventType": "status_update", "data": {"status": MARK}, "orderID": ids["orderID"], "key": MARK}
    await do("/sync/events", event)
    return ids


async def test_no_route_shows_or_changes_anything_of_another_tenant(application: Application) -> None:
    async with http(application) as client:
        ids = await fill(client)
        before = (await client.get(f"{API}/sync/snapshot", headers=MINE)).text
        assert MARK in before
        for route, entry in ROUTES.items():
            if "/auth/" in route or "/assets/" in route:
                continue
            method, path = route.split()
            path = re.sub(r"\{([^}]+)\}", lambda match: ids.get(match[1], "x"), path)
            reply = await client.request(
                method, path, headers=FOREIGN, **({} if entry.body is None else {"json": entry.body})
            )
            assert reply.status_code == (200 if "/commands/" in path else entry.status), (route, reply.text)
            body = reply.text.replace(path.rpartition("/")[2], "")
            for own in ids.values():
                body = body.replace(own, "")  # what was asked for may be repeated
            assert MARK not in body, route
        for parameters in ({"after": "earliest"}, {"after": "earliest", "orderID": ids["orderID"]}):
            page = (await client.get(f"{API}/sync/poll", params=parameters, headers=FOREIGN)).json()
            assert page["events"] == []
        snapshot = (await client.get(f"{API}/sync/snapshot", headers=FOREIGN)).json()
        assert (snapshot["orders"], snapshot["queues"], snapshot["bays"]) == ([], [], [])
        state = (await client.get(f"{API}/commands/{ids['key:path']}", headers=FOREIGN)).json()
        assert state["state"] == "unknown"
        after = (await client.get(f"{API}/sync/snapshot", headers=MINE)).text
        assert after == before


async def test_the_same_ids_and_keys_mean_different_things_in_each_tenant(application: Application) -> None:
    async with http(application) as client:
        ids = await fill(client)
        reply = await client.post(
            f"{API}/orders", json={"orderID": ids["orderID"]}, headers=FOREIGN | {"Idempotency-Key": ids["key:path"]}
        )
        assert reply.status_code == 201
        assert reply.json()["order"]["version"] == 1
        event = {"eventType": "status_update", "data": {"status": "other"}, "key": MARK}
        receipt = (await client.post(f"{API}/sync/events", json=event, headers=FOREIGN)).json()["events"][0]
        assert not receipt["duplicate"]


async def test_a_cursor_of_another_tenant_leads_nowhere(application: Application) -> None:
    async with http(application) as client:
        await fill(client)
        cursor = (await client.get(f"{API}/sync/poll", headers=MINE)).json()["cursor"]
        reply = await client.get(f"{API}/sync/poll", params={"after": cursor}, headers=FOREIGN)
        assert (reply.status_code, reply.json()["reason"]) == (410, "epoch")


async def test_nobody_reads_the_accounts_by_naming_their_tenant(application: Application) -> None:
    async with http(application) as client:
        for tenant in ("_access", "_ACCESS", ""):
            headers = bearer("admin", tenant=tenant)
            assert (await client.get(f"{API}/sync/poll", headers=headers)).status_code == 401
        login = {"username": "ann", "password": "x", "tenant": "_access"}
        assert (await client.post(f"{API}/auth/login", json=login)).status_code == 401


async def test_a_live_stream_hears_its_own_tenant_only(tmp_path: Path) -> None:
    async with (
        serving(sqlite_settings(tmp_path, access=ACCESS)) as served,
        stream(served.port, token=FOREIGN["Authorization"].partition(" ")[2]) as opened,
        httpx2.AsyncClient(base_url=served.url, trust_env=False) as client,
    ):
        await opened.until("caught_up")
        await fill(client)
        event = {"eventType": "status_update", "data": {"status": "own"}}
        (await client.post(f"{API}/sync/events", json=event, headers=FOREIGN)).raise_for_status()
        await opened.until("status_update")
        assert [envelope["data"] for envelope in opened.envelopes] == [{"status": "own"}]
        assert MARK.encode() not in opened.raw


async def test_no_socket_tells_or_changes_anything_of_another_tenant(tmp_path: Path) -> None:
    device, vehicle = f"{MARK}-device", f"{MARK}-vehicle"
    async with (
        serving(sqlite_settings(tmp_path, access=ACCESS)) as served,
        socket(served, "/api/v1/sync/ws", headers=FOREIGN) as feed,
        socket(served, "/ws", headers=FOREIGN) as till,
        socket(served, "/ws/tracking", headers=FOREIGN) as map_,
        httpx2.AsyncClient(base_url=f"{served.url}{API}", trust_env=False, headers=MINE) as http,
    ):
        made = [
            ("/devices", {"deviceID": device}),
            ("/vehicles", {"vehicleID": vehicle, "vin": new_vin(), "plateNumber": MARK, "make": "x", "model": "y",
                           "fuelNorm": "9.5"}),
            ("/drivers", {"userID": "boss", "name": MARK}),
            (f"/vehicles/{vehicle}/driver", {"driverID": "boss"}),
            (f"/vehicles/{vehicle}/location", {"lon": 1.0, "lat": 2.0}),
        ]  # fmt: skip
        for path, body in made:
            (await http.post(path, json=body)).raise_for_status()
        before = (await http.get("/sync/snapshot")).json()
        assert MARK in str(before)
        assert (await till.ask({"type": "connect"}))["devices"] == 0
        for client, message in (
            (till, {"type": "device_update", "deviceID": device, "changes": {"status": "busy"}}),
            (map_, {"type": "location", "vehicleID": vehicle, "lon": 3.0, "lat": 4.0}),
        ):
            await client.say(message)
            refusal = await client.until("error")
            assert MARK not in str(refusal).replace(device, "").replace(vehicle, "")
        own = {"eventType": "status_update", "data": {"status": "own"}}
        (await http.post("/sync/events", json=own, headers=FOREIGN)).raise_for_status()
        (await http.post("/devices", json={"deviceID": "own"}, headers=FOREIGN)).raise_for_status()
        await feed.until("device_created")
        await till.until(lambda message: "own" in str(message))
        # Of the map there is nothing to wait for: what it was told is what lies behind a ping.
        await map_.say({"type": "ping"})
        await map_.until("pong")
        assert {message["eventType"] for message in feed.envelopes} == {"status_update", "device_created"}
        for client in (feed, till, map_):
            seen = str([message for message in client.seen if message.get("type") != "error"])
            assert MARK not in seen
        after = (await http.get("/sync/snapshot")).json()
        assert {**after, "cursor": ""} == {**before, "cursor": ""}
