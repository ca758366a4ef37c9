"""The command sync-server as a process, for tests."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Self

from tests.mongod import DIE_WITH_PARENT, _spawner
from tests.servers import clean_environment, wait_until

RUN_TIMEOUT_S = 60.0
COMMAND = [sys.executable, "-m", "sync_server"]


def run(
    *arguments: str, cwd: Path, env: Mapping[str, str] | None = None, stdin: str | bytes = b"", status: int = 0
) -> subprocess.CompletedProcess[str]:
    """Run to the end; it has to end with *status*, and never with a traceback."""
    body = stdin.encode() if isinstance(stdin, str) else stdin
    environment = clean_environment({"COLUMNS": "120"} | dict(env or {}))
    done = subprocess.run(
        [*COMMAND, *arguments], cwd=cwd, env=environment, input=body, capture_output=True, timeout=RUN_TIMEOUT_S,
        check=False,
    )  # fmt: skip
    out, err = done.stdout.decode(), done.stderr.decode()
    assert "Traceback" not in out + err, out + err
    assert done.returncode == status, f"exit status {done.returncode}:\n{out}\n{err}"
    return subprocess.CompletedProcess(done.args, done.returncode, out, err)


class Running:
    """A command that goes on until it is ended; what it has printed so far is in *lines* and *notes*."""

    def __init__(self, *arguments: str, cwd: Path, env: Mapping[str, str] | None = None) -> None:
        argv = [*COMMAND, *arguments]
        if sys.platform == "linux":
            argv = [sys.executable, "-I", "-S", "-c", DIE_WITH_PARENT, str(os.getpid()), *argv]

        def spawn() -> subprocess.Popen[bytes]:
            return subprocess.Popen(
                argv, cwd=cwd, env=clean_environment(env), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE, start_new_session=True,
            )  # fmt: skip

        self.process = _spawner(os.getpid()).submit(spawn).result()
        self.lines: list[str] = []
        self.notes: list[str] = []
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self._readers = [
            threading.Thread(target=self._collect, args=(stream, into), daemon=True)
            for stream, into in ((self.process.stdout, self.lines), (self.process.stderr, self.notes))
        ]
        for reader in self._readers:
            reader.start()

    @staticmethod
    def _collect(stream: IO[bytes], into: list[str]) -> None:
        with stream:
            for line in stream:
                into.append(line.decode().rstrip("\n"))

    def wait_for(self, text: str, *, where: str = "lines", count: int = 1) -> None:
        """Until *count* lines (or notes) hold *text*."""
        lines: list[str] = getattr(self, where)
        wait_until(
            lambda: sum(text in line for line in list(lines)) >= count,
            what=f"{text!r} in {where} ({self.lines[-5:]}, {self.notes[-5:]})",
        )

    def end(self, number: int) -> int:
        """Send the signal *number*; the exit status, once everything it printed is here."""
        self.process.send_signal(number)
        status = self.process.wait(RUN_TIMEOUT_S)
        for reader in self._readers:
            reader.join()
        assert "Traceback" not in "\n".join(self.lines + self.notes)
        return status

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        for reader in self._readers:
            reader.join()
