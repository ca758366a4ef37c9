"""``/ws``: who may, how much, how large, how long; and a till that floods, is dead, or was away for too long."""

import asyncio
import gc
import json
import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed

from sync_server.log.open import new_epoch
from sync_server.log.retention import Retention, enforce
from tests.access.credentials import ACCESS, bearer, token
from tests.devices.tills import COLA, greet, office, till
from tests.feed.conftest import Start
from tests.sockets.client import closed_with, refused, socket
from tests.streams import eventually

MIB = 1024 * 1024


async def test_a_message_of_one_mebibyte_is_taken_and_one_byte_more_is_not(start_sqlite: Start) -> None:
    async with start_sqlite() as served, office(served) as shop:
        await shop.create("pc1")
        async with till(served) as client, till(served) as other:
            message = {"type": "device_update", "deviceId": "pc1", "data": {"notes": "كبير"}, "id": "1", "pad": ""}
            bare = len(json.dumps(message, ensure_ascii=False).encode())
            text = json.dumps(message | {"pad": "x" * (MIB - bare)}, ensure_ascii=False)
            assert len(text.encode()) == MIB
            assert (await client.ask(text))["type"] == "ack"
            assert (await other.next())["data"]["notes"] == "كبير"
            await client.say(text.replace("كبير", "كبيرx"))
            assert await closed_with(client) == ("TOO_LARGE", 1009)
            assert (await other.ask({"type": "ping"}))["type"] == "pong"
        assert (await shop.device("pc1"))["notes"] == "كبير"


async def test_orders_that_no_device_holds_are_refused_and_the_socket_stays(start_sqlite: Start) -> None:
    async with start_sqlite() as served, office(served) as shop:
        await shop.create("pc1")
        async with till(served) as client:
            orders = [COLA | {"notes": "x" * 2000}] * 60
            error = await client.ask({"type": "order_placed", "deviceId": "pc1", "orders": orders})
            assert error["code"] == "CONFLICT"
            assert "Device pc1 is full" in error["message"]
            assert (await client.ask({"type": "ping"}))["type"] == "pong"


@pytest.mark.alone
async def test_a_flood_from_one_till_leaves_the_others_alone(start_sqlite: Start) -> None:
    async with start_sqlite() as served, office(served) as shop:
        await shop.create("pc1", "pc2")
        async with till(served, "flood") as flood, till(served, "a") as a, till(served, "b") as b:
            took_s: list[float] = []

            async def drown() -> None:
                with suppress(ConnectionClosed):
                    while True:
                        await flood.say({"type": "device_update", "deviceId": "pc1", "data": {"notes": "flood"}})

            drowning = asyncio.create_task(drown())
            ended = asyncio.create_task(closed_with(flood))
            for number in range(50):
                began_s = time.perf_counter()
                await a.say({"type": "device_update", "deviceId": "pc2", "data": {"notes": f"{number}"}})
                while (await b.next())["data"]["notes"] != f"{number}":
                    pass
                took_s.append(time.perf_counter() - began_s)
            assert await ended == ("RATE_LIMITED", 1008), "whoever floods is sent away"
            await drowning
            assert sorted(took_s)[47] < 0.1


@pytest.mark.alone
async def test_a_till_that_is_told_many_full_devices_leaves_the_others_alone(start_sqlite: Start) -> None:
    """Counted is what the event loop's thread does between two turns: wall time would count neighbours."""
    orders = [COLA | {"price": "1000", "notes": ""}] * 400
    took_s: list[float] = []

    async def turns() -> None:
        while True:
            began_s = time.thread_time()
            await asyncio.sleep(0)
            took_s.append(time.thread_time() - began_s)

    async with start_sqlite() as served, office(served) as shop:
        for n in range(30):
            await shop.create(f"pc{n}")
            await shop.do("POST", f"/devices/pc{n}/orders", {"orders": orders})
        async with socket(served, "/ws", max_queue=None) as client:
            gc.disable()  # its rounds take as long as the whole test has grown
            counting = asyncio.create_task(turns())
            try:
                assert (await greet(client, clientId="full"))["devices"] == 30
            finally:
                counting.cancel()
                gc.enable()
    assert max(took_s) < 0.025, sorted(took_s)[-5:]


async def test_who_says_nothing_for_too_long_is_let_go(start_sqlite: Start) -> None:
    async with start_sqlite(sockets={"idle": "1s"}) as served, till(served) as client:
        code, reason = await client.end()
        assert (code, reason) == (1001, "no message for 1 s")
        hub = await served.hub()
        await eventually(lambda: not hub.readers)


