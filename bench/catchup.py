"""Catch-up: one reader from ``earliest`` through 100,000 events, after a restart, so that no window holds them."""

import argparse
import socket
import time

from bench import report
from bench.harness import STREAM_PATH, BenchError, Target, Usage, median, publisher, store, sync_server, workspace

PATIENCE_S = 120.0
MARK = b"\nevent: stage_change\nid: "


def main() -> None:
    """Measure, print, write results/catchup.json."""
    options = _options()
    rounds: dict[str, list[dict[str, float]]] = {}
    with workspace() as directory:
        for name in options.stores:
            home = directory / name
            home.mkdir()
            with store(name) as log:
                with sync_server(home, log) as target:
                    _fill(target, options.events)
                for _ in range(options.rounds):
                    with sync_server(home, log) as target:
                        rounds.setdefault(name, []).append(_read_all(target, options.events))
    rows = [{"store": name, "events": options.events, **median(rounds[name])} for name in options.stores]
    notes = report.limits(rows)
    report.show("Catch-up of one reader after a restart; medians of the rounds", rows, notes=notes)
    print(report.save("catchup", rows=rows, rounds=rounds, notes=notes))


def _fill(target: Target, count: int) -> None:
    with publisher(target, events=count, batch=500, callers=4) as source:
        source.wait_for("{")


def _read_all(target: Target, count: int) -> dict[str, float]:
    """Receive and count, no more: the reader must not be the limit."""
    request = f"GET {STREAM_PATH}?lastEventId=earliest HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    buffer = bytearray(1 << 20)
    seen = size_bytes = 0
    carry = b""
    with socket.create_connection(("127.0.0.1", target.port), timeout=PATIENCE_S) as sock:
        before, own_before_s = target.process.usage(), time.process_time()
        sock.sendall(request.encode())
        while seen < count:
            length = sock.recv_into(buffer)
            if not length or time.monotonic() - before.at_s > PATIENCE_S:
                raise BenchError(f"the stream ended after {seen} of {count} events")
            data = carry + buffer[:length]
            seen += data.count(MARK)
            size_bytes += length
            # A mark that was cut counts with the next piece; a whole one is too long to fit in the carry.
            carry = bytes(data[-(len(MARK) - 1) :])
        after, own_s = target.process.usage(), time.process_time() - own_before_s
    return _figures(before, after, own_s, seen, size_bytes)


def _figures(before: Usage, after: Usage, own_s: float, seen: int, size_bytes: int) -> dict[str, float]:
    took_s = after.at_s - before.at_s
    return {
        "events/s": seen / took_s,
        "events/CPU s": seen / max(after.cpu_s - before.cpu_s, 0.01),
        "seconds": took_s,
        "MB/s": size_bytes / took_s / 1e6,
        "server CPU": (after.cpu_s - before.cpu_s) / took_s,
        "generator CPU": own_s / took_s,
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stores", nargs="+", choices=["sqlite", "mongodb"], default=["sqlite", "mongodb"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--events", type=int, default=100_000)
    return parser.parse_args()


if __name__ == "__main__":
    main()
