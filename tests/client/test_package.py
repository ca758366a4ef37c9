"""The package as a whole: what it exports, what it needs, how long its import takes, that it can run elsewhere."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import sync_client
from sync_client import ConfigurationError, Resync, SyncClient
from sync_client.options import Options, read_filter
from sync_core.filters import Filter

PACKAGE = Path(sync_client.__file__).parent
MODULES = sorted(PACKAGE.glob("*.py"))
SERVER_ONLY = {"starlette", "uvicorn", "pymongo", "motor", "prometheus_client", "sse_starlette", "sync_server"}


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


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_nothing_of_the_server_is_imported(path: Path) -> None:
    assert not {name.partition(".")[0] for name in imports_of(path)} & SERVER_ONLY


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_only_the_transport_knows_the_http_library(path: Path) -> None:
    foreign = {name for name in imports_of(path) if name.partition(".")[0] in {"httpx2", "httpx", "httpcore2"}}
    assert not foreign or path.stem == "transport"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_durations_are_never_taken_from_the_wall_clock(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert "time.time()" not in text
    assert "os.kill" not in text
    assert "os.fork" not in text


WITHOUT_SERVER = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names!r}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
import sync_client, sync_client.blocking, sync_client.cli, sync_client.probe, sync_client.diagram
"""


def test_everything_loads_where_the_servers_libraries_are_not() -> None:
    subprocess.run([sys.executable, "-c", WITHOUT_SERVER.format(names=sorted(SERVER_ONLY))], check=True)


def test_the_import_is_quick() -> None:
    """CPU time, the best of five: how busy this machine is says nothing."""
    code = "import time; t = time.process_time(); import sync_client; print(time.process_time() - t)"
    times_s = [float(subprocess.check_output([sys.executable, "-c", code])) for _ in range(5)]
    assert min(times_s) < 0.3


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
