"""A real MongoDB for tests, end-to-end scripts, benches and the demo: replica sets of one or three mongod.

    with ReplicaSet(nodes=3) as replicas:
        client = MongoClient(replicas.uri)
        replicas.primary().kill()
        replicas.wait_primary()

A set never outlives the process that made it, however that ends: the kernel kills the mongods with it (on
Linux), and the next set made beside it removes the directories it left. POSIX only.

    MongodError           base
      MongodUnavailable   nothing to run here; unavailable_reason() says why
      StartFailed         a mongod ended while starting; the end of its log is in the message
        PortTaken         because somebody else listens on its port
      NoPrimary           no node takes writes (now, or within the time given)
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import functools
import os
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self, TypeVar

import bson
from bson.errors import InvalidBSON

from tests.mongod_binary import find_mongod, unavailable_reason

HOST = "127.0.0.1"
PREFIX = "order-sync-mongod-"
START_TIMEOUT_S = 60.0  # 0.2 to 0.6 s alone; machines that run tests in parallel are slow
ELECTION_TIMEOUT_S = 30.0
REPLY_TIMEOUT_S = 2.0
POLL_S = 0.01
PORT_ATTEMPTS = 5
EXIT_NET_ERROR = 48  # https://www.mongodb.com/docs/manual/reference/exit-codes/
OP_MSG = 2013

T = TypeVar("T")


class MongodError(Exception):
    """Base of what this module raises."""


class MongodUnavailable(MongodError):
    """There is no mongod to run here."""


class StartFailed(MongodError):
    """A mongod ended, or said nothing, while starting."""


class PortTaken(StartFailed):
    """A mongod ended since somebody else listens on its port."""


class NoPrimary(MongodError):
    """No node of the set takes writes."""


@dataclass(frozen=True, slots=True)
class External:
    """A MongoDB that somebody else runs (SYNC_TEST_MONGODB_URI), where tests expect a ReplicaSet's uri."""

    uri: str
    test_commands: bool


# --- one process ---

