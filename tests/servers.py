"""A real sync-server for tests: ``python -m sync_server serve`` as a process of its own.

    with SyncServer(tmp_path, config='[feed]\\nheartbeat_s = 1') as server:
        httpx2.get(f"{server.base_url}/api/v1/sync/poll")
        server.kill()           # kill -9
        server.start()          # again, on the same port, with the same log

It runs in *directory* (its sync.toml, sync.db and server.log are there), sees no SYNC_ variables but those of
*env*, and never outlives the process that made it. All methods block: in a test with readers of its own on the
event loop call them through ``asyncio.to_thread``.
"""

from __future__ import annotations

import http.client
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

from tests.mongod import DIE_WITH_PARENT, HOST, _reserve_port, _spawner

__all__ = ["ServerFailed", "SyncServer", "clean_environment", "wait_until"]

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 60.0
POLL_S = 0.02


class ServerFailed(AssertionError):
    """The server ended while starting, or was not ready, or did not end, in time; its log is in the message."""


def wait_until(condition: Callable[[], object], *, timeout_s: float = 30.0, what: str = "the condition") -> None:
    """Return as soon as *condition* holds. Raises AssertionError after *timeout_s*."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline_s:
            raise AssertionError(f"{what} did not come to be within {timeout_s:g} s")
        time.sleep(POLL_S)


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without the server's settings, and *extra*."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SYNC_", "PROMETHEUS_"))}
    return kept | {"LOG_LEVEL": "INFO", "PYTHONUNBUFFERED": "1"} | dict(extra or {})


class SyncServer:
    """One server, not yet started; ``with`` starts it and ends it. *config* is the text of its sync.toml."""

    def __init__(
        self, directory: Path, *, config: str = "", env: Mapping[str, str] | None = None, options: Sequence[str] = ()
    ) -> None:
        self.directory = directory
        self.log_path = directory / "server.log"
        self._env = clean_environment(env)
        # Held while the server is down as well, so that it always finds its port again.
        self._reservation = _reserve_port()
        self.port: int = self._reservation.getsockname()[1]
        self._options = ["--port", str(self.port), *options]
        self._process: subprocess.Popen[bytes] | None = None
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "sync.toml").write_text(config, encoding="utf-8")

    @property
    def base_url(self) -> str:
        """``http://127.0.0.1:<port>``"""
        return f"http://{HOST}:{self.port}"

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The process; with several workers, their supervisor."""
        assert self._process is not None, "not started"
        return self._process

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def log_text(self) -> str:
        """Everything it has written to its standard output and error so far, all its lives together."""
        return self.log_path.read_text(encoding="utf-8", errors="replace") if self.log_path.exists() else ""

    def start(self, *, ready: bool = True) -> Self:
        """Start it (again) and, with *ready*, wait until /readyz says so. Raises ServerFailed."""
        assert not self.running, "it runs already"
        argv = [sys.executable, "-m", "sync_server", "serve", *self._options]
        if sys.platform == "linux":
            argv = [sys.executable, "-I", "-S", "-c", DIE_WITH_PARENT, str(os.getpid()), *argv]

        def spawn() -> subprocess.Popen[bytes]:
            with self.log_path.open("ab") as log:
                return subprocess.Popen(
                    argv, cwd=self.directory, env=self._env, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                    start_new_session=True,
                )  # fmt: skip

        self._process = _spawner(os.getpid()).submit(spawn).result()
        if ready:
            self.wait_ready()
        return self

    def wait_ready(self, *, timeout_s: float = START_TIMEOUT_S) -> None:
        """Wait until it takes clients. Raises ServerFailed."""
        deadline_s = time.monotonic() + timeout_s
        while self.get("/readyz") != 200:
            if not self.running:
                raise ServerFailed(f"exit status {self.process.returncode}:\n{self.log_text()[-4000:]}")
            if time.monotonic() > deadline_s:
                raise ServerFailed(f"not ready within {timeout_s:g} s:\n{self.log_text()[-4000:]}")
            time.sleep(POLL_S)

    def get(self, path: str, *, timeout_s: float = 5.0) -> int | None:
        """The status of GET *path*; None if nothing answers."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=timeout_s)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def kill(self) -> None:
        """kill -9, its workers included; returns when it is dead."""
        if self._process is not None:
            for pid in [self.process.pid, *self._worker_pids()]:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.wait()

    def terminate(self, *, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """SIGTERM; the exit status. Raises ServerFailed if it takes longer than *timeout_s*."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait(timeout_s=timeout_s)

    def wait(self, *, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """The exit status, once it has ended. Raises ServerFailed."""
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise ServerFailed(f"it still runs after {timeout_s:g} s:\n{self.log_text()[-4000:]}") from None

    def _worker_pids(self) -> list[int]:
        """Processes that said they serve and are still there (a pid may belong to somebody else by now)."""
        found = []
        for pid in {int(text) for text in re.findall(r"event='serving'.* pid=(\d+)", self.log_text())}:
            with suppress(OSError):
                if b"sync_server" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.append(pid)
        return found

    def close(self) -> None:
        """End it at once, whatever it does, and give the port back."""
        self.kill()
        self._reservation.close()

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_: object) -> None:
        self.close()
