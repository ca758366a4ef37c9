"""What every bench needs: servers and generators as processes on their own CPUs, and meters on them.

The server under test has CPU 0 for itself; generators, publishers, mongod and this program share CPU 1. What a
server used is utime + stime of its process (all threads) from /proc over the generator's window, so figures per
CPU second mean something on a machine that has other work too. Linux only.
"""

import contextlib
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.mongod import ReplicaSet

HERE = Path(__file__).parent
ROOT = HERE.parent
SERVER_CPU = 0
GENERATOR_CPU = 1
OPEN_FILES = 20_000
START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 20.0
STREAM_PATH = "/api/v1/sync/events"
FLAGS = frozenset("ilz")
"""Letters of loadgen without a value."""
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class BenchError(Exception):
    """The measurement could not be made; the message says why."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process has used up to *at_s* (monotonic)."""

    at_s: float
    cpu_s: float


def usage(pid: int) -> Usage:
    """What all threads of process *pid* have used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return Usage(time.monotonic(), (int(fields[11]) + int(fields[12])) / _TICKS_PER_S)


def children(pid: int) -> list[int]:
    """The processes that *pid* has started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


class Process:
    """A process on one CPU (or a list of them), its output in a file."""

    def __init__(self, command: Iterable[str | Path], *, cpu: int | str, directory: Path, name: str) -> None:
        self.log_path = directory / f"{name}.log"
        with self.log_path.open("ab") as output:
            self._process = subprocess.Popen(
                ["taskset", "--cpu-list", str(cpu), *map(str, command)],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        self.pid = self._process.pid

    def usage(self) -> Usage:
        """CPU used so far, of all its threads."""
        return usage(self.pid)

    @property
    def rss_kb(self) -> int:
        """Resident memory now."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        raise BenchError(f"process {self.pid} has ended:\n{self.log_end()}")

    def check(self) -> None:
        """Raises BenchError if it has ended."""
        if self._process.poll() is not None:
            raise BenchError(f"the server ended with {self._process.returncode}:\n{self.log_end()}")

    def log_end(self) -> str:
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-15:])

    def stop(self) -> None:
        """SIGTERM, then SIGKILL; idempotent."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


@dataclass(slots=True)
class Target:
    """A server under test: where to publish, where to read. *kind* is "ours", or how the publisher writes to it.

    Its readers come by WebSocket if there is an *opening*: what they send first, perhaps nothing.
    """

    kind: str
    port: int
    stream_path: str
    process: Process
    opening: str | None = None

    def close(self) -> None:
        self.process.stop()


@dataclass(frozen=True, slots=True)
class Store:
    """What a server keeps its log in: a MongoDB of its own, or nothing but a file (both None)."""

    uri: str | None = None
    pid: int | None = None

    @property
    def meters(self) -> dict[str, int]:
        """Its process, to be measured."""
        return {} if self.pid is None else {"mongod": self.pid}


IN_A_FILE = Store()


@contextlib.contextmanager
def workspace() -> Iterator[Path]:
    """A directory for one run, removed afterwards; this process and its children go to the generator's CPU."""
    _raise_open_files()
    os.sched_setaffinity(0, {GENERATOR_CPU})
    with tempfile.TemporaryDirectory(prefix="order-sync-bench-") as name:
        yield Path(name)


@contextlib.contextmanager
def sync_server(directory: Path, log: Store = IN_A_FILE, *, workers: int = 1, config: str = "") -> Iterator[Target]:
    """Our server on a free port, with a SQLite log in *directory* or a MongoDB one; *config* is added to its own.

    Several *workers* get both CPUs; they are ``children`` of the target's process.
    """
    port = free_port()
    config_path = directory / "sync.toml"
    lines = ["[server]", f"port = {port}", f"workers = {workers}", "drain_s = 1.0", "[log]"]
    if log.uri is None:
        lines += ['store = "sqlite"', "[log.sqlite]", f'path = "{directory / "sync.db"}"']
    else:
        lines += ['store = "mongodb"', "[log.mongodb]", f'uri = "{log.uri}"', 'database = "bench"']
    config_path.write_text("\n".join(lines) + "\n" + config)
    command: list[str | Path] = [sys.executable, "-m", "sync_server", "serve", "--config", config_path]
    cpus = str(SERVER_CPU) if workers == 1 else f"{SERVER_CPU},{GENERATOR_CPU}"
    process = Process(command, cpu=cpus, directory=directory, name="server")
    try:
        answering(f"http://127.0.0.1:{port}/readyz", process)
        yield Target("ours", port, STREAM_PATH, process)
    finally:
        process.stop()


@contextlib.contextmanager
def store(name: str) -> Iterator[Store]:
    """A fresh MongoDB for *name* "mongodb", nothing for "sqlite"."""
    if name == "sqlite":
        yield IN_A_FILE
        return
    with ReplicaSet() as replicas:
        yield Store(replicas.uri, replicas.primary().pid)


def head(target: Target) -> str:
    """The cursor of our server's newest event."""
    with urllib.request.urlopen(f"http://127.0.0.1:{target.port}/api/v1/sync/poll?limit=1", timeout=10) as reply:
        cursor: str = json.load(reply)["head"]
        return cursor


def metric(target: Target, name: str) -> float:
    """The sum of our server's metric *name* over all its labels."""
    with urllib.request.urlopen(f"http://127.0.0.1:{target.port}/metrics", timeout=10) as reply:
        lines = reply.read().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.split("{")[0].split(" ")[0] == name)


