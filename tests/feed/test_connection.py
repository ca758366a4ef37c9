"""Writing without awaiting, through a plain ASGI ``send`` as through uvicorn's transport."""

import asyncio
import contextlib
import json
import logging
import re
from typing import Any, cast

import pytest
import websockets
from starlette.types import Message
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from sync_core.problems import Unavailable
from sync_core.sse import ServerSentEvent, SSEDecoder
from sync_server.api.problem import problem_response
from sync_server.asgi import _Begin
from sync_server.feed.connection import (
    AsgiConnection,
    Chunk,
    PlainUvicornConnection,
    UvicornConnection,
    answer,
    connect,
)
from sync_server.feed.control import Goodbye
from sync_server.protocol import MAX_HEAD_BYTES
from tests.feed.conftest import Start
from tests.serving import stage_change
from tests.streams import eventually, stream


class Socket:
    """An ASGI ``send`` whose socket can be full."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.writable = asyncio.Event()
        self.writable.set()

    async def send(self, message: Message) -> None:
        await self.writable.wait()
        self.sent.append(message)


async def test_a_write_that_fits_is_done_at_once() -> None:
    socket = Socket()
    connection = connect(socket.send)
    assert type(connection) is AsgiConnection
    assert connection.write(Chunk(b"a")) is None
    assert socket.sent == [{"type": "http.response.body", "body": b"a", "more_body": True}]


async def test_a_blocked_write_is_finished_by_who_awaits_it() -> None:
    socket = Socket()
    socket.writable.clear()
    blocked = AsgiConnection(socket.send).write(Chunk(b"a"))
    assert blocked is not None
    assert socket.sent == []

    async def finish() -> None:
        await blocked

    finishing = asyncio.create_task(finish())
    await asyncio.sleep(0)
    assert not finishing.done()
    socket.writable.set()
    await asyncio.wait_for(finishing, 5)
    assert [message["body"] for message in socket.sent] == [b"a"]


async def test_a_blocked_write_can_be_cancelled_and_given_up() -> None:
    socket = Socket()
    socket.writable.clear()
    first, second = (AsgiConnection(socket.send).write(Chunk(b"a")) for _ in range(2))
    assert first is not None
    assert second is not None
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await first
    second.cancel()
    socket.writable.set()
    await asyncio.sleep(0)
    assert socket.sent == []


async def test_ending_on_a_full_socket_ends_the_handler() -> None:
    socket = Socket()
    ended = asyncio.Event()

    async def handler() -> None:
        try:
            connection = AsgiConnection(socket.send)
            socket.writable.clear()
            connection.finish(b"goodbye")
            await asyncio.Event().wait()
        finally:
            ended.set()

    handling = asyncio.create_task(handler())
    await asyncio.wait_for(ended.wait(), 5)
    assert socket.sent == []
    await asyncio.wait([handling])
    assert handling.cancelled()


async def test_under_uvicorn_the_transport_is_written_to(start_sqlite: Start) -> None:
    """The fast path relies on uvicorn's internals: an update that moves them must not go unnoticed."""
    async with start_sqlite() as served, stream(served.port) as opened:
        await opened.until("caught_up")
        (reader,) = (await served.hub()).readers
        assert type(reader._connection) is UvicornConnection


