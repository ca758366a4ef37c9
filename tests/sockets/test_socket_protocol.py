"""What one client can make the event loop do is bounded; and who breaks the protocol is told why."""

import asyncio
import sys
import textwrap
import time
from contextlib import suppress
from socket import SO_RCVBUF, SO_SNDBUF, SOL_SOCKET
from typing import Any

import pytest
from websockets.frames import Frame, Opcode

from sync_server.socket_protocol import MAX_FRAGMENTS, MAX_UNREAD_BYTES, PIECE_BYTES, BoundedSocketProtocol
from sync_server.sockets.socket import Socket
from tests.feed.conftest import Start
from tests.serving import stage_change
from tests.sockets.client import closed_with, socket
from tests.sockets.raw import EMPTY, close_code, raw_socket, text
from tests.sockets.routes import PATH, echo, serve_at
from tests.streams import eventually


def protocol_of(accepted: Socket) -> Any:
    """uvicorn's protocol under a socket."""
    protocol = accepted._send.__self__  # type: ignore[attr-defined]
    assert isinstance(protocol, BoundedSocketProtocol)
    return protocol


class Deaf:
    """A protocol that accepts and does not listen until it is told to."""

    def __init__(self) -> None:
        self.socket: Socket | None = None
        self.listen = asyncio.Event()
        self.heard: list[dict[str, Any]] = []

    async def __call__(self, socket: Socket) -> None:
        await socket.accept()
        self.socket = socket
        await self.listen.wait()
        async for message in socket:
            self.heard.append(message)


async def test_what_is_not_listened_to_waits_in_the_network(start_sqlite: Start) -> None:
    deaf = Deaf()
    async with start_sqlite() as served:
        serve_at(served, deaf, messages_per_s=100_000)
        async with raw_socket(served.port, PATH) as (_, writer):
            for n in range(5000):
                writer.write(text(b'{"type":"x","n":%d}' % n))
            await eventually(lambda: deaf.socket is not None and not protocol_of(deaf.socket).queue.empty())
            for _ in range(10):
                await asyncio.sleep(0.01)
                assert protocol_of(deaf.socket).queue.qsize() <= PIECE_BYTES // len(text(b'{"type":"x","n":0}'))
            deaf.listen.set()
            await eventually(lambda: len(deaf.heard) == 5000)
            assert [message["n"] for message in deaf.heard] == list(range(5000))


async def test_a_close_behind_a_flood_is_still_seen(start_sqlite: Start) -> None:
    async with start_sqlite() as served:
        serve_at(served, echo, messages_per_s=50)
        async with socket(served, PATH) as client:
            for n in range(2000):
                await client.say({"type": "x", "n": n})
            assert await closed_with(client) == ("RATE_LIMITED", 1008)


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (text(b"\xff\xfe"), 1007),
        (b"\x83\x80AAAA", 1002),  # no such opcode
        (b"\x81\x02hi", 1002),  # not masked
        (b"\x80\x80AAAA", 1002),  # goes on with nothing
        (b"\x89\xfe\x00\x7eAAAA" + b"x" * 126, 1002),  # a ping that is too long
    ],
    ids=["no UTF-8", "no such opcode", "not masked", "goes on with nothing", "a ping that is too long"],
)
async def test_who_breaks_the_protocol_is_told_and_leaves_no_traceback(
    start_sqlite: Start, caplog: pytest.LogCaptureFixture, sent: bytes, code: int
) -> None:
    async with start_sqlite() as served:
        serve_at(served, echo)
        async with raw_socket(served.port, PATH) as (reader, writer):
            writer.write(sent)
            assert await close_code(reader) == code
    assert [record for record in caplog.records if record.exc_info or record.levelname == "ERROR"] == []


async def test_a_refused_handshake_is_no_fault(start_sqlite: Start, caplog: pytest.LogCaptureFixture) -> None:
    async with start_sqlite() as served:
        with pytest.raises(AssertionError, match="404"):
            async with raw_socket(served.port, "/nothing"):
                pass
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_who_speaks_another_version_is_told_which_one_is_spoken_here(
    start_sqlite: Start, caplog: pytest.LogCaptureFixture
) -> None:
    """RFC 6455, 4.2.2 and 4.4."""
    async with start_sqlite() as served:
        serve_at(served, echo)
        with pytest.raises(AssertionError, match=r"426 Upgrade Required.*Sec-WebSocket-Version: 13\\r"):
            async with raw_socket(served.port, PATH, version=12):
                pass
        async with socket(served, PATH) as client:
            assert (await client.ask({"type": "ping"}))["type"] == "pong"
    assert [record for record in caplog.records if record.exc_info or record.levelname == "ERROR"] == []


async def test_who_answers_no_ping_is_let_go(start_sqlite: Start) -> None:
    async def impatient(socket: Socket) -> None:
        await socket.accept()
        protocol = protocol_of(socket)
        protocol.stop_keepalive()
        protocol.ping_interval, protocol.ping_timeout = 0.1, 0.2
        protocol.start_keepalive()
        async for _ in socket:
            pass

    async with start_sqlite() as served:
        serve_at(served, impatient)
        async with socket(served, PATH) as client, raw_socket(served.port, PATH) as (reader, _):
            assert await close_code(reader) == 1011
            assert (await client.ask({"type": "ping"}))["type"] == "pong"  # its library answers pings by itself


