"""Processes: one uvicorn server per process, run by us, and a supervisor where there are several.

uvicorn runs its shutdown only after all connections have closed, which streams never do by themselves; so the
signal comes to us first: readiness off, goodbyes spread over the drain window, then uvicorn, then the log,
each with a deadline. Source: architecture.md (processes).
"""

import asyncio
import contextlib
import enum
import gc
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import structlog
import uvicorn
import uvloop
from prometheus_client.multiprocess import mark_process_dead
from pydantic import SecretStr

from sync_server.app import open_application
from sync_server.asgi import Application
from sync_server.log.base import LogMisconfigured
from sync_server.protocol import BoundedHttpProtocol
from sync_server.settings import EXIT_CONFIG, Settings, is_loopback
from sync_server.socket_protocol import MAX_MESSAGE_BYTES, PING_S, BoundedSocketProtocol

__all__ = ["bind", "make_server", "run_worker", "serve", "supervise", "worker_socket"]

DRAIN_SHARE = 0.8
"""Of drain_s for the goodbyes; the rest is for requests that are under way."""
CLOSE_S = 1.5
"""After drain_s, for closing the log; the promise is drain_s + 2."""
RESTART_PAUSE_S = 1.0
BACKLOG = 4096
KEEP_ALIVE_S = 75
GC_THRESHOLDS = (10_000, 20, 50)
"""Python's own (700, 10, 10) look for cycles, of which there are next to none here, 5 % of the time."""

log = structlog.get_logger("sync_server")


class _Server(uvicorn.Server):
    """uvicorn's server, less its signal handling, which is ours."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def bind(host: str, port: int) -> socket.socket:
    """A listening socket. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With its protocol named: else asyncio's own loop leaves Nagle's algorithm on, and every answer waits 40 ms.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


def serve(settings: Settings, sock: socket.socket) -> int:
    """Serve on *sock* until a signal; the exit status."""
    if settings.server.workers > 1:
        return supervise(settings, sock)
    return run_worker(settings, sock)


def run_worker(settings: Settings, sock: socket.socket, *, parent_fd: int | None = None) -> int:
    """Serve in this process. With *parent_fd*, end of file on it (the parent is gone) is a signal too."""
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_work(settings, sock, parent_fd))
    except LogMisconfigured as exc:
        print(f"sync-server: {exc}", file=sys.stderr)  # noqa: T201 - for people, before the server is up
        return EXIT_CONFIG


def make_server(
    application: Application, *, tls_certificate: Path | None = None, tls_key: Path | None = None
) -> uvicorn.Server:
    """uvicorn around *application*, to be ended by its ``should_exit``; with TLS if there is a certificate."""
    return _Server(
        uvicorn.Config(
            application,
            ssl_certfile=tls_certificate,
            ssl_keyfile=tls_key,
            http=BoundedHttpProtocol,
            ws=BoundedSocketProtocol,
            ws_max_size=MAX_MESSAGE_BYTES,
            ws_per_message_deflate=False,  # frames are made once for all readers
            ws_ping_interval=PING_S,
            ws_ping_timeout=PING_S,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_S,
        )
    )


