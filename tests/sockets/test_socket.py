"""What every protocol over a socket is relieved of: limits, malformed messages, silence, the feed beside it."""

import asyncio
import contextlib
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from sync_core.filters import Filter
from sync_core.problems import Conflict, Forbidden, Unavailable
from sync_server.sockets.socket import Socket
from tests.feed.conftest import Start
from tests.serving import Served, stage_change
from tests.sockets.client import Client, closed_with, refused, socket
from tests.sockets.routes import PATH, echo, serve_at
from tests.streams import eventually

MIB = 1024 * 1024


def open_sockets(served: Served, path: str = PATH) -> float | None:
    return served.application.feed.metrics.registry.get_sample_value("sync_sockets", {"path": path})


async def test_messages_come_and_go_as_they_are(start_sqlite: Start) -> None:
    async with start_sqlite() as served:
        serve_at(served, echo)
        async with socket(served, PATH) as client:
            said = {"type": "order_placed", "name": "كولا", "notes": "بارد\u2028", "price": 1000.5, "more": [None, {}]}
            assert await client.ask(said) == said
        await eventually(lambda: open_sockets(served) == 0)


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "{",
        "[]",
        '"x"',
        "1",
        "null",
        "{}",
        '{"type": 1}',
        '{"type": NaN}',
        b"{}",
        "[" * 100_000,
        '{"type":"\\ud800"}',
    ],
)
async def test_a_malformed_message_is_told_and_the_socket_goes_on(start_sqlite: Start, wrong: str | bytes) -> None:
    async with start_sqlite() as served:
        serve_at(served, echo)
        async with socket(served, PATH) as client:
            error = await client.ask(wrong)
            assert (error["type"], error["code"]) == ("error", "INVALID_MESSAGE")
            assert error["message"]
            assert error["timestamp"].endswith("Z")
            assert (await client.ask({"type": "ping", "timestamp": "x"}))["type"] == "pong"


async def test_a_mebibyte_is_taken_and_one_byte_more_is_not(start_sqlite: Start) -> None:
    async with start_sqlite() as served:
        serve_at(served, echo)
        async with socket(served, PATH) as client:
            message = '{"type":"x","y":"%s"}'
            full = message % ("y" * (MIB - len(message) + 2))
            assert len(full) == MIB
            assert len((await client.ask(full))["y"]) == len(full) - len(message) + 2
            await client.say(full + " ")
            assert await closed_with(client) == ("TOO_LARGE", 1009)


