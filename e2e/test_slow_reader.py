"""A reader that stops reading: it costs nothing that grows, delays nobody, and catches up or is closed."""

import asyncio
import socket
import statistics
import time
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import httpx2

from tests.servers import SyncServer
from tests.streams import Stream, eventually, seqs, stream

BIG = {"eventType": "stage_change", "data": {"newStage": "x", "text": "y" * 100_000}, "orderID": "A"}
SMALL = {"eventType": "stage_change", "data": {"newStage": "x"}, "orderID": "A"}
BATCHES = 25  # 25 MB: far beyond any socket buffer


def stalled_connection(port: int) -> socket.socket:
    """A reader that asks for the stream and then never reads, with a small receive buffer."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(("127.0.0.1", port))
    sock.sendall(b"GET /api/v1/sync/events HTTP/1.1\r\nHost: x\r\n\r\n")
    return sock


def rss_mb(server: SyncServer) -> float:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


async def publish(client: httpx2.AsyncClient, event: dict[str, object], count: int) -> None:
    reply = await client.post("/api/v1/sync/events", json={"events": [event] * count})
    assert reply.status_code == 201, reply.text


async def latency_ms(client: httpx2.AsyncClient, opened: Stream) -> float:
    """From publish to the arrival at *opened*, of a single event."""
    began_s = time.perf_counter()
    await asyncio.gather(publish(client, SMALL, 1), opened.until("stage_change"))
    return (time.perf_counter() - began_s) * 1000


def behind(server: SyncServer) -> float:
    text = httpx2.get(f"{server.base_url}/metrics", trust_env=False).text
    return float(text.split("\nsync_readers_behind ")[1].split()[0])


async def test_stalled_readers_cost_no_memory(tmp_path: Path) -> None:
    with SyncServer(tmp_path, config="[feed]\nwindow_bytes = 1000000\n") as server:
        async with httpx2.AsyncClient(base_url=server.base_url, timeout=60, trust_env=False) as client:
            stalled = [stalled_connection(server.port) for _ in range(10)]
            for n in range(BATCHES):
                await publish(client, BIG, 10)
                if n == BATCHES // 4:
                    early_mb = rss_mb(server)
            assert behind(server) == 10
            assert rss_mb(server) - early_mb < 20  # what the ten lack is 180
            for sock in stalled:
                sock.close()
            await eventually(lambda: behind(server) == 0)


async def test_stalled_readers_delay_nobody(tmp_path: Path) -> None:
    """Compared with a server without them, event by event: the machine is as busy for both."""
    config = "[feed]\nwindow_bytes = 1000000\n"
    with SyncServer(tmp_path / "held", config=config) as held, SyncServer(tmp_path / "free", config=config) as free:
        stalled = [stalled_connection(held.port) for _ in range(10)]
        async with AsyncExitStack() as stack:
            pairs = []
            for server in (held, free):
                client = httpx2.AsyncClient(base_url=server.base_url, timeout=60, trust_env=False)
                await stack.enter_async_context(client)
                for _ in range(BATCHES):
                    await publish(client, BIG, 10)
                opened = await stack.enter_async_context(stream(server.port))
                await opened.until("caught_up")
                pairs.append((client, opened))
            assert behind(held) == 10
            times_ms = [[await latency_ms(*pair) for pair in pairs] for _ in range(100)]
        held_ms, free_ms = (statistics.median(column) for column in zip(*times_ms, strict=True))
        assert held_ms < 2 * free_ms + 2
        for sock in stalled:
            sock.close()


async def test_a_reader_that_resumes_catches_up_completely(tmp_path: Path) -> None:
    with SyncServer(tmp_path, config="[feed]\nwindow_bytes = 1000000\n") as server:
        async with (
            httpx2.AsyncClient(base_url=server.base_url, timeout=60, trust_env=False) as client,
            stream(server.port, buffer_bytes=2**14) as opened,
        ):
            await opened.until("caught_up")
            for _ in range(BATCHES):
                await publish(client, BIG, 10)
            assert behind(server) == 1
            while len(opened.envelopes) < 10 * BATCHES:
                await opened.next()
            await eventually(lambda: behind(server) == 0)
            await publish(client, SMALL, 1)
            while len(opened.envelopes) < 10 * BATCHES + 1:
                await opened.next()
            assert seqs(opened.envelopes) == list(range(1, 10 * BATCHES + 2))


async def test_a_reader_that_never_resumes_is_closed(tmp_path: Path) -> None:
    with SyncServer(tmp_path, config="[feed]\nslow_close_s = 1\n") as server:
        sock = stalled_connection(server.port)
        async with httpx2.AsyncClient(base_url=server.base_url, timeout=60, trust_env=False) as client:
            for _ in range(BATCHES):
                await publish(client, BIG, 10)
            await eventually(lambda: "\nsync_readers 0.0\n" in httpx2.get(f"{server.base_url}/metrics").text)
            text = (await client.get("/metrics")).text
        assert "\nsync_slow_closes_total 1.0\n" in text
        assert 'sync_goodbyes_total{reason="slow"} 1.0' in text
        # Cut, not ended: what had been sent arrives, then the connection is gone in the middle of the response.
        sock.settimeout(10)
        received = b""
        with suppress(ConnectionResetError):
            while piece := sock.recv(2**20):
                received = received[-100:] + piece
        assert not received.endswith(b"0\r\n\r\n")
        sock.close()