async def test_who_sends_all_before_it_reads_still_reads_why_it_was_too_large(start_sqlite: Start) -> None:
    """Closed at once, what it sends meanwhile would be answered by a reset, which takes away what was said."""
    frame = text(b"x" * 16 * 1024 * 1024)

    async with start_sqlite() as served:
        serve_at(served, echo)
        async with raw_socket(served.port, PATH) as (reader, writer):
            reader._transport.pause_reading()  # type: ignore[attr-defined]
            writer.write(frame)
            await writer.drain()
            reader._transport.resume_reading()  # type: ignore[attr-defined]
            async with asyncio.timeout(20):
                said = await reader.read(-1)
    assert b'"TOO_LARGE"' in said
    assert said[said.rfind(b"\x88") + 2 :][:2] == (1009).to_bytes(2, "big")


async def test_who_neither_reads_nor_answers_pings_is_cut(start_sqlite: Start) -> None:
    """Its buffer is full: a close that waits for that to be read would wait as long as the network does."""

    async def impatient(socket: Socket) -> None:
        await socket.accept()
        protocol = protocol_of(socket)
        protocol.stop_keepalive()
        while protocol.writable.is_set():
            await socket.send({"type": "x", "y": "y" * 100_000})
        protocol.ping_interval, protocol.ping_timeout = 0.1, 0.2
        protocol.start_keepalive()
        async for _ in socket:
            pass

    async with start_sqlite() as served:
        serve_at(served, impatient)
        async with raw_socket(served.port, PATH) as (reader, _):
            reader._transport.pause_reading()  # type: ignore[attr-defined]
            registry = served.application.feed.metrics.registry
            await eventually(lambda: registry.get_sample_value("sync_sockets", {"path": PATH}) == 1)
            await eventually(lambda: registry.get_sample_value("sync_sockets", {"path": PATH}) == 0)


async def test_a_message_in_fragments_without_an_end_is_too_large(start_sqlite: Start) -> None:
    """Empty ones count for no limit of bytes, and as no message."""
    begin, more, end = (
        Frame(opcode, data, fin=fin).serialize(mask=True)
        for opcode, data, fin in (
            (Opcode.TEXT, b'{"type": "ping"', False), (Opcode.CONT, b"", False), (Opcode.CONT, b"}", True)
        )
    )  # fmt: skip
    async with start_sqlite() as served:
        serve_at(served, echo)
        async with raw_socket(served.port, PATH) as (reader, writer):
            writer.write(begin + more * (MAX_FRAGMENTS - 2) + end)
            assert b'"pong"' in await asyncio.wait_for(reader.read(1000), 20)
            writer.write(begin + more * MAX_FRAGMENTS)
            assert await close_code(reader) == 1009


async def test_answers_to_pings_do_not_pile_up_for_who_does_not_read(start_sqlite: Start) -> None:
    """Each ping is answered at once; unbounded, a client that only sends them fills the server's memory with it."""
    deaf, ping = Deaf(), Frame(Opcode.PING, b"x" * 125).serialize(mask=True)
    deaf.listen.set()
    async with start_sqlite() as served:
        serve_at(served, deaf)
        async with raw_socket(served.port, PATH) as (reader, writer):
            reader._transport.pause_reading()  # type: ignore[attr-defined]
            await eventually(lambda: deaf.socket is not None)
            assert deaf.socket is not None
            protocol, sent = protocol_of(deaf.socket), 0
            for end, size in ((protocol.transport, SO_SNDBUF), (writer, SO_RCVBUF)):  # the network holds megabytes
                end.get_extra_info("socket").setsockopt(SOL_SOCKET, size, 256 * 1024)
            while not (protocol.read_paused and protocol._is_unread):
                writer.write(ping * 1000)
                sent += 1000
                with suppress(TimeoutError):
                    await asyncio.wait_for(writer.drain(), 0.05)
                assert protocol.transport.get_write_buffer_size() < 2 * MAX_UNREAD_BYTES
            reader._transport.resume_reading()  # type: ignore[attr-defined]
            writer.write(text(b'{"type": "ping"}'))
            async with asyncio.timeout(30):
                pongs = await reader.readexactly(sent * (2 + 125))
                assert pongs.count(b"\x8a\x7d") == sent
                assert b"pong" in await reader.read(1000)


FLOOD = """
    import socket, sys
    port, path, frame = int(sys.argv[1]), sys.argv[2], bytes.fromhex(sys.argv[3])
    while True:
        one = socket.create_connection(("127.0.0.1", port))
        one.sendall(f"GET {path} HTTP/1.1\\r\\nHost: a\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\n"
                    f"Sec-WebSocket-Version: 13\\r\\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\\r\\n\\r\\n".encode())
        one.recv(65536)
        print("open", flush=True)
        try:
            while True:
                one.sendall(frame * 20000)
        except OSError:
            one.close()
"""


@pytest.mark.alone
@pytest.mark.parametrize("frame", [EMPTY, b"\x89\x80AAAA"], ids=["messages", "pings"])
async def test_a_flood_leaves_the_others_latency_alone(start_sqlite: Start, frame: bytes) -> None:
    """Unbounded, a read of 256 kB is 40,000 messages, and 0.2 s in which nobody else is served.

    Counted is what the event loop's thread does between an event and its delivery: wall time would count neighbours.
    """
    async with start_sqlite() as served, socket(served) as client:
        await client.until("caught_up")
        flood = await asyncio.create_subprocess_exec(
            sys.executable, "-c", textwrap.dedent(FLOOD), str(served.port), "/api/v1/sync/ws", frame.hex(),
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            assert flood.stdout is not None
            await flood.stdout.readline()
            took_s = []
            for n in range(200):
                began_s = time.thread_time()
                await served.publish(stage_change(n))
                await client.until("stage_change")
                took_s.append(time.thread_time() - began_s)
            took_s.sort()
            assert took_s[-3] < 0.06, took_s[-10:]
        finally:
            flood.kill()
            await flood.wait()