async def test_far_too_large_messages_are_refused_before_they_are_there(start_sqlite: Start) -> None:
    async with start_sqlite() as served:
        serve_at(served, echo)
        async with socket(served, PATH) as client:
            sending = asyncio.create_task(client.say("x" * (16 * MIB)))
            assert await closed_with(client) == ("TOO_LARGE", 1009)
            await asyncio.wait([sending])
            sending.exception()
        async with socket(served, PATH) as client:  # in pieces too
            with contextlib.suppress(ConnectionClosed):
                await client.connection.send("x" * (MIB // 2) for _ in range(3))
            assert await closed_with(client) == ("TOO_LARGE", 1009)


async def test_above_its_rate_a_message_is_refused_and_at_twice_the_rate_the_client(start_sqlite: Start) -> None:
    async with start_sqlite() as served:
        serve_at(served, echo, messages_per_s=20)
        async with socket(served, PATH) as client:
            for n in range(45):
                await client.say({"type": "x", "n": n})
            assert await closed_with(client) == ("RATE_LIMITED", 1008)
            assert [m["n"] for m in client.seen if m["type"] == "x"] == list(range(20))
            assert client.kinds.count("error") == 21


async def test_a_large_message_counts_more_than_once(start_sqlite: Start) -> None:
    async with start_sqlite() as served:
        serve_at(served, echo, messages_per_s=20)
        async with socket(served, PATH) as client:
            for _ in range(2):
                await client.say({"type": "x", "y": "y" * (MIB - 100)})
            assert [(await client.next())["type"] for _ in range(2)] == ["x", "error"]


async def test_silence_closes_and_a_ping_is_no_silence(start_sqlite: Start) -> None:
    async with start_sqlite() as served:
        serve_at(served, echo, idle_s=0.5)
        async with socket(served, PATH) as silent, socket(served, PATH) as speaking:
            ended = asyncio.create_task(silent.end())
            while not ended.done():
                assert (await speaking.ask({"type": "ping"}))["type"] == "pong"
                await asyncio.sleep(0.1)
            assert ended.result() == (1001, "no message for 0.5 s")
            assert (await speaking.ask({"type": "ping"}))["type"] == "pong"


async def test_a_route_has_its_maximum_of_sockets(start_sqlite: Start) -> None:
    async with start_sqlite() as served:
        serve_at(served, echo, connections=2)
        serve_at(served, echo, path="/other", connections=2)
        async with socket(served, PATH), socket(served, PATH):
            status, problem = await refused(served, PATH)
            assert (status, problem["type"]) == (503, "unavailable")
            async with socket(served, "/other"):
                pass
        await eventually(lambda: open_sockets(served) == 0)
        async with socket(served, PATH):
            pass


async def test_a_problem_before_the_handshake_is_its_answer_and_afterwards_an_error(start_sqlite: Start) -> None:
    async def never(socket: Socket) -> None:
        raise Forbidden("Not today.")

    async def talk(socket: Socket) -> None:
        await socket.accept()
        async for message in socket:
            if message["type"] == "wrong":
                await socket.refuse(Conflict("It is older."))
            elif message["type"] == "end":
                raise Unavailable("The log does not answer.")
            else:
                raise RuntimeError("hunter2")

    async with start_sqlite() as served:
        serve_at(served, never, path="/never")
        serve_at(served, talk)
        status, problem = await refused(served, "/never")
        assert (status, problem["detail"]) == (403, "Not today.")
        async with socket(served, PATH) as client:
            error = await client.ask({"type": "wrong"})
            assert (error["code"], error["message"]) == ("CONFLICT", "It is older.")
            await client.say({"type": "end"})
            assert await closed_with(client) == ("UNAVAILABLE", 1013)
        async with socket(served, PATH) as client:
            await client.say({"type": "bug"})
            assert await closed_with(client) == ("INTERNAL", 1011)
            assert "hunter2" not in str(client.seen)


async def test_who_does_not_read_its_answers_is_cut(start_sqlite: Start) -> None:
    async def flood(socket: Socket) -> None:
        await socket.accept()
        async for _ in socket:
            while True:
                await socket.send({"type": "x", "y": "y" * 100_000})

    async with start_sqlite() as served:
        serve_at(served, flood, send_s=0.3)
        async with socket(served, PATH, max_queue=1) as client:
            await client.say({"type": "go"})
            await eventually(lambda: open_sockets(served) == 0)


# -- the feed beside it -----------------------------------------------------------------------------------


CALLS: list[str] = []


def to_message(envelope: dict[str, Any]) -> dict[str, Any] | None:
    """Counts its calls."""
    kind = envelope["eventType"]
    CALLS.append(kind)
    if kind in ("heartbeat", "advance"):
        return None
    if kind in ("connected", "caught_up", "reset", "goodbye", "removed"):
        return {"type": kind, "cursor": envelope.get("id")}
    return {"type": "changed", "n": envelope["data"]["n"], "cursor": envelope["id"]}


async def follower(socket: Socket) -> None:
    await socket.accept()
    async for message in socket:
        if message["type"] == "connect":
            wanted = Filter(tags=frozenset({"orderID=A"}))
            await socket.follow(wanted, to_message, cursor=message.get("cursor"), client_id=message.get("clientId"))
        else:
            await socket.send({"type": "where", "cursor": socket.cursor})


async def connect(client: Client, **more: Any) -> None:
    await client.say({"type": "connect", **more})
    await client.until("caught_up")


async def test_a_follower_gets_what_a_pure_function_makes_of_events_once_for_all(start_sqlite: Start) -> None:
    async with start_sqlite() as served:
        serve_at(served, follower)
        async with socket(served, PATH) as first, socket(served, PATH) as second, socket(served, PATH) as third:
            for client in (first, second, third):
                await connect(client)
            CALLS.clear()
            await served.publish(stage_change(1, order="A"), stage_change(2, order="B"))
            for client in (first, second, third):
                assert (await client.next())["n"] == 1
            assert CALLS == ["stage_change"]


async def test_a_follower_resumes_at_its_cursor_and_is_not_told_its_own(start: Start) -> None:
    async with start() as served:
        serve_at(served, follower)
        async with socket(served, PATH) as client:
            await connect(client, clientId="till-1")
            await served.publish(stage_change(1, order="A"))
            cursor = (await client.until("changed"))["cursor"]
            assert (await client.ask({"type": "?"}))["cursor"] == cursor
        await served.publish(stage_change(2, order="A"), client_id="till-1")
        await served.publish(stage_change(3, order="A"), stage_change(4, order="B"))
        async with socket(served, PATH) as client:
            await connect(client, clientId="till-1", cursor=cursor)
            assert [m["n"] for m in client.seen if m["type"] == "changed"] == [3]
            # Also what was hidden has been dealt with.
            assert (await client.ask({"type": "?"}))["cursor"] == (await served.hub()).cursor_text(4)
        async with socket(served, PATH) as client:
            await connect(client, cursor="nonsense")
            assert client.kinds[:2] == ["connected", "reset"]


async def test_a_follower_is_told_goodbye_and_all_are_closed(start_sqlite: Start) -> None:
    async with start_sqlite() as served:
        serve_at(served, follower)
        async with socket(served, PATH) as client, socket(served, PATH) as other:
            await connect(client)
            await other.ask({"type": "?"})
            await served.application.feed.drain(0)
            assert await client.end() == (1001, "")
            assert client.kinds[-1] == "goodbye"
            assert await other.end() == (1001, "")  # follows nothing
        await eventually(lambda: open_sockets(served) == 0)


async def test_a_hundred_sockets_are_all_told(start: Start) -> None:
    async with start() as served:
        serve_at(served, follower)
        clients: list[Client] = []
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(100):
                client = await stack.enter_async_context(socket(served, PATH))
                await connect(client)
                clients.append(client)
            for n in range(20):
                await served.publish(stage_change(n, order="A"))
            for client in clients:
                assert [(await client.next())["n"] for _ in range(20)] == list(range(20))
