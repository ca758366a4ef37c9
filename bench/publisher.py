"""Publishes events over HTTP, as cheaply as Python can: raw sockets, one thread, bodies from a template.

Started by the harness as a process of its own. With ``--window`` it prints "MEASURE" when the warm-up is over
and one line of JSON at the end; without, it goes on until ``--events`` are out or its standard input ends. A
share of CPU (cpu_share) near 1.0 means that it, and not the server, was the limit.

The event carries ``"t":<CLOCK_MONOTONIC ns>`` in its data, from which loadgen reads the latency.
"""

import argparse
import itertools
import json
import os
import resource
import select
import socket
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

DATA = (
    '{"previousStage":"initiated","newStage":"in_progress","order":{"orderID":"ORDER-001"},"t":%d,'
    '"note":"washed, dried, waiting at the gate"}'
)
OURS = '{"eventType":"stage_change","orderID":"ORDER-001","data":' + DATA + "}"
# What readers of our server get, so that both servers move the same bytes.
NCHAN = (
    '{"id":"k3f9a2c1.1042","eventType":"stage_change","timestamp":"2026-11-20T10:30:00.123Z","data":'
    + DATA
    + ',"orderID":"ORDER-001"}'
)
PATHS = {"ours": "/api/v1/sync/events", "nchan": "/publish", "peer": "/publish"}


@dataclass(slots=True)
class Caller:
    """One connection that has at most one request under way."""

    sock: socket.socket
    number: int
    sent_ns: int = 0
    due_ns: int = 0
    """When it was to be sent: with a rate, and all callers waiting, that is earlier."""
    answer: bytes = b""


@dataclass(slots=True)
class Tally:
    """What was acknowledged since *started_s*."""

    started_s: float
    cpu_before_s: float
    events: int = 0
    requests: int = 0
    took_ns: list[int] = field(default_factory=list)

    def document(self) -> dict[str, float]:
        window_s = time.monotonic() - self.started_s
        took_ns = sorted(self.took_ns) or [0]
        return {
            "window_s": round(window_s, 3),
            "events": self.events,
            "requests": self.requests,
            "p50_ms": took_ns[len(took_ns) // 2] / 1e6,
            "p99_ms": took_ns[int(len(took_ns) * 0.99)] / 1e6,
            "cpu_share": round((_cpu_s() - self.cpu_before_s) / window_s, 3),
        }


def main() -> None:
    """Publish as the command line says."""
    parser = common_options(__doc__)
    parser.add_argument("--templates", type=Path, help="a file of events, one a line, to be sent in turn")
    parser.add_argument("--token", help="what the publisher shows")
    parser.add_argument("--tokens", type=Path, help="a file of tokens, one for each caller and its template")
    options = parser.parse_args()
    templates = options.templates.read_text().splitlines() if options.templates else []
    events = itertools.cycle(templates or [OURS if options.target == "ours" else NCHAN])
    tokens = options.tokens.read_text().splitlines() if options.tokens else []
    heads = [_request_head(options, token) for token in tokens or [options.token]]

    def send(caller: Caller, count: int) -> None:
        chosen = [templates[caller.number]] * count if tokens else [next(events) for _ in range(count)]
        texts = [(event % caller.sent_ns).encode() for event in chosen]
        body = texts[0] if count == 1 else b'{"events":[' + b",".join(texts) + b"]}"
        caller.sock.sendall(b"%b%d\r\n\r\n%b" % (heads[caller.number % len(heads)], len(body), body))

    run(options, send)


def run(options: argparse.Namespace, send: Callable[[Caller, int], None]) -> None:
    """Let as many callers as *options* say *send* (so many at once), and print what came of it."""
    callers = {}
    poller = select.epoll()
    for number in range(options.callers):
        sock = socket.create_connection(("127.0.0.1", options.port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        callers[sock.fileno()] = Caller(sock, number)
        poller.register(sock, select.EPOLLIN)
    poller.register(sys.stdin, select.EPOLLIN)
    tally = _drive(options, send, callers, poller)
    print(json.dumps(tally.document()), flush=True)


def _drive(
    options: argparse.Namespace, send: Callable[[Caller, int], None], callers: dict[int, Caller], poller: select.epoll
) -> Tally:
    idle = deque(callers.values())  # each has its turn
    tally = Tally(time.monotonic(), _cpu_s())
    warm_until_s = tally.started_s + options.warm if options.window else None
    end_s = float("inf")
    due_s = tally.started_s
    to_send = options.events or sys.maxsize
    while True:
        now_s = time.monotonic()
        if warm_until_s is not None and now_s >= warm_until_s:
            warm_until_s, end_s = None, now_s + options.window
            tally = Tally(now_s, _cpu_s())
            print("MEASURE", flush=True)
        if now_s >= end_s or (to_send <= 0 and len(idle) == len(callers)):
            return tally
        while idle and to_send > 0 and (not options.rate or now_s >= due_s):
            caller = idle.popleft()
            caller.answer, caller.sent_ns = b"", time.monotonic_ns()
            caller.due_ns = round(due_s * 1e9) if options.rate else caller.sent_ns
            send(caller, min(options.batch, to_send))
            to_send -= options.batch
            # Late by more than a second: do not make up for it in a burst.
            due_s = max(due_s + 1 / options.rate, now_s - 1) if options.rate else due_s
        wait_s = min(max(due_s - time.monotonic(), 0.0), 0.05) if idle and options.rate and to_send > 0 else 0.05
        for fd, _ in poller.poll(wait_s):
            if fd == sys.stdin.fileno():
                if not os.read(fd, 1):
                    return tally
            elif (answered_s := _receive(callers[fd])) is not None:
                tally.requests += 1
                tally.events += options.batch
                tally.took_ns.append(answered_s)
                idle.append(callers[fd])


def _request_head(options: argparse.Namespace, token: str | None) -> bytes:
    shown = f"Authorization: Bearer {token}\r\n" if token else ""
    return (
        f"POST {PATHS[options.target]} HTTP/1.1\r\nHost: 127.0.0.1:{options.port}\r\n{shown}"
        "Content-Type: application/json\r\nX-EventSource-Event: stage_change\r\nContent-Length: "
    ).encode()


def _receive(caller: Caller) -> int | None:
    """The nanoseconds since the request was due, once its answer is complete."""
    piece = caller.sock.recv(262144)
    if not piece:
        raise SystemExit("the server closed the connection")
    caller.answer += piece
    head, found, body = caller.answer.partition(b"\r\n\r\n")
    if not found:
        return None
    if not head.startswith(b"HTTP/1.1 20"):
        raise SystemExit(f"refused: {caller.answer[:500]!r}")
    _, _, rest = head.lower().partition(b"content-length:")
    if len(body) < int(rest.partition(b"\r\n")[0]):
        return None
    return time.monotonic_ns() - caller.due_ns


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def common_options(description: str | None) -> argparse.ArgumentParser:
    """The options of every generator of requests."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--target", choices=PATHS, default="ours")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--callers", type=int, default=1, help="connections, each with one request under way")
    parser.add_argument("--batch", type=int, default=1, help="events per request")
    parser.add_argument("--rate", type=float, default=0, help="requests per second; 0: as fast as answers come")
    parser.add_argument("--events", type=int, default=0, help="stop after so many")
    parser.add_argument("--warm", type=float, default=1.0, help="seconds before the window")
    parser.add_argument("--window", type=float, default=0.0, help="seconds to measure")
    return parser


if __name__ == "__main__":
    main()
