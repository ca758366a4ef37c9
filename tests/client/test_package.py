"""The package as a whole: what it exports, what it needs, how long its import takes, that it can run elsewhere."""

import ast
import functools
import importlib.metadata
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import sync_client
import sync_core
from sync_client import ConfigurationError, Resync, SyncClient
from sync_client.options import Options, read_filter
from sync_core.filters import Filter

PACKAGE = Path(sync_client.__file__).parent
ROOT = PACKAGE.parent
MODULES = sorted([*PACKAGE.rglob("*.py"), *Path(sync_core.__file__).parent.rglob("*.py")])
CLIENT_MODULES = [path for path in MODULES if path.is_relative_to(PACKAGE)]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def distributions_of_the_client() -> set[str]:
    """What `pip install order-sync` brings, by pip's names: its dependencies, theirs, and so on."""
    found: set[str] = set()
    left = [Requirement(text) for text in PROJECT["dependencies"]]
    while left:
        wanted = left.pop()
        name = canonical(wanted.name)
        if name in found:
            continue
        found.add(name)
        for text in importlib.metadata.requires(name) or ():
            requirement = Requirement(text)
            if requirement.marker is None or any(
                requirement.marker.evaluate({"extra": extra}) for extra in wanted.extras or {""}
            ):
                left.append(requirement)
    return found


def canonical(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


@functools.cache
def modules_the_client_does_without() -> set[str]:
    """Top-level modules of everything else that is installed here."""
    brought = distributions_of_the_client() | {"order-sync"}
    return {
        module
        for module, owners in importlib.metadata.packages_distributions().items()
        if not brought & {canonical(owner) for owner in owners}
    } | {"sync_server"}


def imports_of(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def test_all_is_sorted_and_there() -> None:
    assert sync_client.__all__ == sorted(sync_client.__all__)
    assert all(hasattr(sync_client, name) for name in sync_client.__all__)


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_only_what_the_client_installs_is_imported(path: Path) -> None:
    # What `pip install "order-sync[ws]"` brings is known in one place, which does without it until it is asked for.
    extra = {"websockets"} if named(path) == "sync_client/websocket.py" else set()
    foreign = {name.partition(".")[0] for name in imports_of(path)} & modules_the_client_does_without()
    assert foreign == extra


@pytest.mark.parametrize("path", CLIENT_MODULES, ids=named)
def test_only_the_transport_knows_the_http_library(path: Path) -> None:
    foreign = {name for name in imports_of(path) if name.partition(".")[0] in {"httpx2", "httpx", "httpcore2"}}
    assert not foreign or path.stem == "transport"


@pytest.mark.parametrize("path", CLIENT_MODULES, ids=named)
def test_durations_are_never_taken_from_the_wall_clock(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert "time.time()" not in text
    assert "os.kill" not in text
    assert "os.fork" not in text


WITHOUT_SERVER = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent!r}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
import importlib
for name in {modules!r}:
    importlib.import_module(name)
sys.argv = ["sync-client", "--help"]
sync_client = importlib.import_module("sync_client.cli")
sync_client.main()
"""


def test_client_and_command_line_run_where_only_the_client_is_installed() -> None:
    absent = modules_the_client_does_without()
    assert {"pymongo", "starlette", "structlog", "pydantic_settings"} <= absent
    modules = [named(path).removesuffix(".py").removesuffix("/__init__").replace("/", ".") for path in MODULES]
    code = WITHOUT_SERVER.format(absent=sorted(absent), modules=modules)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Usage: sync-client" in done.stdout


IMPORT = """
from time import process_time as now_s
began_s = now_s()
import asyncio, httpx2, platformdirs, pydantic, sqlite3, tenacity
libraries_s = now_s() - began_s
import sync_client
print((now_s() - began_s - libraries_s) / libraries_s)
"""


def test_the_import_is_quick() -> None:
    """CPU time, beside that of the libraries in the same process: a busy machine slows both."""
    shares = [float(subprocess.check_output([sys.executable, "-c", IMPORT])) for _ in range(5)]
    assert min(shares) < 1


def test_windows_takes_its_own_branch_of_the_lock() -> None:
    """There is no Windows here; at least its branch must parse and type-check (mypy --platform win32 in CI's words)."""
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--platform", "win32", "-m", "sync_client.filelock"],
        capture_output=True, text=True, cwd=PACKAGE.parent, env={**os.environ, "MYPY_CACHE_DIR": os.devnull},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_all_faults_of_options_come_in_one_message() -> None:
    with pytest.raises(ConfigurationError) as told:
        Options(client_name=" ", start="yesterday", poll_wait_s=99)
    assert all(name in str(told.value) for name in ("client_name", "start", "poll_wait_s"))


@pytest.mark.parametrize("url", ["", "shop", "ftp://shop", "http://", "http://a b/", "file:///etc/passwd"])
def test_a_wrong_address_is_told_at_once(url: str) -> None:
    with pytest.raises(ConfigurationError):
        SyncClient(url)


def test_a_filter_may_be_a_plain_mapping() -> None:
    given = read_filter({"orderID": "A", "eventTypes": ["x", "y"]})
    assert given == Filter(frozenset({"x", "y"}), frozenset({"orderID=A"}))
    assert read_filter(None) == Filter()
    assert read_filter(given) is given


@pytest.mark.parametrize("given", [{"orderId": "A"}, {"orderID": ""}, {"eventTypes": "not a type!"}])
def test_a_wrong_filter_is_told_at_once(given: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError):
        read_filter(given)


def test_resync_may_be_given_as_text() -> None:
    assert SyncClient("http://shop", on_reset="now").options.on_reset is Resync.NOW


def test_no_two_instances_are_taken_for_one() -> None:
    """What one of them causes, the other would not hand out."""
    ids = {SyncClient("http://shop").client_id for _ in range(2000)}
    assert len(ids) == 2000
    assert len(SyncClient("http://shop", client_name="x" * 100).client_id) <= 128  # as the server takes it