# Run by a small Python that becomes mongod, and not as preexec_fn: that is unsafe beside threads, and runs in
# the child what PyMongo registered for forks. The parent is looked at after the signal is asked for: whenever
# it dies, one of the two sees it.
DIE_WITH_PARENT = """
import ctypes, os, signal, sys
PR_SET_PDEATHSIG = 1
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""


@functools.cache
def _spawner(pid: int) -> ThreadPoolExecutor:
    """The thread that starts every mongod of process *pid* (a fork has no threads, hence one per pid).

    PR_SET_PDEATHSIG counts the *thread* that started a child as its parent. This one lives as long as the
    process; a mongod started by a test's own thread would be killed when that ends.
    """
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="mongod-spawner")


def _spawn(argv: Sequence[str], output: Path) -> subprocess.Popen[bytes]:
    if sys.platform == "linux":
        argv = [sys.executable, "-I", "-S", "-c", DIE_WITH_PARENT, str(os.getpid()), *argv]

    def start() -> subprocess.Popen[bytes]:
        with output.open("ab") as out:
            # A session of its own: Ctrl-C in the terminal is for the tests, which close the set.
            return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)

    return _spawner(os.getpid()).submit(start).result()


def _reserve_port() -> socket.socket:
    """A free port, kept from everybody but mongod until the socket is closed, also while mongod is down.

    Linux lets a listener with SO_REUSEADDR, such as mongod, share the port of a socket that has it too and
    does not listen, but gives such a port to nobody who asks for a free one. The option is set after the
    bind, so that two reservations never meet. Elsewhere the port is only picked, and PortTaken tells of a
    lost race.
    """
    reservation = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    reservation.bind((HOST, 0))
    reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return reservation


def _ask(port: int, command: dict[str, Any], *, timeout_s: float = REPLY_TIMEOUT_S) -> dict[str, Any]:
    """The reply to one admin command; empty where the server does not answer in time.

    A connection for each question, without a driver between: the answer is the server's state now, never a
    cached one, and no background thread of ours connects to a node that a test has just killed.
    """
    body = struct.pack("<IB", 0, 0) + bson.encode({**command, "$db": "admin"})
    try:
        with (
            socket.create_connection((HOST, port), timeout=timeout_s) as link,
            link.makefile("rb") as replies,
        ):
            link.sendall(struct.pack("<iiii", 16 + len(body), 1, 0, OP_MSG) + body)
            size_bytes, *_ = struct.unpack("<iiii", replies.read(16))
            return bson.decode(replies.read(size_bytes - 16)[5:])
    except (OSError, struct.error, InvalidBSON):
        return {}


def _poll(condition: Callable[[], T | None], *, timeout_s: float) -> T | None:
    """The first true answer of *condition*, or None when *timeout_s* has passed."""
    deadline = time.monotonic() + timeout_s
    while not (answer := condition()):
        if time.monotonic() >= deadline:
            return None
        time.sleep(POLL_S)
    return answer


class Node:
    """One mongod of a ReplicaSet; its port and directory stay the same over restarts."""

    def __init__(self, binary: Path, directory: Path, *, options: Sequence[str]) -> None:
        self.directory = directory
        self._binary = binary
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self._frozen = False
        self._reservation: socket.socket | None = None
        self.port = 0
        self._take_port()
        (directory / "data").mkdir(parents=True)

    def __repr__(self) -> str:
        return f"<Node {self.address} {f'pid {self.pid}' if self.running else 'down'}>"

    @property
    def address(self) -> str:
        """host:port, as in the set's configuration."""
        return f"{HOST}:{self.port}"

    @property
    def uri(self) -> str:
        """For a client that talks to this node only, whatever its role."""
        return f"mongodb://{self.address}/?directConnection=true"

    @property
    def log_path(self) -> Path:
        """mongod's own log, continued over restarts."""
        return self.directory / "mongod.log"

    @property
    def pid(self) -> int | None:
        """The process id; None while it is down."""
        return self._process.pid if self._process is not None and self.running else None

    @property
    def running(self) -> bool:
        """Whether the process exists; a frozen one does."""
        return self._process is not None and self._process.poll() is None

    @property
    def awake(self) -> bool:
        """Whether it runs and is not frozen by stop_signal()."""
        return self.running and not self._frozen

    def start(self) -> None:
        """Starts it (again) and returns when it answers; it may not have found its role in the set yet.

        Does nothing while it runs. Raises StartFailed, PortTaken.
        """
        if not self.running:
            self.begin()
            self.wait_answering()

    def begin(self) -> None:
        """Starts the process without waiting for it."""
        argv = [str(self._binary), "--port", str(self.port), "--dbpath", str(self.directory / "data")]
        argv += ["--logpath", str(self.log_path), "--logappend", *self._options]
        self._frozen = False
        self._process = _spawn(argv, self.directory / "output.log")

    def wait_answering(self) -> None:
        """Returns when the process that was begun answers on its port. Raises StartFailed, PortTaken."""

        def answered_or_ended() -> bool:
            # The pid: on a port that was taken, somebody else's mongod may answer.
            return not self.running or _ask(self.port, {"serverStatus": 1}).get("pid") == self.pid

        if not _poll(answered_or_ended, timeout_s=START_TIMEOUT_S):
            raise StartFailed(f"{self.address} did not answer within {START_TIMEOUT_S} s\n{self._log_end()}")
        if self._process is not None and (code := self._process.poll()) is not None:
            error = PortTaken if code == EXIT_NET_ERROR else StartFailed
            raise error(f"{self.address} ended with {code} while starting\n{self._log_end()}")

    def wait_first_answer(self) -> None:
        """As wait_answering, for a node that nobody knows yet: it changes its port where that is taken."""
        for _ in range(PORT_ATTEMPTS - 1):
            try:
                return self.wait_answering()
            except PortTaken:
                self._take_port()
                self.begin()
        return self.wait_answering()

    def kill(self) -> None:
        """SIGKILL: gone at once, nothing written, nothing said. Does nothing while it is down."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def terminate(self, *, timeout_s: float = 30.0) -> None:
        """SIGTERM, and waits for the end (about 1 s). A primary steps down first, another follows at once."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout_s)

    def stop_signal(self) -> None:
        """SIGSTOP: connections stay open and nothing answers, as when a machine hangs. Ended by cont()."""
        self._signal(signal.SIGSTOP)
        self._frozen = True
        # One thread takes the signal and stops the others; on a busy machine they answer until it gets its turn.
        if sys.platform == "linux" and not _poll(self._stands_still, timeout_s=START_TIMEOUT_S):
            raise MongodError(f"{self.address} did not stop within {START_TIMEOUT_S} s of SIGSTOP")

    def cont(self) -> None:
        """SIGCONT: goes on where stop_signal() froze it; an old primary takes itself for one for a moment."""
        self._signal(signal.SIGCONT)
        self._frozen = False

    def hello(self) -> dict[str, Any]:
        """The node's own view of its role; empty while it is down, frozen or silent."""
        return _ask(self.port, {"hello": 1}) if self.awake else {}

    def close(self) -> None:
        """Kills it and gives its port back; idempotent."""
        self.kill()
        if self._reservation is not None:
            self._reservation.close()
            self._reservation = None

    def _take_port(self) -> None:
        previous, self._reservation = self._reservation, _reserve_port()
        self.port = self._reservation.getsockname()[1]
        if previous is not None:
            previous.close()
        if sys.platform != "linux":
            self._reservation.close()

    def _signal(self, number: signal.Signals) -> None:
        if self._process is None or not self.running:
            raise MongodError(f"{self.address} is down: no {number.name} for it")
        self._process.send_signal(number)

    def _stands_still(self) -> bool:
        """Whether all threads are stopped. A thread that ends meanwhile is not asked."""
        for thread in Path(f"/proc/{self.pid}/task").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                if (thread / "stat").read_text().rpartition(")")[2].split()[0] not in "Tt":
                    return False
        return True

    def _log_end(self) -> str:
        logs = [path for path in (self.directory / "output.log", self.log_path) if path.exists()]
        return "\n".join(line for path in logs for line in path.read_text(errors="replace").splitlines()[-5:])


