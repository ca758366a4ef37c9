"""`sync-server` itself, its help, `serve` and `init`."""

import importlib.metadata
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import typer
from pymongo import MongoClient
from typer.testing import CliRunner

from sync_server.cli import app
from tests.cli.places import Place
from tests.fixtures import MongoDatabase
from tests.server.commands import COMMAND, RUN_TIMEOUT_S, Running, run
from tests.servers import SyncServer, clean_environment

# -- help -----------------------------------------------------------------------------------------------


def test_version(here: Place) -> None:
    assert run("--version", cwd=here.path).stdout == f"sync-server {importlib.metadata.version('order-sync')}\n"


def test_help_names_every_command(here: Place) -> None:
    text = run("--help", cwd=here.path).stdout
    for command in ("serve", "init", "publish", "tail", "doctor", "demo", "log"):
        assert re.search(rf"^. {command} +[A-Z]", text, re.MULTILINE), command
    assert "worker" not in text


@pytest.mark.parametrize(
    ("command", "options"),
    [
        (["serve"], ["--config", "--host", "--port", "--workers", "--allow-open-network"]),
        (["init"], ["--config"]),
        (["publish"], ["--config", "--url", "JSON lines"]),
        (["tail"], ["--config", "--url", "--after", "--types"]),
        (["doctor"], ["--config"]),
        (["demo"], ["--port", "--speed"]),
        (["log"], ["info", "trim", "new-epoch"]),
        (["log", "trim"], ["--keep", "--tenant", "--config"]),
        (["log", "new-epoch"], ["--tenant", "--config"]),
    ],
)
def test_every_command_explains_itself(command: list[str], options: list[str]) -> None:
    text = CliRunner(env={"COLUMNS": "120"}).invoke(app, [*command, "--help"]).output
    assert [option for option in options if option not in text] == []


def commands(group: click.Group, *path: str) -> Iterator[tuple[list[str], click.Command]]:
    for name, command in group.commands.items():
        yield [*path, name], command
        if isinstance(command, click.Group):
            yield from commands(command, *path, name)


def test_help_shows_every_word_of_itself() -> None:
    for path, command in commands(typer.main.get_group(app)):
        text = CliRunner(env={"COLUMNS": "120"}).invoke(app, [*path, "--help"]).output
        texts = [command.help or "", *(getattr(option, "help", None) or "" for option in command.params)]
        words = " ".join(texts).replace("\\[", "[").split()
        assert [word for word in words if word not in text] == [], path


@pytest.mark.parametrize("arguments", [["nonsense"], ["serve", "--port", "x"]])
def test_a_wrong_command_line_is_told(here: Place, arguments: list[str]) -> None:
    assert "Usage:" in run(*arguments, cwd=here.path, status=2).stderr


def test_a_wrong_log_level_is_told(here: Place) -> None:
    assert "LOG_LEVEL" in run("doctor", cwd=here.path, env={"LOG_LEVEL": "LOUD"}, status=2).stderr


# -- serve ----------------------------------------------------------------------------------------------


def test_serve_on_a_port_that_is_taken_says_so(here: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        told = run("serve", "--port", str(port), cwd=here.path, status=2).stderr
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in told
    assert "--port" in told


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--port", "70000"], "[server] port"),
        (["--workers", "2"], "a SQLite log has one process"),
        (["--host", "0.0.0.0"], "--allow-open-network"),
        (["--config", "nowhere.toml"], "no configuration file nowhere.toml"),
        (["--host", "no.such.host.invalid", "--allow-open-network"], "cannot listen on no.such.host.invalid"),
        (["--host", "192.0.2.1", "--allow-open-network"], "cannot listen on 192.0.2.1"),
    ],
)
def test_serve_with_a_wrong_option_ends_with_2(here: Place, arguments: list[str], text: str) -> None:
    assert text in run("serve", *arguments, cwd=here.path, status=2).stderr


def test_serve_with_a_wrong_file_tells_every_fault(here: Place) -> None:
    (here.path / "sync.toml").write_text('[server]\nport = "x"\n[log]\nstore = "y"\n')
    told = run("serve", cwd=here.path, status=2).stderr
    assert "[server] port" in told
    assert "[log] store" in told