async def test_a_reader_that_speaks_http_1_0_gets_a_body_that_ends_with_the_connection(start_sqlite: Start) -> None:
    async with start_sqlite() as served:
        text = "x" * 1000
        for begin in range(0, 4000, 500):
            await served.publish(*(stage_change(n, data={"newStage": text, "n": n}) for n in range(begin, begin + 500)))
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port, limit=4096)
        writer.write(b"GET /api/v1/sync/events?lastEventId=earliest HTTP/1.0\r\n\r\n")
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        assert b"transfer-encoding" not in head
        assert b"content-length" not in head
        assert b"connection: close" in head
        hub = await served.hub()
        # It does not read, so that some of it is written after waiting for the socket.
        await eventually(lambda: any(one._blocked for one in hub.readers))
        decoder = SSEDecoder()
        seen: list[ServerSentEvent] = []
        while not any(event.event == "caught_up" for event in seen):
            seen += decoder.feed(await reader.read(65536))
        (live,) = hub.readers
        assert type(live._connection) is PlainUvicornConnection
        await served.stages(1)
        hub.flush()
        live.close(Goodbye.MAX_AGE, retry_ms=100)
        async with asyncio.timeout(10):
            while data := await reader.read(65536):
                seen += decoder.feed(data)
        assert [json.loads(event.data)["data"]["n"] for event in seen if event.event == "stage_change"] == [
            *range(4000),
            0,
        ]
        assert seen[-1].event == "goodbye"
        writer.close()
        await eventually(lambda: served.application.feed.reader_count == 0)


async def test_a_head_request_by_http_1_0_ends_at_once(start_sqlite: Start) -> None:
    async with start_sqlite() as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(b"HEAD /api/v1/sync/events HTTP/1.0\r\n\r\n")
        async with asyncio.timeout(10):
            answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 200")
        assert answer.endswith(b"\r\n\r\n")
        writer.close()


HALF_A_HEAD = b"GET /healthz HTTP/1.1\r\nhost: x\r\n"


class Wire:
    """A transport that keeps what is written to it."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close

    def get_write_buffer_size(self) -> int:
        return 0


def cycle_on(wire: Wire, *, method: str = "POST", keep_alive: bool = True, ended: list[str]) -> RequestResponseCycle:
    """A request of uvicorn's that waits for its response."""
    return RequestResponseCycle(
        scope={"type": "http", "method": method},  # type: ignore[typeddict-item]
        transport=wire,  # type: ignore[arg-type]
        flow=FlowControl(wire),  # type: ignore[arg-type]
        logger=logging.getLogger("uvicorn"),
        access_logger=logging.getLogger("uvicorn"),
        access_log=False,
        default_headers=[(b"date", b"today")],
        message_event=asyncio.Event(),
        expect_100_continue=False,
        keep_alive=keep_alive,
        on_response=lambda: ended.append("ended"),
    )


def start_of(body: bytes, *more: tuple[bytes, bytes], status: int = 201) -> dict[str, Any]:
    headers = [(b"content-length", b"%d" % len(body)), (b"content-type", b"text/plain"), *more]
    return {"type": "http.response.start", "status": status, "headers": headers}


@pytest.mark.parametrize("keep_alive", [True, False])
@pytest.mark.parametrize("body", [b"created", b""])
async def test_an_answer_is_what_uvicorn_would_write_in_one_piece(body: bytes, keep_alive: bool) -> None:
    ours, theirs, ended = Wire(), Wire(), list[str]()
    assert answer(cycle_on(ours, keep_alive=keep_alive, ended=ended).send, start_of(body), body)
    cycle = cycle_on(theirs, keep_alive=keep_alive, ended=ended)
    await cycle.send(start_of(body))  # type: ignore[arg-type]
    await cycle.send({"type": "http.response.body", "body": body, "more_body": False})
    assert ours.written == [b"".join(theirs.written)]
    assert ours.closed == theirs.closed == (not keep_alive)
    assert ended == ["ended", "ended"]


async def test_after_an_answer_the_request_is_over() -> None:
    wire, ended = Wire(), list[str]()
    cycle = cycle_on(wire, ended=ended)
    assert answer(cycle.send, start_of(b"x"), b"x")
    assert await cycle.receive() == {"type": "http.disconnect"}
    assert not answer(cycle.send, start_of(b"x"), b"x")
    assert len(wire.written) == 1
    assert ended == ["ended"]


