"""Writing without awaiting, through a plain ASGI ``send`` as through uvicorn's transport."""

import asyncio
import json

import pytest
from starlette.types import Message

from sync_core.sse import ServerSentEvent, SSEDecoder
from sync_server.feed.connection import AsgiConnection, Chunk, PlainUvicornConnection, UvicornConnection, connect
from sync_server.feed.control import Goodbye
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