async def test_a_heartbeat_keeps_a_socket_open(start_sqlite: Start) -> None:
    async with start_sqlite(sockets={"idle": "1s"}) as served, till(served) as client:
        began_s = time.monotonic()
        while time.monotonic() - began_s < 1.5:
            assert (await client.ask({"type": "ping"}))["type"] == "pong"
            await asyncio.sleep(0.25)  # the heart's own rhythm


async def test_tills_that_are_gone_leave_nothing_behind(start_sqlite: Start) -> None:
    async with start_sqlite() as served, office(served) as shop:
        await shop.create("pc1")
        hub = await served.hub()
        for end in ("abort", "close"):
            async with till(served) as one, till(served) as two:
                assert len(hub.readers) == 2
                for client in (one, two):
                    if end == "abort":
                        client.connection.transport.abort()
                    else:
                        await client.connection.close()
            await eventually(lambda: not hub.readers)
        async with socket(served, "/ws") as client:
            await greet(client)
            await greet(client)  # once more over the same socket: one reader, not two
            assert len(hub.readers) == 1
            await shop.do("PATCH", "/devices/pc1", {"notes": "once"})
            assert (await client.next())["type"] == "device_updated"
            assert (await client.ask({"type": "ping"}))["type"] == "pong"


async def test_who_was_away_for_longer_than_the_log_goes_back_gets_all_devices(start_sqlite: Start) -> None:
    async with start_sqlite() as served, office(served) as shop:
        await shop.create("pc1", "pc2", "pc3")
        async with till(served) as client:
            cursor = client.seen[0]["cursor"]
        await shop.do("DELETE", "/devices/pc2")
        await shop.do("PATCH", "/devices/pc3", {"notes": "x"})
        log = served.application.event_log
        await enforce(log, "default", Retention(max_age_ms=1, max_events=1), now_ms=int(time.time() * 1000) + 10_000)
    async with start_sqlite() as served, socket(served, "/ws") as client:  # without the window of the one before
        connected = await greet(client, cursor=cursor)
        assert connected["resume"] == "reset"
        assert [m["deviceId"] for m in client.seen[1:]] == ["pc1", "pc3"]


async def test_a_log_that_is_another_one_is_told_and_connect_begins_anew(start_sqlite: Start) -> None:
    async with start_sqlite() as served, office(served) as shop, till(served) as client:
        await shop.create("pc1")
        await client.next()
        await served.application.event_log.new_epoch("default", new_epoch())
        error = await client.until("error")
        assert (error["code"], error["cursor"]) == ("RESYNC", error["cursor"])
        connected = await greet(client)
        assert (connected["resume"], client.seen[-1]["deviceId"]) == ("snapshot", "pc1")
        await client.say({"type": "device_update", "deviceId": "pc1", "data": {"notes": "on"}})
        assert (await client.ask({"type": "ping"}))["type"] == "pong"
        assert (await shop.device("pc1"))["notes"] == "on"


async def test_a_device_of_a_newer_server_is_told_of_and_keeps_no_till_out(start_sqlite: Start, tmp_path: Path) -> None:
    async with start_sqlite() as served, office(served) as shop:
        await shop.create("pc1", "pc2", "pc3")
        with closing(sqlite3.connect(tmp_path / "sync.db")) as db, db:
            newer = """UPDATE documents SET body = json_set(body, '$.orders', json('{"drinks": 1}')) WHERE id = 'pc2'"""
            assert db.execute(newer).rowcount == 1
        async with till(served) as client:
            assert [m.get("deviceId") for m in client.seen] == [None, "pc1", "pc3"]
            error = await client.next()
            assert (error["code"], error["deviceId"]) == ("UNREADABLE", "pc2")
            assert "written by a newer version of this server" in error["message"]
            error = await client.ask({"type": "device_reset", "deviceId": "pc2"})
            assert (error["code"], "newer version" in error["message"]) == ("CONFLICT", True)
            await client.ask({"type": "device_reset", "deviceId": "pc1", "id": "1"})
            assert (await shop.device("pc2"))["orders"] == {"drinks": 1}, "readers are given it as it is"


