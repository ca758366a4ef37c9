"""The servers that ours is measured beside, each set up as its users would, one process on the server's CPU.

All take an event by ``POST /publish`` and send it to every reader. What they are made of is fetched on first use:
nginx with nchan and Redis by apt, ``ws`` by npm, Mercure by Go, the Python ones into an environment of their own
(bench/build).
"""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from bench.harness import GENERATOR_CPU, HERE, SERVER_CPU, BenchError, Process, Target, answering, free_port

__all__ = ["PEERS", "nchan", "sse_queue"]

FILES = HERE / "peers"
BUILD = HERE / "build"
NCHAN = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")
SOCKET_IO_HELLO = "40"
"""The packet by which a Socket.IO client joins the default namespace."""


@contextlib.contextmanager
def nchan(directory: Path) -> Iterator[Target]:
    """nginx with nchan, one worker, in memory only."""
    nginx = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if nginx is None or not NCHAN.exists():
        raise BenchError("There is no nginx with nchan: apt install nginx libnginx-mod-nchan")
    port = free_port()
    home = directory / "nginx"
    home.mkdir(exist_ok=True)
    (home / "nchan.conf").write_text((FILES / "nchan.conf").read_text().replace("@PORT@", str(port)))
    with _running([nginx, "-p", home, "-c", "nchan.conf"], directory, "nginx") as process:
        answering(f"http://127.0.0.1:{port}/", process)
        yield Target("nchan", port, "/events", process)


@contextlib.contextmanager
def node_ws(directory: Path) -> Iterator[Target]:
    """Node with ws."""
    modules = BUILD / "node"
    if not (modules / "node_modules" / "ws").exists():
        if shutil.which("npm") is None:
            raise BenchError("There is no npm: apt install nodejs npm")
        modules.mkdir(parents=True, exist_ok=True)
        shutil.copy(FILES / "package.json", modules)
        subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund"], cwd=modules, check=True)
    shutil.copy(FILES / "node_ws.js", modules)
    port = free_port()
    with _running(["node", modules / "node_ws.js", str(port)], directory, "node") as process:
        answering(f"http://127.0.0.1:{port}/", process)
        yield Target("peer", port, "/events", process, opening="")


@contextlib.contextmanager
def fastapi_ws(directory: Path) -> Iterator[Target]:
    """FastAPI's ConnectionManager over WebSocket."""
    with _python(directory, "fastapi_ws.py") as (port, process):
        yield Target("peer", port, "/events", process, opening="")


@contextlib.contextmanager
def sse_queue(directory: Path, *, gzip: bool = False) -> Iterator[Target]:
    """sse-starlette with a queue for each reader; *gzip* compresses for each, too."""
    with _python(directory, "sse_queue.py", *(["gzip"] if gzip else [])) as (port, process):
        yield Target("peer", port, "/events", process)


@contextlib.contextmanager
def flask_socketio(directory: Path) -> Iterator[Target]:
    """Flask-SocketIO with eventlet and Redis; Redis has the other CPU and is not counted."""
    redis = shutil.which("redis-server")
    if redis is None:
        raise BenchError("There is no Redis: apt install redis-server")
    redis_port = free_port()
    command: list[str | Path] = [redis, "--port", str(redis_port), "--save", "", "--dir", directory]
    with (
        _running(command, directory, "redis", cpu=GENERATOR_CPU),
        _python(directory, "flask_socketio_app.py", str(redis_port)) as (port, process),
    ):
        path = "/socket.io/?EIO=4&transport=websocket"
        yield Target("peer", port, path, process, opening=SOCKET_IO_HELLO)


@contextlib.contextmanager
def mercure(directory: Path) -> Iterator[Target]:
    """Mercure's hub as a library, in memory only."""
    binary, source = BUILD / "mercure", FILES / "mercure"
    if not binary.exists() or binary.stat().st_mtime < (source / "main.go").stat().st_mtime:
        go = shutil.which("go", path=os.environ.get("PATH", "") + ":/usr/local/go/bin")
        if go is None:
            raise BenchError("There is no Go, which Mercure is built with")
        built = subprocess.run(
            [go, "build", "-o", binary, "."], cwd=source, capture_output=True, text=True, check=False
        )
        if built.returncode:
            raise BenchError(f"Mercure could not be built: {built.stderr.strip()[-500:]}")
    port = free_port()
    with _running([binary, str(port)], directory, "mercure") as process:
        answering(f"http://127.0.0.1:{port}/", process)
        yield Target("peer", port, "/.well-known/mercure?topic=orders", process)


PEERS: dict[str, Callable[[Path], AbstractContextManager[Target]]] = {
    "nchan": nchan,
    "node-ws": node_ws,
    "fastapi-ws": fastapi_ws,
    "sse-starlette": sse_queue,
    "flask-socketio": flask_socketio,
    "mercure": mercure,
}
"""By the name that tables give them."""


@contextlib.contextmanager
def _python(directory: Path, script: str, *arguments: str) -> Iterator[tuple[int, Process]]:
    """A script of this folder on a free port."""
    port = free_port()
    with _running([_environment(), FILES / script, str(port), *arguments], directory, script) as process:
        answering(f"http://127.0.0.1:{port}/", process)
        yield port, process


def _environment() -> Path:
    """The Python that has what the Python peers need."""
    python = BUILD / "peers" / "bin" / "python"
    wanted, installed = FILES / "requirements.txt", BUILD / "peers" / "installed"
    if not installed.exists() or installed.stat().st_mtime < wanted.stat().st_mtime:
        subprocess.run([sys.executable, "-m", "venv", BUILD / "peers"], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "-r", wanted], check=True)
        installed.touch()
    return python


@contextlib.contextmanager
def _running(command: list[str | Path], directory: Path, name: str, *, cpu: int = SERVER_CPU) -> Iterator[Process]:
    process = Process(command, cpu=cpu, directory=directory, name=name)
    try:
        yield process
    finally:
        process.stop()