async def _work(settings: Settings, sock: socket.socket, parent_fd: int | None) -> int:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if parent_fd is not None:
        loop.add_reader(parent_fd, stop.set)
    certificate, key = settings.server.tls_certificate, settings.server.tls_key
    async with open_application(settings) as application:
        server = make_server(application, tls_certificate=certificate, tls_key=key)
        serving = asyncio.create_task(server.serve(sockets=[sock]))
        # What exists now stays for life; collections need not look at it again (they make the tail latency).
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        host, port = sock.getsockname()[:2]
        log.info(
            "serving",
            url=f"{'https' if certificate else 'http'}://{host}:{port}",
            store=settings.log.store,
            access=settings.access.mode,
            pid=os.getpid(),
        )
        if certificate is None and not is_loopback(host) and not settings.access.trusted_proxies:
            log.warning("no_tls", why="what is sent can be read on the way; see [server] tls_certificate")
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait([serving, stopping], return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if parent_fd is not None:
            loop.remove_reader(parent_fd)
        log.info("draining", readers=application.feed.reader_count)
        # A log that hangs must not hold the process: what it acknowledged is durable, and the rest is unknown anyway.
        last = loop.call_later(settings.server.drain_s + CLOSE_S, _cut_off)
        await _drain(application, server, serving, settings.server.drain_s)
    last.cancel()
    log.info("stopped")
    return 0


def _cut_off() -> None:
    log.warning("closing_cut_off")
    os._exit(0)


async def _drain(
    application: Application, server: uvicorn.Server, serving: "asyncio.Task[None]", drain_s: float
) -> None:
    started = time.monotonic()
    await application.feed.drain(drain_s * DRAIN_SHARE)
    server.should_exit = True
    left_s = max(started + drain_s - time.monotonic(), 0.5)
    done, _ = await asyncio.wait([serving], timeout=left_s)
    if not done:
        log.warning("requests_cut_off", connections=len(server.server_state.connections))
        server.force_exit = True
        for task in list(server.server_state.tasks):
            task.cancel()
        await asyncio.wait([serving], timeout=1)


# -- several processes --------------------------------------------------------------------------------


def supervise(settings: Settings, sock: socket.socket) -> int:
    """Run the configured number of workers on *sock*: restart the dead, pass the signal on, wait, kill."""
    metrics_dir = tempfile.mkdtemp(prefix="sync-server-metrics-")
    children: list[_Child] = []
    stopping = False

    def on_signal(*_: Any) -> None:
        nonlocal stopping
        stopping = True

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    try:
        children = [_Child(settings, sock, metrics_dir) for _ in range(settings.server.workers)]
        while not stopping:
            for child in children:
                status = child.process.poll()
                if status == EXIT_CONFIG:
                    return EXIT_CONFIG
                if status is not None and time.monotonic() >= child.restart_s:
                    log.warning("worker_restarted", status=status)
                    # Or its readers, and the age of its data, would count for ever.
                    mark_process_dead(child.process.pid, metrics_dir)  # type: ignore[no-untyped-call]
                    child.start()
            time.sleep(0.1)
        sock.close()
        return 0
    finally:
        _stop(children, settings.server.drain_s + 2)
        shutil.rmtree(metrics_dir, ignore_errors=True)


class _Child:
    """One worker process. It inherits the socket, and reads its settings from a pipe that tells our end."""

    def __init__(self, settings: Settings, sock: socket.socket, metrics_dir: str) -> None:
        self._settings = settings
        self._sock = sock
        self._metrics_dir = metrics_dir
        self.start()

    def start(self) -> None:
        """Start the process (again)."""
        fd = self._sock.fileno()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sync_server", "worker", "--fd", str(fd)],
            stdin=subprocess.PIPE,
            pass_fds=[fd],
            env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": self._metrics_dir},
            start_new_session=True,  # a terminal's Ctrl-C comes through the supervisor only
        )
        self.restart_s = time.monotonic() + RESTART_PAUSE_S
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it died at once; the loop sees its status
            self.process.stdin.write(settings_to_line(self._settings))
            self.process.stdin.flush()


def settings_to_line(settings: Settings) -> bytes:
    """The settings with their secrets, for a worker's standard input."""
    return json.dumps(settings.model_dump(), default=_as_configured).encode() + b"\n"


def _as_configured(value: Any) -> Any:
    """A value as the configuration file has it."""
    match value:
        case SecretStr():
            return value.get_secret_value()
        case timedelta():
            return f"{value.total_seconds()}s"
        case enum.Enum():
            return value.value
    return str(value)


def _stop(children: list[_Child], patience_s: float) -> None:
    deadline_s = time.monotonic() + patience_s
    for child in children:
        if child.process.poll() is None:
            child.process.send_signal(signal.SIGTERM)
    for child in children:
        try:
            child.process.wait(max(deadline_s - time.monotonic(), 0.01))
        except subprocess.TimeoutExpired:
            log.warning("worker_killed", pid=child.process.pid)
            child.process.kill()
            child.process.wait()
        if child.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                child.process.stdin.close()


def worker_socket(fd: int) -> socket.socket:
    """The listening socket that the supervisor left open at *fd*."""
    return socket.socket(fileno=fd)
