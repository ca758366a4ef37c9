"""``/ws`` on both stores, with the library `websockets` as the tills: the checklist of seed 003."""

import asyncio
import re
from contextlib import AsyncExitStack
from typing import Any

import pytest

from sync_server.feed.hub import Hub
from tests.devices.tills import COLA, STAMP, about, greet, office, till
from tests.feed.conftest import Start
from tests.sockets.client import refused, socket

ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


async def test_connect_is_answered_as_the_seed_has_it(start: Start) -> None:
    async with start() as served, socket(served, "/ws") as client:
        connected = await client.ask({"type": "connect", "clientId": "cashier-client-1", "timestamp": STAMP})
        assert {name: connected[name] for name in ("type", "success", "message")} == {
            "type": "connected", "success": True, "message": "Connected to server",
        }  # fmt: skip
        assert ISO.fullmatch(connected["timestamp"])
        assert (connected["resume"], connected["devices"]) == ("snapshot", 0)


async def test_every_message_reaches_all_but_its_sender_and_changes_the_documents(start: Start) -> None:
    """The seed's event flow, from the first to the last message, in front of two other tills."""
    async with start() as served, office(served) as shop, till(served) as a, till(served) as b, till(served) as c:
        await shop.create("pc1", "pc5")
        for client in (a, b, c):
            assert [(await client.next())["type"] for _ in range(2)] == ["device_created"] * 2
        data = {
            "isRunning": True,
            "elapsedSeconds": 3600,
            "mode": "single",
            "customerCount": 2,
            "notes": "VIP customer",
        }
        order: dict[str, Any] = {"orderIndex": 0, "data": COLA | {"quantity": 3, "notes": "بارد جداً"}}
        del order["data"]["firstOrderTime"]
        ends = {"fromDeviceId": "pc1", "toDeviceId": "pc5"}
        text = "Device data transferred from pc1 to pc5"
        flow: list[tuple[dict[str, Any], dict[str, Any]]] = [
            ({"type": "device_update", "deviceId": "pc1", "data": data},
             {"type": "device_updated", "deviceId": "pc1", "data": data}),
            ({"type": "order_placed", "deviceId": "pc1", "orders": [COLA, COLA]},
             {"type": "order_added", "deviceId": "pc1", "orders": [COLA, COLA]}),
            ({"type": "order_updated", "deviceId": "pc1", **order},
             {"type": "order_modified", "deviceId": "pc1", **order}),
            ({"type": "order_deleted", "deviceId": "pc1", "orderIndex": 1},
             {"type": "order_removed", "deviceId": "pc1", "orderIndex": 1}),
            ({"type": "device_transfer", **ends}, {"type": "device_transferred", **ends, "message": text}),
            ({"type": "device_reset", "deviceId": "pc5"}, {"type": "device_cleared", "deviceId": "pc5"}),
            ({"type": "device_deleted", "deviceId": "pc1"}, {"type": "device_removed", "deviceId": "pc1"}),
        ]  # fmt: skip
        for sent, told in flow:
            before = len(a.seen)
            await a.say(sent | {"timestamp": STAMP})
            for client in (b, c):
                message = await client.next()
                assert about(message) == told
                assert ISO.fullmatch(message["timestamp"])
            if sent["type"] == "order_deleted":
                device = await shop.device("pc1")
                assert [o["quantity"] for o in device["orders"]] == [3]
                assert (device["isRunning"], device["notes"], device["orders"][0]["name"]) == (
                    True,
                    data["notes"],
                    "كولا",
                )
            if sent["type"] == "device_transfer":
                assert ((await shop.device("pc1"))["orders"], (await shop.device("pc1"))["isRunning"]) == ([], False)
                assert [o["notes"] for o in (await shop.device("pc5"))["orders"]] == ["بارد جداً"]
        assert (await shop.device("pc5"))["orders"] == []
        await shop.do("PUT", "/catalog/main/categories", {"categories": []})
        await shop.do("PUT", "/catalog/main/prices", {"prices": []})
        for client in (a, b, c):
            assert [about(await client.next()) for _ in range(2)] == [
                {"type": "categories_updated"}, {"type": "prices_updated"},
            ]  # fmt: skip
        assert [m["type"] for m in a.seen[before:]] == ["categories_updated", "prices_updated"], "no echo, no error"
        assert about(await a.ask({"type": "ping", "timestamp": STAMP})) == {"type": "pong"}


