"""The entry point where only the client was installed: as a process whose server's libraries cannot be imported."""

import subprocess
import sys
from pathlib import Path

import pytest

from sync_server.entry import SERVER_LIBRARIES
from tests.server.commands import RUN_TIMEOUT_S, run
from tests.servers import clean_environment


def run_without(library: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    program = (
        f"import sys; sys.modules[{library!r}] = None; sys.argv[1:] = {arguments!r}; "
        "from sync_server.entry import main; main()"
    )
    return subprocess.run(
        [sys.executable, "-c", program], cwd=cwd, env=clean_environment({"SYNC_SERVER__PORT": "1"}),
        capture_output=True, text=True, timeout=RUN_TIMEOUT_S, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("library", "arguments"),
    [
        ("prometheus_client", ["--version"]),
        ("starlette", ["--help"]),
        ("structlog", ["--help"]),
        ("pydantic_settings", ["--help"]),
        ("uvicorn", ["serve"]),
        ("uvloop", ["serve"]),
    ],
)
def test_without_the_servers_libraries_it_says_how_to_install_them(
    tmp_path: Path, library: str, arguments: list[str]
) -> None:
    done = run_without(library, *arguments, cwd=tmp_path)
    assert done.stderr == "sync-server: the server's libraries are not installed: pip install 'order-sync[server]'\n"
    assert done.returncode == 2


@pytest.mark.parametrize("library", ["pymongo", "bson"])
def test_a_library_of_one_store_is_missed_when_that_is_used(tmp_path: Path, library: str) -> None:
    (tmp_path / "sync.toml").write_text('[log]\nstore = "mongodb"\n')
    done = run_without(library, "log", "info", cwd=tmp_path)
    assert "order-sync[server]" in done.stderr
    assert done.returncode == 2
    assert library in SERVER_LIBRARIES


def test_anything_else_that_is_missing_is_not_covered_up(tmp_path: Path) -> None:
    done = run_without("sync_core.cursor", "--version", cwd=tmp_path)
    assert "sync_core.cursor" in done.stderr
    assert "order-sync[server]" not in done.stderr


def test_the_entry_module_itself_needs_nothing(tmp_path: Path) -> None:
    program = "import sync_server.entry, sys; print(*{m.partition('.')[0] for m in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-S", "-c", program], env={"PYTHONPATH": str(Path(__file__).parents[2])}, cwd=tmp_path,
        capture_output=True, text=True, timeout=RUN_TIMEOUT_S, check=True,
    )  # fmt: skip
    assert set(done.stdout.split()) <= sys.stdlib_module_names | {"__main__", "sync_server"}


def test_python_dash_m_runs_it(tmp_path: Path) -> None:
    assert run("--version", cwd=tmp_path).stdout.startswith("sync-server ")