@pytest.mark.parametrize(
    ("start", "body", "method"),
    [
        (start_of(b"x"), b"x", "HEAD"),
        (start_of(b"x"), b"longer", "POST"),
        (start_of(b"x", (b"x-note", b"a\r\nset-cookie: b=c")), b"x", "POST"),
        (start_of(b"x", (b"x-note", b"a\nb")), b"x", "POST"),
        (start_of(b"x", (b"x-note", b"a\0b")), b"x", "POST"),
        (start_of(b"x", (b"connection", b"close")), b"x", "POST"),
        (start_of(b"x", (b"transfer-encoding", b"chunked")), b"x", "POST"),
        (start_of(b"x", (b"Connection", b"close")), b"x", "POST"),
        (start_of(b"x", (b"x\r\ny", b"z")), b"x", "POST"),
    ],
    ids=["head", "wrong length", "a second header", "line feed", "nul", "closes", "chunks", "shouts", "splits"],
)
async def test_what_needs_more_care_is_left_to_uvicorn(start: dict[str, Any], body: bytes, method: str) -> None:
    wire, ended = Wire(), list[str]()
    cycle = cycle_on(wire, method=method, ended=ended)
    assert not answer(cycle.send, start, body)
    assert (wire.written, ended, cycle.response_started) == ([], [], False)


@pytest.mark.parametrize("trouble", ["paused", "disconnected"])
async def test_an_answer_waits_for_its_socket_like_any_other(trouble: str) -> None:
    wire, ended = Wire(), list[str]()
    cycle = cycle_on(wire, ended=ended)
    if trouble == "paused":
        cycle.flow.pause_writing()
    else:
        cycle.disconnected = True
    assert not answer(cycle.send, start_of(b"x"), b"x")
    assert wire.written == []


