"""What the examples stand on: a server of their own, what they say and check, and how they begin and end.

Not an example itself. Each of the others is a program by itself but for this module.
"""

import argparse
import asyncio
import http.client
import json
import logging
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

from sync_client.errors import CommandFailed

PASSWORD = "a good long password"  # noqa: S105 - of people who live as long as an example
ACCESS = '[access]\nmode = "required"\nsecret = "only-for-this-example-0123456789abcdef"\n'
PATIENCE_S = 30.0


class Wrong(Exception):
    """It went otherwise than it has to."""


def check(holds: object, what: str) -> None:
    if not holds:
        raise Wrong(what)


def say(who: str, text: str) -> None:
    print(f"{who:>7}: {text}", flush=True)


async def until(condition: Callable[[], Any], what: str) -> None:
    """Until *condition* holds. Raises Wrong if it does not in time."""
    end_s = time.monotonic() + PATIENCE_S
    while not condition():
        check(time.monotonic() < end_s, f"{what} did not come to be")
        await asyncio.sleep(0.02)


async def refused(sent: Awaitable[Any], why: str) -> str:
    """What a command is refused with. Raises Wrong if it is not."""
    try:
        await (await sent).done(PATIENCE_S)
    except CommandFailed as failure:
        check(failure.problem.get("status") == 409, f"{why}: {failure.problem}")
        return str(failure.problem["detail"])
    raise Wrong(f"{why}: it was accepted")


def ask(url: str, path: str, body: Any = None, *, token: str = "", method: str | None = None) -> dict[str, Any]:
    """What the server at *url* answers, without the client library. Raises urllib.error.URLError, HTTPError."""
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{url}/api/v1{path}", data, headers, method=method)
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as reply:
        return dict(json.load(reply))


class Server:
    """A sync-server in *directory*, where its sync.toml, log and people are. *people*: their roles, by name."""

    def __init__(self, directory: Path, *, config: str = "", people: Mapping[str, str] | None = None) -> None:
        self._directory = directory
        self._people = people or {}
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port: int = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"
        (directory / "sync.toml").write_text(config, encoding="utf-8")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Until it is ready, with its people."""
        with (self._directory / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command("serve", "--port", str(self._port)), cwd=self._directory, stdout=log, stderr=log
            )
        end_s = time.monotonic() + PATIENCE_S
        while not self._is_ready():
            check(time.monotonic() < end_s and self._process.poll() is None, "the server did not start")
            time.sleep(0.05)
        self._add_people()

    def kill(self) -> None:
        """As a power cut does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def tell(self, *words: str) -> str:
        """What a command of sync-server prints, given at its console."""
        done = subprocess.run(self._command(*words), cwd=self._directory, text=True, capture_output=True, check=False)
        check(done.returncode == 0, f"sync-server {' '.join(words)}: {done.stderr}")
        return done.stdout.strip()

    def token(self, name: str) -> str:
        """What logging in gives a program."""
        return str(ask(self.url, "/auth/login", {"username": name, "password": PASSWORD})["token"])

    def _add_people(self) -> None:
        """All at once, since each takes a second; once only, since the server may be started again."""
        adding = [
            subprocess.Popen(
                self._command("user", "add", name, "--role", role), cwd=self._directory, text=True,
                stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
            )
            for name, role in self._people.items()
        ]  # fmt: skip
        self._people = {}
        for process in adding:
            process.communicate(f"{PASSWORD}\n")
            check(process.returncode == 0, "somebody could not be added")

    def _is_ready(self) -> bool:
        try:
            urllib.request.urlopen(f"{self.url}/readyz", timeout=5).close()
        except OSError:
            return False
        return True

    @staticmethod
    def _command(*words: str) -> list[str]:
        return [sys.executable, "-m", "sync_server", *words]


def arguments(doc: str) -> argparse.ArgumentParser:
    """Those that all examples have."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--url", type=_address, help="of a server that runs, without access control; without it one is started"
    )
    return parser


def play(run: Callable[[], Coroutine[Any, Any, None]], *, url: str | None) -> int:
    """The exit status of a program that does *run*, with the server at *url* if there is one."""
    # What is refused, or breaks off, is part of the story; the client's own warnings would stand between its lines.
    logging.getLogger("sync_client").addHandler(logging.NullHandler())
    try:
        if url is not None:
            _reach(url)
        asyncio.run(run())
    except Wrong as wrong:
        print(f"wrong: {wrong}", file=sys.stderr)
        return 1
    print("all is well")
    return 0


def _address(text: str) -> str:
    if not text.startswith(("http://", "https://")):
        raise argparse.ArgumentTypeError(f"{text!r} is no address of a server; such as http://127.0.0.1:8000")
    return text.rstrip("/")


def _reach(url: str) -> None:
    """Raises Wrong if no server without access control is there."""
    try:
        ask(url, "/sync/poll?limit=1")
    except urllib.error.HTTPError as answer:
        if answer.code in (401, 403):
            raise Wrong(f"{url} asks who calls; leave --url out, and this has a server of its own") from None
        raise Wrong(f"{url} is not the address of an order-sync server: it answers {answer.code}") from None
    except (OSError, ValueError, http.client.HTTPException) as fault:
        raise Wrong(f"nobody answers at {url} ({getattr(fault, 'reason', fault)}); is the server running?") from None