async def test_with_access_control_the_first_message_says_who_it_is(start_sqlite: Start) -> None:
    async with start_sqlite(access=ACCESS) as served, office(served, **bearer("admin")) as shop:
        await shop.create("pc1")
        async with till(served, token=token("cashier")) as client, till(served, token=token("admin")) as boss:
            await client.say({"type": "device_update", "deviceId": "pc1", "data": {"notes": "x"}})
            assert (await boss.next())["data"]["notes"] == "x"
        async with socket(served, "/ws", headers=bearer("cashier")) as client:  # or the handshake did
            await greet(client)
        wrong = (
            {"type": "connect"},
            {"type": "device_reset", "deviceId": "pc1"},
            {"type": "connect", "token": "nonsense"},
        )
        for message in wrong:
            async with socket(served, "/ws") as client:
                await client.say(message)
                assert await closed_with(client) == ("UNAUTHORIZED", 1008)
        status, _ = await refused(served, "/ws", headers={"Authorization": "Bearer nonsense"})
        assert status == 401


async def test_every_action_takes_its_permission(start_sqlite: Start) -> None:
    roles = {"watcher": {"permissions": ["view_devices"]}, "user": {"permissions": ["view_devices", "use_devices"]}}
    async with (
        start_sqlite(access=ACCESS | {"roles": roles}) as served,
        office(served, **bearer("admin")) as shop,
        till(served, token=token("watcher")) as watcher,
        till(served, token=token("user", sub="bob")) as user,
    ):
        await shop.create("pc1")
        assert [(await client.next())["type"] for client in (watcher, user)] == ["device_created"] * 2
        error = await watcher.ask({"type": "device_reset", "deviceId": "pc1"})
        assert (error["code"], error["request"]) == ("FORBIDDEN", "device_reset")
        ack = await user.ask({"type": "device_reset", "deviceId": "pc1", "id": "1"})
        assert ack["type"] == "ack"
        assert (await user.ask({"type": "device_deleted", "deviceId": "pc1"}))["code"] == "FORBIDDEN"
        assert (await watcher.next())["type"] == "device_cleared"
        async with socket(served, "/ws", headers=bearer("fueler")) as stranger:
            await stranger.say({"type": "connect"})
            assert await closed_with(stranger) == ("FORBIDDEN", 1008)


async def test_who_is_bound_to_a_device_sees_that_one_only(start_sqlite: Start) -> None:
    bound = token("cashier", bound=["deviceID=pc1"])
    async with start_sqlite(access=ACCESS) as served, office(served, **bearer("admin")) as shop:
        await shop.create("pc1", "pc2")
        await shop.do("PATCH", "/devices/pc1", {"isRunning": True})
        async with till(served, token=bound) as client:
            assert [m["deviceId"] for m in client.seen[1:]] == ["pc1"]
            await shop.do("POST", "/devices/pc1/transfer", {"toDeviceID": "pc2"})
            cleared = await client.next()
            assert (cleared["type"], cleared["deviceId"]) == ("device_cleared", "pc1")
            assert (await client.ask({"type": "device_reset", "deviceId": "pc2"}))["code"] == "DEVICE_NOT_FOUND"


async def test_a_page_of_another_origin_opens_no_socket(start_sqlite: Start) -> None:
    async with start_sqlite() as served:
        status, _ = await refused(served, "/ws", headers={"Origin": "https://evil.example"})
        assert status == 403
        async with socket(served, "/ws", headers={"Origin": f"http://127.0.0.1:{served.port}"}) as client:
            await greet(client)


async def test_who_does_not_read_holds_nobody_up(start_sqlite: Start) -> None:
    async with start_sqlite() as served, office(served) as shop:
        await shop.create("pc1")
        async with till(served, "slow") as slow, till(served, "a") as a:
            slow.connection.transport.pause_reading()
            hub = await served.hub()
            orders = [{"name": "x", "price": "1", "notes": "x" * 2000}] * 45
            rounds = 0
            while sum(reader.live for reader in hub.readers) == 2:
                await shop.do("POST", "/devices/pc1/orders", {"orders": orders})
                await shop.do("POST", "/devices/pc1/reset")
                assert [(await a.next())["type"] for _ in range(2)] == ["order_added", "device_cleared"]
                rounds += 1
                assert rounds < 500, "its socket never filled up"
            slow.connection.transport.resume_reading()
            await shop.do("PATCH", "/devices/pc1", {"notes": "last"})
            await slow.until("device_updated")
            assert slow.kinds[2:-1] == ["order_added", "device_cleared"] * rounds, "all of it, in order, once"
