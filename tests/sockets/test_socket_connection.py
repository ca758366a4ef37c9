"""Writing messages without awaiting, through a plain ASGI ``send`` as through uvicorn's transport."""

import asyncio

from starlette.types import Message

from sync_server.feed.connection import Chunk
from sync_server.feed.frames import text_frame
from sync_server.feed.socket_connection import SocketConnection, UvicornSocketConnection, socket_connection
from tests.feed.conftest import Start
from tests.feed.test_connection import Socket
from tests.sockets.client import socket

TWO = Chunk(text_frame(b'{"a":1}') + text_frame('{"b":"كولا"}'.encode()))


class Gone:
    """A ``send`` whose client has left."""

    async def send(self, message: Message) -> None:
        raise OSError


async def test_each_frame_is_a_message() -> None:
    plain = Socket()
    connection = socket_connection(plain.send)
    assert type(connection) is SocketConnection
    assert connection.write(TWO) is None
    assert connection.write(Chunk(b"")) is None
    assert [message["text"] for message in plain.sent] == ['{"a":1}', '{"b":"كولا"}']
    connection.finish(text_frame(b"{}"))
    assert plain.sent[-1] == {"type": "websocket.close", "code": 1001, "reason": ""}


async def test_what_waits_for_the_socket_is_finished_in_order() -> None:
    plain = Socket()
    plain.writable.clear()
    blocked = SocketConnection(plain.send).write(TWO)
    assert blocked is not None
    plain.writable.set()
    await asyncio.wait_for(_finish(blocked), 5)
    assert [message["text"] for message in plain.sent] == ['{"a":1}', '{"b":"كولا"}']


async def _finish(blocked: object) -> None:
    await blocked  # type: ignore[misc]


async def test_writing_after_the_client_left_does_nothing() -> None:
    connection = SocketConnection(Gone().send)
    assert connection.write(TWO) is None
    connection.finish(b"")


async def test_under_uvicorn_the_transport_is_written_to(start_sqlite: Start) -> None:
    """It relies on uvicorn's internals: an update that moves them must not go unnoticed."""
    async with start_sqlite() as served, socket(served) as client:
        await client.until("caught_up")
        (reader,) = (await served.hub()).readers
        assert type(reader._connection) is UvicornSocketConnection
