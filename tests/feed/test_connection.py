"""Writing without awaiting, through a plain ASGI ``send`` as through uvicorn's transport."""

import asyncio

import pytest
from starlette.types import Message

from sync_server.feed.connection import AsgiConnection, Chunk, UvicornConnection, connect
from tests.feed.conftest import Start
from tests.streams import stream


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
