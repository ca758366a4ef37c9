"""What the Python client costs: events a second through it on one core, an idle client, an import.

    python bench/client.py [--events 200000] [--idle-s 20]

The stream comes from a process of its own that only writes; figures are events per CPU second of the client's
process (its cache thread included), so they say "on one core" whatever else the machine does.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sync_client import SyncClient

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
EPOCH = "benchmrk"
PIECE_EVENTS = 100


def block(event: str, n: int, data: dict) -> bytes:
    return f"event: {event}\nid: {EPOCH}.{n}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()


def stage_change(n: int) -> bytes:
    return block(
        "stage_change", n,
        {"id": f"{EPOCH}.{n}", "eventType": "stage_change", "timestamp": "2026-11-20T10:30:00.123Z",
         "data": {"previousStage": "initiated", "newStage": "in_progress", "n": n}, "orderID": f"ORDER-{n % 100:03d}"},
    )  # fmt: skip


async def serve(count: int) -> None:
    """Write *count* events to whoever comes, then stay silent."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        cursor = f"{EPOCH}.0"
        connected = {"cursor": cursor, "head": cursor, "resume": "now", "heartbeatSeconds": 15}
        writer.write(HEAD + block("connected", 0, connected))
        for first in range(1, count + 1, PIECE_EVENTS):
            writer.write(b"".join(stage_change(n) for n in range(first, first + PIECE_EVENTS)))
            await writer.drain()
        while True:
            await asyncio.sleep(15)
            writer.write(block("heartbeat", count, {"head": f"{EPOCH}.{count}", "tailAgeMs": 5}))

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()


def start_server(count: int) -> tuple[subprocess.Popen, str]:
    process = subprocess.Popen([sys.executable, __file__, "--serve", str(count)], stdout=subprocess.PIPE)
    port = int(process.stdout.readline())
    return process, f"http://127.0.0.1:{port}"


async def throughput(url: str, count: int, **options) -> tuple[float, float]:
    """Events a CPU second and a wall second, from the first to the last."""
    client = SyncClient(url, client_name="bench", trust_env=False, **options)
    done = asyncio.Event()
    seen = 0

    @client.on("stage_change")
    def handle(_) -> None:
        nonlocal seen
        seen += 1
        if seen == count:
            done.set()

    began_s, began_cpu_s = time.monotonic(), time.process_time()
    async with client:
        await asyncio.wait_for(done.wait(), 300)
        spent_cpu_s, spent_s = time.process_time() - began_cpu_s, time.monotonic() - began_s
    return count / spent_cpu_s, count / spent_s


async def idle(url: str, seconds: float) -> float:
    """The share of a core that a connected client without events takes."""
    with tempfile.TemporaryDirectory() as directory:
        async with SyncClient(url, client_name="idle", cache_dir=directory, trust_env=False) as client:
            client.on()(lambda _: None)
            await asyncio.sleep(2)
            began_s, began_cpu_s = time.monotonic(), time.process_time()
            await asyncio.sleep(seconds)
            return (time.process_time() - began_cpu_s) / (time.monotonic() - began_s)


def import_ms() -> float:
    """The best of five."""
    code = "import time; t = time.perf_counter(); import sync_client; print((time.perf_counter() - t) * 1000)"
    return min(float(subprocess.check_output([sys.executable, "-c", code])) for _ in range(5))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--idle-s", type=float, default=20.0)
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve is not None:
        asyncio.run(serve(given.serve))
        return
    rows = [("import", f"{import_ms():.0f} ms", "< 300 ms")]
    for name, goal, options in (("cache off", "≥ 30,000", {"cache": False}), ("cache on", "≥ 10,000", {})):
        process, url = start_server(given.events)
        try:
            with tempfile.TemporaryDirectory() as directory:
                per_cpu_s, per_s = asyncio.run(throughput(url, given.events, cache_dir=directory, **options))
        finally:
            process.kill()
            process.wait()
        rows.append((f"events, {name}", f"{per_cpu_s:,.0f} per CPU second ({per_s:,.0f} per second here)", goal))
    process, url = start_server(0)
    try:
        rows.append(("idle client", f"{asyncio.run(idle(url, given.idle_s)) * 100:.2f} % of a core", "< 0.5 %"))
    finally:
        process.kill()
        process.wait()
    for name, value, goal in rows:
        print(f"{name:20} {value:48} goal {goal}")


if __name__ == "__main__":
    main()
