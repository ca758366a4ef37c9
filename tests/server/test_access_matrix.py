"""Every route x everybody who may knock: exactly the documented status. A route without an entry here fails."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import pytest
from starlette.types import Message

from sync_server.app import open_application
from sync_server.asgi import Application
from sync_server.permissions import DEFAULT_ROLES
from tests.access.credentials import ACCESS, bearer
from tests.accounts.office import request
from tests.serving import serving, sqlite_settings
from tests.sockets.client import closed_with, refused, socket

PUBLIC, ANYBODY = "public", "anybody"


class Entry(NamedTuple):
    """What a route asks for (PUBLIC, ANYBODY with a credential, or a permission), and its answer to who has that."""

    needs: str
    status: int
    body: Any = None


API = "/api/v1"
ROUTES: dict[str, Entry] = {
    # the feed: any caller, what it shows is judged event by event
    f"HEAD {API}/sync/events": Entry(ANYBODY, 200),
    f"POST {API}/sync/events": Entry("publish_events", 422, {}),
    f"GET {API}/sync/poll": Entry(ANYBODY, 200),
    f"GET {API}/sync/snapshot": Entry(ANYBODY, 200),
    # documents
    f"GET {API}/orders": Entry("view_orders", 200),
    f"GET {API}/orders/{{orderID}}": Entry("view_orders", 404),
    f"GET {API}/queues": Entry("view_queues", 200),
    f"GET {API}/queues/{{queueID}}": Entry("view_queues", 404),
    f"GET {API}/bays": Entry("view_bays", 200),
    f"GET {API}/bays/{{bayID}}": Entry("view_bays", 404),
    f"GET {API}/devices": Entry("view_devices", 200),
    f"GET {API}/devices/{{deviceID}}": Entry("view_devices", 404),
    f"GET {API}/catalog": Entry("view_catalog", 200),
    f"GET {API}/catalog/{{catalogID}}": Entry("view_catalog", 404),
    f"GET {API}/order-sessions": Entry("view_order_sessions", 200),
    f"GET {API}/order-sessions/active": Entry("view_order_sessions", 200),
    f"GET {API}/order-sessions/{{sessionID}}": Entry("view_order_sessions", 404),
    f"GET {API}/session-slots": Entry("view_order_sessions", 200),
    f"GET {API}/session-slots/{{userID}}": Entry("view_order_sessions", 404),
    f"GET {API}/tabs": Entry("view_tabs", 200),
    f"GET {API}/tabs/{{tabID}}": Entry("view_tabs", 404),
    f"GET {API}/transactions": Entry("view_transactions", 200),
    f"GET {API}/transactions/{{transactionID}}": Entry("view_transactions", 404),
    # commands: the permission comes before the body
    f"POST {API}/orders": Entry("create_orders", 422, {"nonsense": 1}),
    f"PATCH {API}/orders/{{orderID}}": Entry("edit_orders", 404, {}),
    f"DELETE {API}/orders/{{orderID}}": Entry("delete_orders", 404),
    f"POST {API}/orders/{{orderID}}/stage": Entry("change_order_stage", 404, {"newStage": "completed"}),
    f"POST {API}/orders/{{orderID}}/status": Entry("edit_orders", 404, {"status": "soon"}),
    f"POST {API}/orders/{{orderID}}/payment": Entry("take_payments", 404, {"status": "paid", "amount": "1.00"}),
    f"POST {API}/queues": Entry("manage_queues", 422, {}),
    f"PATCH {API}/queues/{{queueID}}": Entry("manage_queues", 404, {}),
    f"DELETE {API}/queues/{{queueID}}": Entry("manage_queues", 404),
    f"POST {API}/queues/{{queueID}}/entries": Entry("use_queues", 404, {"orderID": "x"}),
    f"DELETE {API}/queues/{{queueID}}/entries/{{orderID}}": Entry("use_queues", 404),
    f"POST {API}/queues/{{queueID}}/entries/{{orderID}}/move": Entry("use_queues", 404, {"position": 1}),
    f"POST {API}/queues/{{queueID}}/call-next": Entry("call_next", 404, {"bayID": "x"}),
    f"POST {API}/bays": Entry("manage_bays", 422, {}),
    f"PATCH {API}/bays/{{bayID}}": Entry("run_bays", 404, {}),
    f"DELETE {API}/bays/{{bayID}}": Entry("manage_bays", 404),
    f"POST {API}/bays/{{bayID}}/jobs": Entry("run_bays", 404, {"orderID": "x"}),
    f"PATCH {API}/bays/{{bayID}}/jobs/{{jobID}}": Entry("run_bays", 404, {"progress": 1}),
    f"POST {API}/bays/{{bayID}}/jobs/{{jobID}}/finish": Entry("run_bays", 404),
    f"POST {API}/bays/{{bayID}}/jobs/{{jobID}}/abort": Entry("run_bays", 404, {"reason": "x"}),
    f"POST {API}/devices": Entry("manage_devices", 422, {"nonsense": 1}),
    f"PATCH {API}/devices/{{deviceID}}": Entry("use_devices", 404, {}),
    f"DELETE {API}/devices/{{deviceID}}": Entry("manage_devices", 404),
    f"POST {API}/devices/{{deviceID}}/orders": Entry("use_devices", 422, {}),
    f"PATCH {API}/devices/{{deviceID}}/orders/{{orderIndex}}": Entry("use_devices", 422, {}),
    f"DELETE {API}/devices/{{deviceID}}/orders/{{orderIndex}}": Entry("use_devices", 422),
    f"POST {API}/devices/{{deviceID}}/transfer": Entry("use_devices", 422, {}),
    f"POST {API}/devices/{{deviceID}}/reset": Entry("use_devices", 404),
    f"PUT {API}/catalog/{{catalogID}}/categories": Entry("manage_catalog", 422, {}),
    f"PUT {API}/catalog/{{catalogID}}/prices": Entry("manage_catalog", 422, {}),
    f"POST {API}/order-sessions": Entry("use_order_sessions", 422, {"nonsense": 1}),
    f"PUT {API}/order-sessions/{{sessionID}}": Entry("use_order_sessions", 404, {}),
    f"DELETE {API}/order-sessions/{{sessionID}}": Entry("use_order_sessions", 404),
    f"POST {API}/order-sessions/{{sessionID}}/recover": Entry("use_order_sessions", 404),
    f"POST {API}/order-sessions/{{sessionID}}/logout": Entry("use_order_sessions", 404),
    f"POST {API}/order-sessions/{{sessionID}}/complete": Entry("use_order_sessions", 404),
    f"POST {API}/order-sessions/{{sessionID}}/assign-to-tab": Entry("use_order_sessions", 404, {"tabId": 1}),
    f"POST {API}/tabs": Entry("use_tabs", 422, {}),
    f"PATCH {API}/tabs/{{tabID}}": Entry("use_tabs", 404, {"name": "Bar"}),
    f"DELETE {API}/tabs/{{tabID}}": Entry("use_tabs", 404),
    f"POST {API}/tabs/{{tabID}}/settle": Entry("use_tabs", 404),
    # fueling
    f"GET {API}/fuel-orders": Entry("view_fuel_orders", 200),
    f"GET {API}/fuel-orders/{{fuelOrderID}}": Entry("view_fuel_orders", 404),
    f"POST {API}/fuel-orders": Entry("edit_fuel_order", 422, {"nonsense": 1}),
    f"PATCH {API}/fuel-orders/{{fuelOrderID}}/status": Entry("fuel", 404, {"status": "claimed"}),
    f"PATCH {API}/fuel-orders/{{fuelOrderID}}/csr-update": Entry("edit_fuel_order", 404, {"notes": "x"}),
    f"POST {API}/fuel-orders/{{fuelOrderID}}/acknowledge-change": Entry("fuel", 404, {"change_version": 1}),
    f"PUT {API}/fuel-orders/{{fuelOrderID}}/submit-data": Entry(
        "fuel", 404, {"startMeterReading": "1.00", "endMeterReading": "2.00"}
    ),
    f"POST {API}/fuel-orders/{{fuelOrderID}}/cancel": Entry("edit_fuel_order", 404, {}),
    f"DELETE {API}/fuel-orders/{{fuelOrderID}}": Entry("edit_fuel_order", 404),
    f"GET {API}/fuel-trucks": Entry("view_fuel_trucks", 200),
    f"GET {API}/fuel-trucks/{{truckID}}": Entry("view_fuel_trucks", 404),
    f"POST {API}/fuel-trucks": Entry("manage_fuel_trucks", 422, {}),
    f"PATCH {API}/fuel-trucks/{{truckID}}": Entry("manage_fuel_trucks", 404, {}),
    f"DELETE {API}/fuel-trucks/{{truckID}}": Entry("manage_fuel_trucks", 404),
    # logistics
    f"GET {API}/vehicles": Entry("view_vehicles", 200),
    f"GET {API}/vehicles/{{vehicleID}}": Entry("view_vehicles", 404),
    f"POST {API}/vehicles": Entry("dispatch", 422, {}),
    f"PATCH {API}/vehicles/{{vehicleID}}": Entry("dispatch", 404, {}),
    f"DELETE {API}/vehicles/{{vehicleID}}": Entry("dispatch", 404),
    f"POST {API}/vehicles/{{vehicleID}}/driver": Entry("dispatch", 404, {"driverID": None}),
    f"POST {API}/vehicles/{{vehicleID}}/location": Entry("drive", 404, {"lon": 1, "lat": 2}),
    f"GET {API}/vehicle-locations": Entry("view_vehicles", 200),
    f"GET {API}/vehicle-marks": Entry("dispatch", 200),
    f"GET {API}/vehicle-marks/{{vehicleMarkID}}": Entry("dispatch", 404),
    f"GET {API}/drivers": Entry("view_drivers", 200),
    f"GET {API}/drivers/{{userID}}": Entry("view_drivers", 404),
    f"POST {API}/drivers": Entry("dispatch", 422, {}),
    f"PATCH {API}/drivers/{{userID}}": Entry("dispatch", 404, {}),
    f"DELETE {API}/drivers/{{userID}}": Entry("dispatch", 404),
    f"GET {API}/transport-orders": Entry("view_transport_orders", 200),
    f"GET {API}/transport-orders/{{transportOrderID}}": Entry("view_transport_orders", 404),
    f"POST {API}/transport-orders": Entry("request_transport", 422, {}),
    f"PATCH {API}/transport-orders/{{transportOrderID}}": Entry("dispatch", 404, {}),
    f"DELETE {API}/transport-orders/{{transportOrderID}}": Entry("dispatch", 404),
    f"PATCH {API}/transport-orders/{{transportOrderID}}/status": Entry("drive", 404, {"status": "delivered"}),
    f"POST {API}/transport-orders/{{transportOrderID}}/cancel": Entry("dispatch", 404, {}),
    f"POST {API}/transport-orders/{{transportOrderID}}/vehicle": Entry("dispatch", 404, {"vehicleID": None}),
    f"GET {API}/fuel-logs": Entry("view_fuel_logs", 200),
    f"GET {API}/fuel-logs/{{fuelLogID}}": Entry("view_fuel_logs", 404),
    f"POST {API}/fuel-logs": Entry("drive", 422, {}),
    f"DELETE {API}/fuel-logs/{{fuelLogID}}": Entry("dispatch", 404),
    f"GET {API}/commands/{{key:path}}": Entry(ANYBODY, 200),
    # who am I
    f"POST {API}/auth/login": Entry(PUBLIC, 422, {}),
    f"POST {API}/auth/logout": Entry(ANYBODY, 400),
    f"POST {API}/auth/tickets": Entry(ANYBODY, 201),
    f"GET {API}/auth/me": Entry(ANYBODY, 200),
    f"POST {API}/webhooks/{{source}}": Entry(PUBLIC, 404, {}),
    # reference and operation
    "GET /openapi.json": Entry(ANYBODY, 200),
    "GET /asyncapi.json": Entry(ANYBODY, 200),
    "GET /docs": Entry(ANYBODY, 200),
    "GET /docs/{asset}": Entry(ANYBODY, 404),
    "GET /healthz": Entry(PUBLIC, 200),
    "GET /readyz": Entry(PUBLIC, 200),
    "GET /metrics": Entry("view_metrics", 200),
    # the dashboard's files, the login page among them
    "GET /": Entry(PUBLIC, 200),
    "GET /assets/{digest}/{path:path}": Entry(PUBLIC, 404),
}

REFUSED: dict[str, tuple[dict[str, str], int]] = {
    "anonymous": ({}, 401),
    "foreign tenant": (bearer("admin", tenant="third"), 403),
    "expired": (bearer("admin", lifetime_s=-1), 401),
    "not yet": (bearer("admin", nbf=4_000_000_000), 401),
    "wrong audience": (bearer("admin", aud="elsewhere"), 401),
    "wrong issuer": (bearer("admin", iss="https://evil.example/"), 401),
    "wrong key": (bearer("admin", key="another secret of 32 bytes or more"), 401),
    "unknown API key": ({"Authorization": "Bearer osk_abcdefghij_" + "s" * 43}, 401),
    "forged cookie": ({"Cookie": "order_sync_session=a.b.c"}, 401),
    "basic": ({"Authorization": "Basic YWRtaW46YWRtaW4="}, 401),
}


SOCKETS = {f"{API}/sync/ws": False, "/ws": True, "/ws/tracking": True}
"""By path whether who shows nothing may say who it is with its first message."""

SINGLE = sorted({entry.needs for entry in ROUTES.values()} - {PUBLIC, ANYBODY})
"""Permissions; each is a role of its own here, so that none is mistaken for another one of the same roles."""


@pytest.fixture
async def application(tmp_path: Path) -> AsyncIterator[Application]:
    limits = {"reads": "1000000/second", "commands": "1000000/second", "publishes": "1000000/second"}
    limits |= {"logins": "1000000/second", "connects": "1000000/second"}
    access = ACCESS | {"roles": {permission: {"permissions": [permission]} for permission in SINGLE}}
    async with open_application(sqlite_settings(tmp_path, access=access, limits=limits)) as application:
        yield application


def http(application: Application) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(application), base_url="http://test")


async def ask(client: httpx2.AsyncClient, route: str, headers: dict[str, str]) -> int:
    method, path = route.split()
    path = re.sub(r"\{[^}]+\}", "x", path)
    body = ROUTES[route].body
    reply = await client.request(method, path, headers=headers, **({} if body is None else {"json": body}))
    if reply.status_code == 401:
        assert reply.headers["www-authenticate"] == 'Bearer realm="order-sync"'
    return reply.status_code


async def test_every_route_has_an_entry(application: Application) -> None:
    served = {
        f"{'HEAD' if method == 'GET' and route.path.endswith('/sync/events') else method} {route.path}"
        for route in application.routes
        for method in getattr(route, "methods", None) or ("GET",)
        if method != "HEAD"
    }
    assert served == set(ROUTES)


async def test_who_shows_no_good_credential_is_refused_at_every_door(application: Application) -> None:
    async with http(application) as client:
        for who, (headers, status) in REFUSED.items():
            for route, entry in ROUTES.items():
                expected = entry.status if entry.needs == PUBLIC else status
                assert (who, route, await ask(client, route, headers)) == (who, route, expected)


async def test_every_socket_has_an_entry(application: Application) -> None:
    assert application.sockets is not None
    assert {path: route.late for path, route in application.sockets.routes.items()} == SOCKETS


async def test_who_shows_no_good_credential_opens_no_socket(tmp_path: Path) -> None:
    async with serving(sqlite_settings(tmp_path, access=ACCESS)) as served:
        for path, late in SOCKETS.items():
            for who, (headers, status) in REFUSED.items():
                if not late or "Authorization" in headers:
                    assert (path, who, (await refused(served, path, headers=headers))[0]) == (path, who, status)
                    continue
                for first in ({"type": "x"}, {"type": "connect"}, {"type": "connect", "token": "osk_x"}):
                    async with socket(served, path, headers=headers) as client:
                        await client.say(first)
                        assert await closed_with(client) == ("UNAUTHORIZED", 1008)
                        assert [message["type"] for message in client.seen] == ["error"]
            # Nor by a credential that is good elsewhere.
            for token in (REFUSED[who][0]["Authorization"] for who in ("foreign tenant", "expired", "wrong audience")):
                if late:
                    async with socket(served, path) as client:
                        await client.say({"type": "connect", "token": token.partition(" ")[2]})
                        assert (await closed_with(client))[1] == 1008


async def test_every_role_does_what_its_permissions_say_and_nothing_else(application: Application) -> None:
    async with http(application) as client:
        for role, permissions in [*DEFAULT_ROLES.items(), ("unknown", frozenset[str]())]:
            headers = bearer(role)
            for route, entry in ROUTES.items():
                allowed = entry.needs in (PUBLIC, ANYBODY) or "*" in permissions or entry.needs in permissions
                expected = entry.status if allowed else 403
                assert (role, route, await ask(client, route, headers)) == (role, route, expected)


async def test_every_permission_opens_its_own_routes_and_no_others(application: Application) -> None:
    async with http(application) as client:
        for permission in SINGLE:
            headers = bearer(permission)
            for route, entry in ROUTES.items():
                if entry.needs in SINGLE:
                    expected = entry.status if entry.needs == permission else 403
                    assert (permission, route, await ask(client, route, headers)) == (permission, route, expected)


async def test_what_is_not_there_and_what_is_not_possible_is_told_only_to_callers(application: Application) -> None:
    async with http(application) as client:
        for method, path, status in (("GET", "/nowhere", 404), ("DELETE", "/metrics", 405), ("GET", "/x/healthz", 404)):
            assert (await client.request(method, path)).status_code == 401
            assert (await client.request(method, path, headers=bearer())).status_code == status


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/orders/", "/api/v1//orders", "/API/v1/orders", "/api/v1/orders\x00", "/healthz/../api/v1/orders",
        "/api/v1/webhooks/../orders", "/assets/../api/v1/orders", "/;/metrics", "/metrics;/healthz",
        "/api/v1/auth/login/", "/healthz/", "api/v1/orders", "", "*", "/api/v1/webhooks", "/assets", "/metrics\n", "http://test/metrics",
    ],
)  # fmt: skip
async def test_no_spelling_of_a_path_gets_around_the_guard(application: Application, path: str) -> None:
    for method in ("GET", "POST", "DELETE", "OPTIONS", "TRACE", "get", "X"):
        answer = Answer()
        await application(request(method, path), answer.receive, answer.send)
        told = {401, 404, 405} | ({204} if method == "OPTIONS" else set())  # what a public path can be asked
        assert answer.status in told, (method, path)
        assert b"cursor" not in answer.body


class Answer:
    """One response of the application itself: what no HTTP client would send can be asked too."""

    status = 0
    body = b""

    async def receive(self) -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(self, message: Message) -> None:
        self.status = message.get("status", self.status)
        self.body += message.get("body", b"")