async def test_who_says_nothing_hears_all_the_same_and_may_speak_at_once(start: Start) -> None:
    """As in the seed's pseudo-code: a socket is a client from the moment that it is open."""
    async with start() as served, office(served) as shop:
        await shop.create("pc1")
        async with socket(served, "/ws") as a, socket(served, "/ws") as b:
            assert (await b.ask({"type": "ping"}))["type"] == "pong"  # it is in
            await a.say({"type": "device_update", "deviceId": "pc1", "data": {"isRunning": True}})
            assert (await b.next())["type"] == "device_updated"


async def test_who_connects_is_told_all_devices_first(start: Start) -> None:
    async with start() as served, office(served) as shop:
        await shop.create("pc1", "pc2")
        await shop.do("POST", "/devices/pc1/orders", {"orders": [COLA | {"price": "1000"}]})
        await shop.do("PATCH", "/devices/pc2", {"isRunning": True, "elapsedSeconds": 60})
        async with till(served) as client:
            connected, *made = client.seen
            assert [m["deviceId"] for m in made] == ["pc1", "pc2"]
            assert made[0]["data"]["orders"] == [COLA]
            assert (made[1]["data"]["isRunning"], made[1]["data"]["elapsedSeconds"] // 10) == (True, 6)
            assert [m["version"] for m in made] == [2, 2]
            await shop.do("POST", "/devices/pc1/reset")
            assert (await client.next())["type"] == "device_cleared"
            assert connected["cursor"].partition(".")[0] == client.seen[-1]["cursor"].partition(".")[0]


async def test_a_till_that_was_away_gets_what_it_missed_and_nothing_twice(start: Start) -> None:
    async with start() as served, office(served) as shop, till(served) as other:
        await shop.create("pc1")
        await other.next()
        async with till(served) as client:
            await shop.do("PATCH", "/devices/pc1", {"notes": "1"})
            cursor = (await client.next())["cursor"]
            client.connection.transport.abort()  # the cable is pulled
        for number in range(2, 6):
            await other.say({"type": "device_update", "deviceId": "pc1", "data": {"notes": f"{number}"}})
        async with socket(served, "/ws") as client:
            connected = await greet(client, clientId="cashier-client-1", cursor=cursor)
            assert (connected["resume"], connected["devices"]) == ("resumed", 0)
            missed = [await client.next() for _ in range(4)]
            assert [m["data"]["notes"] for m in missed] == ["2", "3", "4", "5"]
            await shop.do("POST", "/devices/pc1/reset")
            assert (await client.next())["type"] == "device_cleared"


async def test_what_came_before_connected_comes_again_behind_it_in_its_order(start: Start) -> None:
    """A till that adds up what it is told forgets it; the docs say so."""
    async with start() as served, office(served) as shop:
        await shop.create("pc1")
        async with till(served) as client:
            cursor = client.seen[0]["cursor"]
        await shop.do("POST", "/devices/pc1/orders", {"orders": [COLA | {"price": "1000"}]})
        async with socket(served, "/ws") as client:
            assert (await client.ask({"type": "ping"}))["type"] == "pong"  # it is in
            await shop.do("POST", "/devices/pc1/orders", {"orders": [COLA | {"price": "2000"}]})
            early = await client.next()
            assert (early["type"], early["version"]) == ("order_added", 3)
            assert (await greet(client, cursor=cursor))["resume"] == "resumed"
            behind = [await client.next() for _ in range(2)]
            assert [(m["version"], m["orders"][0]["price"]) for m in behind] == [(2, 1000), (3, 2000)]
            assert (await client.ask({"type": "ping"}))["type"] == "pong"


@pytest.mark.parametrize("cursor", ["garbage", "zzzzzzzz.1"])
async def test_a_cursor_that_leads_nowhere_brings_all_devices(start: Start, cursor: str) -> None:
    async with start() as served, office(served) as shop, socket(served, "/ws") as client:
        await shop.create("pc1")
        assert (await client.next())["type"] == "device_created"
        connected = await greet(client, cursor=cursor)
        assert (connected["resume"], connected["devices"], client.seen[-1]["deviceId"]) == ("reset", 1, "pc1")


async def test_who_has_the_answer_to_its_handshake_hears_of_everything_from_there_on(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with start() as served, office(served) as shop:
        hub, asked, may_go_on = served.application.feed.hub, asyncio.Event(), asyncio.Event()

        async def slow_hub(tenant: str) -> Hub:
            asked.set()
            await may_go_on.wait()
            return await hub(tenant)

        async def first_told() -> str:
            async with socket(served, "/ws") as client:
                opened.set()
                return str((await client.next())["deviceId"])

        opened = asyncio.Event()
        monkeypatch.setattr(served.application.feed, "hub", slow_hub)
        listening = asyncio.create_task(first_told())
        await asked.wait()
        try:
            await shop.create("before")
            assert not opened.is_set(), "where it begins is not known yet"
        finally:
            may_go_on.set()
        await opened.wait()
        await shop.create("after")
        assert await listening == "after"


async def test_a_till_goes_on_with_its_own_session_without_an_echo(start: Start) -> None:
    async with start() as served, office(served) as shop:
        await shop.create("pc1")
        async with till(served) as client:
            connected = client.seen[0]
            ack = await client.ask({"type": "device_update", "deviceId": "pc1", "data": {"notes": "mine"}, "id": "m-1"})
            assert (ack["type"], ack["id"], ack["versions"]) == ("ack", "m-1", {"pc1": 2})
        await shop.do("PATCH", "/devices/pc1", {"notes": "theirs"})
        async with socket(served, "/ws") as client:
            await greet(client, cursor=connected["cursor"], session=connected["session"])
            assert (await client.next())["data"]["notes"] == "theirs"
        async with socket(served, "/ws") as client:
            await greet(client, cursor=connected["cursor"])
            assert (await client.next())["data"]["notes"] == "mine", "another session does not know it"


async def test_who_connects_while_things_happen_misses_nothing_and_hears_nothing_twice(start: Start) -> None:
    """Over one socket again and again: behind the devices come just the changes that they do not show yet."""
    async with start() as served, office(served) as shop, socket(served, "/ws", max_queue=None) as client:
        await shop.create("pc1", "pc2", "pc3")

        async def work() -> None:
            for number in range(150):
                await shop.do("PATCH", f"/devices/pc{number % 3 + 1}", {"notes": f"{number}"})

        working = asyncio.create_task(work())
        for _ in range(12):
            await client.say({"type": "connect"})
            await client.until(lambda message: message["type"] in ("connected", "error"))
            for _ in range(8):
                await client.until("device_updated")
        await working
        await shop.do("PATCH", "/devices/pc1", {"notes": "last"})
        await client.until(lambda message: message.get("data", {}).get("notes") == "last")
        shown: dict[str, int] = {}
        for message in client.seen[next(n for n, m in enumerate(client.seen) if m["type"] == "connected") :]:
            if message["type"] == "connected":
                shown.clear()
            elif message["type"] == "device_created":
                shown[message["deviceId"]] = message["version"]
            elif message["type"] == "device_updated":
                shown[message["deviceId"]] += 1
                assert message["version"] == shown[message["deviceId"]]
        assert shown == {device_id: (await shop.device(device_id))["version"] for device_id in shown}
        assert len(shown) == 3


async def test_who_connects_all_the_time_is_held_to_a_rate(start_sqlite: Start) -> None:
    async with start_sqlite() as served, socket(served, "/ws", max_queue=None) as client:
        for _ in range(50):
            await client.say({"type": "connect"})
        told = [await client.next() for _ in range(50)]
        assert {(m["type"], m.get("code")) for m in told} == {("connected", None), ("error", "RATE_LIMITED")}
        assert (await client.ask({"type": "ping"}))["type"] == "pong"


async def test_a_message_with_an_id_takes_effect_once(start: Start) -> None:
    async with start() as served, office(served) as shop:
        await shop.create("pc1")
        message = {"type": "order_placed", "deviceId": "pc1", "orders": [COLA], "id": "5f1c"}
        async with till(served, "till-1") as client:
            first = await client.ask(message)
        async with till(served, "till-1") as client:  # it never knew what became of it
            again = await client.ask(message)
            assert (again["type"], again["versions"]) == ("ack", first["versions"])
            changed = await client.ask(message | {"orders": [COLA, COLA]})
            assert (changed["type"], changed["code"]) == ("error", "INVALID_MESSAGE")
        async with till(served, "till-2") as client:
            assert (await client.ask(message))["type"] == "ack", "another till's message of the same id is another one"
        assert len((await shop.device("pc1"))["orders"]) == 2


async def test_tills_without_a_name_may_count_their_messages_alike(start: Start) -> None:
    message = {"type": "order_placed", "deviceId": "pc1", "orders": [COLA], "id": "1"}
    async with start() as served, office(served) as shop:
        await shop.create("pc1")
        async with socket(served, "/ws") as a, socket(served, "/ws") as b, socket(served, "/ws") as silent:
            session = (await greet(a))["session"]
            await greet(b)
            for client, version in ((a, 2), (b, 3), (silent, 4)):  # the last has not even said `connect`
                await client.say(message)
                assert (await client.until("ack"))["versions"] == {"pc1": version}
        async with socket(served, "/ws") as client:  # the first again, which never knew what became of it
            await greet(client, session=session)
            assert (await client.ask(message))["versions"] == {"pc1": 2}
        assert len((await shop.device("pc1"))["orders"]) == 3


WRONG: list[tuple[Any, str]] = [
    ("nonsense", "INVALID_MESSAGE"),
    ("[1]", "INVALID_MESSAGE"),
    ('{"type": 1}', "INVALID_MESSAGE"),
    (b"\x00", "INVALID_MESSAGE"),
    ({"type": "order_exploded", "deviceId": "pc1"}, "INVALID_MESSAGE"),
    ({"type": "device_created", "deviceId": "pc9", "data": {}}, "INVALID_MESSAGE"),
    ({"type": "device_update", "deviceId": "pc1", "data": {"elapsedSeconds": "1"}}, "INVALID_MESSAGE"),
    ({"type": "device_update", "deviceId": "nowhere", "data": {}}, "DEVICE_NOT_FOUND"),
    ({"type": "order_placed", "deviceId": "nowhere", "orders": [COLA]}, "DEVICE_NOT_FOUND"),
    ({"type": "device_transfer", "fromDeviceId": "pc1", "toDeviceId": "nowhere"}, "DEVICE_NOT_FOUND"),
    ({"type": "order_updated", "deviceId": "pc1", "orderIndex": 3, "data": {"quantity": 1}}, "ORDER_NOT_FOUND"),
    ({"type": "device_transfer", "fromDeviceId": "pc1", "toDeviceId": "pc2"}, "CONFLICT"),
    ({"type": "device_reset", "deviceId": "pc1", "baseVersion": 99}, "CONFLICT"),
]


async def test_what_is_wrong_is_told_to_its_sender_alone(start: Start) -> None:
    async with start() as served, office(served) as shop:
        await shop.create("pc1", "pc2")
        await shop.do("PATCH", "/devices/pc2", {"isRunning": True})
        async with till(served) as client, till(served) as other:
            for sent, code in WRONG:
                error = await client.ask(sent)
                assert (error["type"], error["code"]) == ("error", code), sent
                assert error["message"]
                assert ISO.fullmatch(error["timestamp"])
                if isinstance(sent, dict) and code != "INVALID_MESSAGE":
                    assert (error["request"], error["deviceId"]) == (sent["type"], sent.get("deviceId", "pc1"))
                if code == "DEVICE_NOT_FOUND" and "deviceId" in sent:
                    assert error["message"] == "Device nowhere does not exist"
            assert about(await client.ask({"type": "ping"})) == {"type": "pong"}, "the socket is still there"
            assert (await other.ask({"type": "ping"}))["type"] == "pong", "nobody else has heard of it"


async def test_the_server_wins_where_two_tills_change_the_same_device(start: Start) -> None:
    async with start() as served, office(served) as shop:
        await shop.create("pc1")
        async with till(served) as a, till(served) as b:
            base = a.seen[-1]["version"]
            await b.say({"type": "device_update", "deviceId": "pc1", "data": {"notes": "b"}, "baseVersion": base})
            assert (await a.next())["version"] == base + 1
            error = await a.ask(
                {"type": "device_update", "deviceId": "pc1", "data": {"notes": "a"}, "baseVersion": base}
            )
            assert (error["code"], error["version"], error["data"]["notes"]) == ("CONFLICT", base + 1, "b")
            # It was told of b's change meanwhile: without a version that is what it knows.
            await a.say({"type": "device_update", "deviceId": "pc1", "data": {"notes": "a"}})
            assert (await b.next())["data"]["notes"] == "a"
        assert (await shop.device("pc1"))["notes"] == "a"


async def test_what_a_till_was_told_last_stands_for_a_version(start: Start) -> None:
    """A till that has not been told of a change is refused; its own changes it knows, and orders only add."""
    async with start() as served, office(served) as shop:
        await shop.create("pc1", "pc2")
        async with till(served) as client:
            for number in range(5):  # without waiting: what it has done itself does not stand in its way
                await client.say({"type": "device_update", "deviceId": "pc1", "data": {"notes": f"{number}"}})
            assert (await client.ask({"type": "ping"}))["type"] == "pong"
            assert (await shop.device("pc1"))["notes"] == "4"
            hub = await served.hub()
            (reader,) = hub.readers
            reader.leave()  # as one whose socket is full: it is told nothing for now
            reader.cursor = hub.flushed
            await shop.do("PATCH", "/devices/pc1", {"notes": "theirs"})
            await client.say({"type": "device_update", "deviceId": "pc1", "data": {"notes": "mine"}})
            error = await client.next()
            assert (error["code"], error["data"]["notes"]) == ("CONFLICT", "theirs")
            ack = await client.ask({"type": "order_placed", "deviceId": "pc1", "orders": [COLA], "id": "1"})
            assert ack["type"] == "ack"
            ack = await client.ask({"type": "device_update", "deviceId": "pc2", "data": {"notes": "x"}, "id": "2"})
            assert ack["type"] == "ack", "another device has not changed"


async def test_who_only_adds_has_not_seen_what_others_did(start: Start) -> None:
    """Its orders are welcome on a device that others have changed; what it changes out of an old picture is not."""
    async with start() as served, office(served) as shop:
        await shop.create("pc1", "pc2")
        async with till(served) as client:
            hub = await served.hub()
            (reader,) = hub.readers
            reader.leave()  # as one whose socket is full: it is told nothing for now
            reader.cursor = hub.flushed

            async def say(kind: str, device: str, **more: Any) -> tuple[str, int]:
                answer = await client.ask({"type": kind, "deviceId": device, "id": f"{len(client.seen)}", **more})
                return answer.get("code", "ack"), answer["version"] if "code" in answer else answer["versions"][device]

            assert await say("device_update", "pc1", data={"notes": "1"}) == ("ack", 2)
            assert await say("order_placed", "pc1", orders=[COLA]) == ("ack", 3)
            assert await say("device_update", "pc1", data={"notes": "2"}) == ("ack", 4), "all of it is its own"
            for device, version in (("pc1", 5), ("pc2", 2)):
                await shop.do("PATCH", f"/devices/{device}", {"notes": "theirs"})
                assert await say("order_placed", device, orders=[COLA]) == ("ack", version + 1)
                mine = {"notes": "mine"}
                assert await say("device_update", device, data=mine) == ("CONFLICT", version + 1)
                assert await say("device_update", device, data=mine, baseVersion=version + 1) == ("ack", version + 2)


async def test_rest_and_sockets_change_the_same_documents(start: Start) -> None:
    async with start() as served, office(served) as shop, till(served) as client:
        await shop.create("pc1")
        assert (await client.next())["data"]["orders"] == []
        await shop.do("POST", "/devices/pc1/orders", {"orders": [{"name": "شاي", "price": "0.50"}]})
        added = await client.next()
        assert (added["type"], added["orders"][0]["price"]) == ("order_added", 0.5)
        change = {"type": "order_updated", "deviceId": "pc1", "orderIndex": 0, "data": {"price": 0.75}}
        assert (await client.ask(change | {"id": "1"}))["type"] == "ack"
        async with till(served) as other:
            assert other.seen[-1]["data"]["orders"][0]["price"] == 0.75
        assert (await shop.device("pc1"))["orders"][0]["price"] == "0.75"


async def test_a_hundred_tills_hear_each_other(start: Start) -> None:
    async with start(limits={"connects": "1000000/second"}) as served, office(served) as shop, AsyncExitStack() as open:
        await shop.create("pc1")
        tills = [await open.enter_async_context(till(served, f"till-{number}")) for number in range(100)]
        for sender in tills[:3]:
            await sender.say({"type": "order_placed", "deviceId": "pc1", "orders": [COLA]})
        for number, client in enumerate(tills):
            heard = [await client.next() for _ in range(2 if number < 3 else 3)]
            assert {message["type"] for message in heard} == {"order_added"}
        assert len((await shop.device("pc1"))["orders"]) == 3
        status, problem = await refused(served, "/ws")
        assert (status, problem["detail"]) == (503, "There are as many sockets here as can be.")