def test_serve_on_a_log_in_use_says_who_has_it(server: SyncServer) -> None:
    told = run("serve", "--port", "0", cwd=server.directory, status=2).stderr
    assert f"in use by another sync-server (process {server.process.pid})" in told


def test_serve_with_a_file_that_is_no_log_says_so(here: Place) -> None:
    (here.path / "sync.db").write_text("this is no database, but long enough to be looked at" * 100)
    with Running("serve", "--port", "0", cwd=here.path) as serving:
        serving.wait_for("sync.db", where="notes")
        assert "damaged or no SQLite file" in "\n".join(serving.notes)
        serving.end(signal.SIGTERM)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve_ends_in_order_on_a_signal(here: Place, number: int) -> None:
    with Running("serve", "--port", "0", cwd=here.path, env={"SYNC_SERVER__DRAIN_S": "1"}) as serving:
        serving.wait_for("event='serving'", where="notes")
        assert serving.end(number) == 0


def test_serve_writes_each_log_line_at_once(here: Place) -> None:
    """Or the lines of two workers land on one; what is written at once arrives as one packet."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        ours.settimeout(RUN_TIMEOUT_S)
        serving = subprocess.Popen(
            [*COMMAND, "serve", "--port", "0"], cwd=here.path, stderr=theirs,
            env=clean_environment({"PYTHONUNBUFFERED": "1"}),
        )  # fmt: skip
        try:
            theirs.close()
            packets = [ours.recv(65536)]
            serving.send_signal(signal.SIGTERM)
            while packets[-1]:
                packets.append(ours.recv(65536))
            assert serving.wait(RUN_TIMEOUT_S) == 0
        finally:
            serving.kill()
            serving.wait()
    events = [re.findall(rb"event='(\w+)'.*\n$", packet) for packet in packets[:-1]]
    assert events == [[b"serving"], [b"draining"], [b"stopped"]]


# -- init -----------------------------------------------------------------------------------------------


def test_init_writes_a_configuration_and_makes_the_log(here: Place) -> None:
    told = run("init", cwd=here.path).stdout
    assert "Wrote sync.toml" in told
    assert (here.path / "sync.toml").read_bytes() == Path(sync_example()).read_bytes()
    assert (here.path / "sync.db").exists()
    run("doctor", cwd=here.path)


def sync_example() -> Path:
    return Path(__file__).parents[2] / "config.example.toml"


def test_init_never_overwrites(here: Place) -> None:
    (here.path / "mine.toml").write_text("# mine\n[log.sqlite]\npath = 'deep/er/mine.db'\n")
    assert "left as it is" in run("init", "-c", "mine.toml", cwd=here.path).stdout
    assert (here.path / "mine.toml").read_text().startswith("# mine")
    assert (here.path / "deep/er/mine.db").exists()


def test_init_twice_keeps_the_log(here: Place) -> None:
    first, second = (re.search(r"epoch (\w+)", run("init", cwd=here.path).stdout) for _ in range(2))
    assert first is not None
    assert second is not None
    assert first[1] == second[1]


def test_init_beside_a_running_server_does_no_harm(server: SyncServer) -> None:
    assert "The log is ready" in run("init", cwd=server.directory).stdout


def test_init_where_nothing_can_be_written_says_so(here: Place) -> None:
    told = run("init", "--config", "no/such/directory/sync.toml", cwd=here.path, status=1).stderr
    assert "cannot write no/such/directory/sync.toml" in told


def test_init_on_mongodb_makes_the_indexes(here: Place, mongodb_database: MongoDatabase) -> None:
    env = here.env | {
        "SYNC_LOG__STORE": "mongodb",
        "SYNC_LOG__MONGODB__URI": mongodb_database.uri,
        "SYNC_LOG__MONGODB__DATABASE": mongodb_database.name,
    }
    assert "The log is ready" in run("init", cwd=here.path, env=env).stdout
    with MongoClient[dict[str, Any]](mongodb_database.uri) as client:
        indexes = client[mongodb_database.name]["outcomes"].index_information()
    assert [("tenant", 1), ("principal", 1), ("key", 1)] in [
        index["key"] for index in indexes.values() if index.get("unique")
    ]