# -- generators ---------------------------------------------------------------------------------------


class Generator:
    """A generator process. It says MEASURE when its window begins, and JSON when that is over."""

    def __init__(self, command: Iterable[str | Path]) -> None:
        self._process = subprocess.Popen(
            [*map(str, command)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def wait_for(self, word: str) -> str:
        """What follows *word* on the line that begins with it."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if '"error"' in line:
                raise BenchError(f"{self._process.args!r}: {line.strip()}")
            if line.startswith(word):
                return line.removeprefix(word).strip()
        raise BenchError(f"{self._process.args!r} ended before it said {word!r}")

    def wait_for_json(self, word: str) -> dict[str, float]:
        """The figures that follow *word*."""
        document: dict[str, float] = json.loads(self.wait_for(word))
        return document

    def result(self) -> dict[str, float]:
        """Its figures at the end."""
        document: dict[str, float] = json.loads("{" + self.wait_for("{"))
        return document

    def stop(self) -> None:
        """End of its input, which ends it; then a kill. Idempotent."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


def readers(target: Target, count: int, *, lines: Path | None = None, **options: float) -> Generator:
    """loadgen: *count* readers; *options* are its letters (``w=1, d=3, s=10``; ``i=1`` holds them idle, ``l=1`` tells
    the latency to the last reader).

    In the file *lines* each has what its request adds: to the path, and as a header.
    """
    arguments: list[str | Path] = [compiled("loadgen")]
    if lines is not None:
        arguments += ["-f", lines]
    if target.opening is not None:
        arguments += ["-W", target.opening]
    for letter, value in options.items():
        arguments += [f"-{letter}"] if letter in FLAGS else [f"-{letter}", str(value)]
    return Generator([*arguments, str(target.port), str(count), target.stream_path])


def publisher(target: Target, **options: float | str | Path) -> Generator:
    """publisher.py with *options* as its long ones (``rate=100, batch=10``)."""
    arguments = [
        f"--{name}={value:g}" if isinstance(value, float) else f"--{name}={value}" for name, value in options.items()
    ]
    # -I -S: no site-packages to import, so it starts in no time.
    python: list[str | Path] = [sys.executable, "-I", "-S", HERE / "publisher.py"]
    return Generator([*python, "--target", target.kind, "--port", str(target.port), *arguments])


def commander(target: Target, *, shape: str, **options: float) -> Generator:
    """commander.py with *shape* and *options* as its long ones."""
    arguments = [f"--{name}={value:g}" for name, value in options.items()]
    python: list[str | Path] = [sys.executable, "-S", "-m", "bench.commander"]
    return Generator([*python, "--port", str(target.port), f"--shape={shape}", *arguments])


def measured(generator: Generator, target: Target, log: Store = IN_A_FILE) -> tuple[dict[str, float], dict[str, float]]:
    """The generator's figures, and the CPU seconds that "server" (and "mongod") used in its window."""
    pids = {"server": target.process.pid, **log.meters}
    generator.wait_for("MEASURE")
    before = {name: usage(pid) for name, pid in pids.items()}
    figures = generator.result()
    used = {name: max(usage(pid).cpu_s - before[name].cpu_s, 1 / _TICKS_PER_S) for name, pid in pids.items()}
    return figures, used


def compiled(name: str) -> Path:
    """The program NAME.c, made when it is missing or older than its source."""
    source, binary = HERE / f"{name}.c", HERE / "build" / name
    if not binary.exists() or binary.stat().st_mtime < source.stat().st_mtime:
        binary.parent.mkdir(exist_ok=True)
        subprocess.run(["cc", "-O2", "-o", binary, source], check=True)
    return binary


# -- small things -------------------------------------------------------------------------------------


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def median(rounds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The median of every figure over *rounds*."""
    middle = {}
    for name in rounds[0]:
        values = sorted(figures[name] for figures in rounds)
        half = len(values) // 2
        middle[name] = values[half] if len(values) % 2 else (values[half - 1] + values[half]) / 2
    return middle


def answering(url: str, process: Process) -> None:
    """Wait until *process* answers there, if only with 404. Raises BenchError."""
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while True:
        process.check()
        try:
            urllib.request.urlopen(url, timeout=2).close()
            return
        except urllib.error.HTTPError as exc:
            if exc.code == 404:
                return
        except OSError:
            pass
        if time.monotonic() > deadline_s:
            raise BenchError(f"{url} does not answer:\n{process.log_end()}")
        time.sleep(0.02)


def _raise_open_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max(soft, OPEN_FILES)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(hard, wanted)))
    except (ValueError, OSError):
        raise BenchError(f"5,000 readers need {OPEN_FILES} open files: ulimit -n {OPEN_FILES}") from None