async def test_under_uvicorn_answers_leave_in_one_piece(start_sqlite: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for streams: an update of uvicorn that moves what this relies on must not go unnoticed."""
    done: list[bool] = []

    def noted(*given: Any) -> bool:
        done.append(answer(*given))
        return done[-1]

    monkeypatch.setattr("sync_server.asgi.answer", noted)
    async with start_sqlite() as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        # Two at once, a HEAD between, and one that ends the connection: each answer whole, and in order.
        writer.write(
            b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\nHEAD /healthz HTTP/1.1\r\nhost: x\r\n\r\n"
            b"GET /nowhere HTTP/1.1\r\nhost: x\r\n\r\nGET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
        )
        async with asyncio.timeout(10):
            text = (await reader.read()).decode()
        writer.close()
    assert re.findall(r"HTTP/1.1 (\d+)", text) == ["200", "200", "404", "200"]
    assert text.count("connection: close") == 1
    assert done == [True, False, True, True]


@pytest.mark.parametrize(
    ("before", "piece"),
    [(b"", b""), (b"", HALF_A_HEAD), (HALF_A_HEAD + b"\r\n", HALF_A_HEAD)],
    ids=["nothing", "half a head", "half a second head"],
)
async def test_a_head_that_does_not_come_is_not_awaited_for_ever(
    start_sqlite: Start, monkeypatch: pytest.MonkeyPatch, before: bytes, piece: bytes
) -> None:
    monkeypatch.setattr("sync_server.protocol.HEAD_PATIENCE_S", 1.0)
    async with start_sqlite() as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        if before:
            writer.write(before)
            await reader.readuntil(b"}")
        began_s = asyncio.get_running_loop().time()
        writer.write(piece)
        async with asyncio.timeout(10):
            assert await reader.read() == b""
        assert 0.8 < asyncio.get_running_loop().time() - began_s < 8
        writer.close()


async def test_what_comes_in_time_is_served_however_long_the_body_takes(
    start_sqlite: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync_server.protocol.HEAD_PATIENCE_S", 1.0)
    async with start_sqlite() as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        body = json.dumps(stage_change(1)).encode()
        head = b"POST /api/v1/sync/events HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        for piece, pause_s in (
            (head, 0.05),
            (b"content-length: %d\r\n\r\n" % len(body), 0.0),
            (body[:10], 1.5),
            (body[10:], 0.0),
        ):
            writer.write(piece)
            await asyncio.sleep(pause_s)
        async with asyncio.timeout(10):
            assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 201")
        writer.close()


async def test_a_pipelined_head_is_not_charged_with_the_body_before_it(start_sqlite: Start) -> None:
    async with start_sqlite() as served:
        events = [stage_change(n, data={"newStage": "x" * 200, "n": n}) for n in range(300)]
        body = json.dumps({"events": events}).encode()
        assert len(body) > MAX_HEAD_BYTES
        post = b"POST /api/v1/sync/events HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(post + b"content-length: %d\r\n\r\n" % len(body) + body + HALF_A_HEAD)
        async with asyncio.timeout(10):
            assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 201")
            await reader.readuntil(b"]}")
            writer.write(b"\r\n")
            assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200")
            # Its own bound it has all the same.
            writer.write(HALF_A_HEAD + b"a: b\r\n" * (MAX_HEAD_BYTES // 6))
            assert b"HTTP/1.1 431" in await reader.read()
        writer.close()


async def test_an_empty_line_holds_no_connection(start_sqlite: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sync_server.protocol.HEAD_PATIENCE_S", 1.0)
    async with start_sqlite() as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(HALF_A_HEAD + b"\r\n")
        await reader.readuntil(b"}")
        async with asyncio.timeout(10):
            while not reader.at_eof():
                writer.write(b"\r\n")
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(reader.read(100), 0.05)
        writer.close()


async def test_a_socket_and_a_stream_are_nothing_that_awaits_a_head(
    start_sqlite: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync_server.protocol.HEAD_PATIENCE_S", 1.0)
    async with start_sqlite() as served:
        url = f"ws://127.0.0.1:{served.port}/api/v1/sync/ws"
        async with stream(served.port) as opened, websockets.connect(url, proxy=None) as socket:
            await opened.until("caught_up")
            await asyncio.sleep(1.5)
            await served.publish(stage_change(1))
            await opened.until("stage_change")
            await (await socket.ping())


async def test_a_head_that_waits_for_its_body_gives_way_to_a_problem() -> None:
    """As of a file that cannot be read any more: the head names its length, and then there is no body."""
    wire, ended = Wire(), list[str]()
    begin = _Begin(cycle_on(wire, ended=ended).send, [(b"x-request-id", b"abc")])
    await begin(start_of(b"never comes", status=200))
    assert not begin.done
    assert wire.written == []
    await problem_response(Unavailable("not now", retry_after_s=1))({"type": "http"}, cast(Any, None), begin)
    assert begin.done
    (answered,) = wire.written
    assert answered.startswith(b"HTTP/1.1 503")
    assert answered.count(b"x-request-id: abc") == 1


async def test_a_head_leaves_before_a_body_that_comes_in_pieces() -> None:
    wire, ended = Wire(), list[str]()
    begin = _Begin(cycle_on(wire, ended=ended).send, [])
    await begin(start_of(b"abcd", status=200))
    await begin({"type": "http.response.body", "body": b"ab", "more_body": True})
    assert begin.done
    assert b"".join(wire.written).endswith(b"\r\n\r\nab")
    await begin({"type": "http.response.body", "body": b"cd", "more_body": False})
    assert b"".join(wire.written).endswith(b"\r\n\r\nabcd")
    assert ended == ["ended"]


async def test_who_has_left_is_answered_nothing() -> None:
    wire, ended = Wire(), list[str]()
    wire.closed = True
    cycle = cycle_on(wire, ended=ended)
    begin = _Begin(cycle.send, [])
    await begin(start_of(b"x"))
    await begin({"type": "http.response.body", "body": b"x", "more_body": False})
    assert (wire.written, cycle.disconnected) == ([], True)