# --- the set ---


class ReplicaSet:
    """A replica set of *nodes* (1 or 3) fresh mongods on loopback; once made, every node has its role.

    Durable as in production: journal on, w:majority waits for it. *base_dir* (default: the system's temporary
    one) gets one directory for the set, removed by close(). *test_commands* allows fail points. Three nodes
    elect within about 3 s after a kill. Raises MongodUnavailable, StartFailed, NoPrimary.
    """

    def __init__(self, *, nodes: int = 1, base_dir: Path | None = None, test_commands: bool = False) -> None:
        if nodes not in (1, 3):
            raise ValueError(f"1 or 3 nodes, not {nodes}")
        binary, reason = find_mongod(), unavailable_reason()
        if binary is None or reason is not None:
            raise MongodUnavailable(reason)
        self.test_commands = test_commands
        # A name that nobody else uses: a member or client of another set that finds our port is refused.
        self.name = f"rs-{secrets.token_hex(4)}"
        self.nodes: tuple[Node, ...] = ()
        self._owner_pid = os.getpid()
        self.directory, self._lock = _claim_directory(base_dir or Path(tempfile.gettempdir()))
        _OPEN.add(self)
        try:
            for number in range(nodes):
                node = Node(binary, self.directory / f"node{number}", options=self._options())
                self.nodes = (*self.nodes, node)
                node.begin()
            for node in self.nodes:
                node.wait_first_answer()
            self._initiate()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<ReplicaSet {self.name} {list(self.nodes)}>"

    @property
    def uri(self) -> str:
        """For a client of the whole set; it finds the primary by itself."""
        hosts = ",".join(node.address for node in self.nodes)
        return f"mongodb://{hosts}/?replicaSet={self.name}&directConnection=false"

    def primary(self) -> Node:
        """The node that takes writes now. Raises NoPrimary."""
        claims = [(node.hello(), node) for node in self.nodes]
        elected = [(hello["electionId"], node) for hello, node in claims if hello.get("isWritablePrimary")]
        if not elected:
            raise NoPrimary(f"no primary now: {self!r}")
        # A primary that was frozen claims to be one until it hears of the next; election ids only grow.
        return max(elected, key=lambda claim: claim[0])[1]

    def wait_primary(self, *, timeout_s: float = ELECTION_TIMEOUT_S) -> Node:
        """The primary, as soon as there is one. Raises NoPrimary after *timeout_s*."""

        def elected() -> Node | None:
            with contextlib.suppress(NoPrimary):
                return self.primary()
            return None

        if (node := _poll(elected, timeout_s=timeout_s)) is None:
            raise NoPrimary(f"no primary within {timeout_s} s: {self!r}")
        return node

    def wait_members(self, *, timeout_s: float = ELECTION_TIMEOUT_S) -> None:
        """Returns when one node is primary, and all others that are up secondary. Raises NoPrimary.

        From then on another kill is survived, which is not so just after a start().
        """

        def settled() -> bool:
            roles = [node.hello() for node in self.nodes if node.awake]
            primaries = sum(bool(hello.get("isWritablePrimary")) for hello in roles)
            return primaries == 1 and primaries + sum(bool(hello.get("secondary")) for hello in roles) == len(roles)

        if not _poll(settled, timeout_s=timeout_s):
            raise NoPrimary(f"not every member has its role within {timeout_s} s: {self!r}")

    def close(self) -> None:
        """Kills what runs and removes the set's directory; idempotent."""
        for node in self.nodes:
            node.close()
        if not self._lock.closed:
            shutil.rmtree(self.directory)
            self._lock.close()
        _OPEN.discard(self)

    def _options(self) -> list[str]:
        parameters = {
            "diagnosticDataCollectionEnabled": "false",  # wakes every second and writes for nobody
            # How long a primary goes on refusing after SIGTERM, the next one being elected; 15 s by default.
            "shutdownTimeoutMillisForSignaledShutdown": "500",
        }
        if self.test_commands:
            parameters["enableTestCommands"] = "1"
        options = ["--replSet", self.name, "--bind_ip", HOST, "--nounixsocket", "--quiet"]
        # The oplog's default is 5 % of the disk, filled by a bench.
        options += ["--wiredTigerCacheSizeGB", "0.25", "--oplogSize", "512"]
        # As docs/operating.md says: at its default of 100 a commit now and then waits so long for the journal.
        options += ["--journalCommitInterval", "5"]
        for name, value in parameters.items():
            options += ["--setParameter", f"{name}={value}"]
        return options

    def _initiate(self) -> None:
        members = [{"_id": number, "host": node.address} for number, node in enumerate(self.nodes)]
        config: dict[str, Any] = {"_id": self.name, "members": members}
        if len(members) > 1:
            config["settings"] = {"electionTimeoutMillis": 2000, "heartbeatIntervalMillis": 500}
        # Answered when all members were heard and the oplog is made.
        reply = _ask(self.nodes[0].port, {"replSetInitiate": config}, timeout_s=START_TIMEOUT_S)
        if reply.get("ok") != 1:
            raise StartFailed(f"replSetInitiate: {reply.get('errmsg', 'no answer')}")
        self.wait_members(timeout_s=START_TIMEOUT_S)


_OPEN: set[ReplicaSet] = set()


@atexit.register
def _close_left_over() -> None:
    for replicas in list(_OPEN):
        # A fork has the set too, and must leave it to its owner.
        if replicas._owner_pid == os.getpid():
            replicas.close()


def _claim_directory(parent: Path) -> tuple[Path, IO[str]]:
    """A new directory and its lock, held while we live. Removes what nobody holds any more (300 MB each)."""
    for path in parent.glob(f"{PREFIX}*/lock"):
        # OSError: held, somebody else's, or just removed by another process.
        with contextlib.suppress(OSError), path.open() as left_over:
            fcntl.flock(left_over, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The lock last: what a mongod that is still dying keeps from us is found again the next time.
            for node in path.parent.glob("node*"):
                shutil.rmtree(node)
            shutil.rmtree(path.parent)
    directory = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
    # Locked before it has the name that others look for.
    lock = (directory / "lock.new").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    Path(lock.name).rename(directory / "lock")
    return directory, lock
