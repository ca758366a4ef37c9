"""The command line, each command as a real process."""

import importlib.metadata
import json
import re
import signal
import socket
import sqlite3
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import click
import httpx2
import pytest
import typer
from pymongo import MongoClient
from typer.testing import CliRunner

from sync_server.cli import app
from tests.fixtures import MongoDatabase
from tests.server.commands import COMMAND, RUN_TIMEOUT_S, Running, run
from tests.server.publishing import CONFIG, EVENT, published, read
from tests.servers import SyncServer, clean_environment, wait_until

JSON_LINE = json.dumps(EVENT)
FREE_PORT = {"SYNC_SERVER__PORT": "1"}  # nobody listens there, so nothing is mistaken for our server


class Place(NamedTuple):
    """A working directory, and the environment that names its log."""

    path: Path
    env: dict[str, str]


@pytest.fixture
def here(tmp_path: Path) -> Place:
    return Place(tmp_path, FREE_PORT)


@pytest.fixture(params=["sqlite", "mongodb"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """The same for either store."""
    if request.param == "sqlite":
        return Place(tmp_path, FREE_PORT)
    database: MongoDatabase = request.getfixturevalue("mongodb_database")
    return Place(
        tmp_path,
        FREE_PORT
        | {
            "SYNC_LOG__STORE": "mongodb",
            "SYNC_LOG__MONGODB__URI": database.uri,
            "SYNC_LOG__MONGODB__DATABASE": database.name,
        },
    )


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SyncServer]:
    with SyncServer(tmp_path / "server", config=CONFIG + "[server]\ndrain_s = 1\n") as server:
        yield server


def lines(*events: dict[str, Any]) -> str:
    return "".join(json.dumps(event, ensure_ascii=False) + "\n" for event in events)


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


# -- publish --------------------------------------------------------------------------------------------


def test_publish_goes_into_the_log_where_nobody_serves_it(place: Place) -> None:
    (place.path / "day.jsonl").write_text(lines(EVENT, {"eventType": "status_update", "data": {"status": "جاهز"}}))
    done = run("publish", "day.jsonl", cwd=place.path, env=place.env)
    assert [line.split(".")[1] for line in done.stdout.splitlines()] == ["1 stage_change", "2 status_update"]
    assert "head 2, 2 events" in run("log", "info", cwd=place.path, env=place.env).stdout


def test_publish_goes_through_the_running_server(server: SyncServer) -> None:
    env = {"SYNC_SERVER__PORT": str(server.port)}
    events = [
        EVENT,
        {"eventType": "blip", "data": {}},
        EVENT | {"key": "k"},
    ]
    done = run("publish", "-", cwd=server.directory, env=env, stdin=lines(*events))
    assert [line.split()[1] for line in done.stdout.splitlines()] == ["stage_change", "blip", "stage_change"]
    assert done.stdout.splitlines()[1] == "- blip"
    again = run("publish", "-", "--url", server.base_url, cwd=server.directory.parent, stdin=lines(events[2]))
    assert "was there already" in again.stdout
    with httpx2.Client(base_url=server.base_url, trust_env=False) as client:
        assert len(read(client, after="earliest")) == 2


def test_publish_of_more_than_a_request_may_carry(server: SyncServer, tmp_path: Path) -> None:
    large = EVENT | {"data": {"newStage": "ك" * 1000}}
    body = lines(*[large] * 600, *[EVENT] * 1100)
    assert len(body.encode()) > 1024 * 1024
    done = run("publish", "-", "--url", server.base_url, cwd=tmp_path, stdin=body)
    assert "1700 events published" in done.stderr
    seqs = [int(line.split()[0].split(".")[1]) for line in done.stdout.splitlines()]
    assert seqs == list(range(1, 1701))


@pytest.mark.parametrize("served", [False, True])
def test_publish_of_a_bad_event_tells_its_line(server: SyncServer, tmp_path: Path, served: bool) -> None:
    (tmp_path / "bad.jsonl").write_text(lines(EVENT, EVENT | {"x": 1}, {"eventType": "stage_change", "data": {}}))
    env = {"SYNC_SERVER__PORT": str(server.port)} if served else FREE_PORT
    told = run("publish", "bad.jsonl", cwd=tmp_path, env=env, status=1).stderr
    assert told.startswith("sync-server: bad.jsonl: ")
    assert "line 2, x: unknown field" in told
    assert "line 3, data.newStage: is missing" in told


def test_publish_of_what_is_not_json_tells_its_line(here: Place) -> None:
    told = run("publish", "-", cwd=here.path, env=here.env, stdin=JSON_LINE + "\n{cut\n", status=1).stderr
    assert told.startswith("sync-server: standard input, line 2: not JSON: ")


@pytest.mark.parametrize("file", ["nowhere.json", "."])
def test_publish_of_a_file_that_cannot_be_read(here: Place, file: str) -> None:
    assert run("publish", file, cwd=here.path, status=1).stderr.startswith(f"sync-server: {file}: ")


def test_publish_of_bytes_that_are_no_text(here: Place) -> None:
    assert "not JSON" in run("publish", "-", cwd=here.path, env=here.env, stdin=b"\xff\xfe\x00", status=1).stderr


def test_publish_to_a_server_that_is_not_there(here: Place) -> None:
    told = run("publish", "-", "--url", "http://127.0.0.1:1", cwd=here.path, stdin=JSON_LINE, status=1).stderr
    assert "does not answer" in told
    assert not (here.path / "sync.db").exists()


def test_publish_beside_a_server_on_another_port_says_who_has_the_log(server: SyncServer) -> None:
    told = run("publish", "-", cwd=server.directory, env=FREE_PORT, stdin=JSON_LINE, status=2).stderr
    assert "in use by another sync-server" in told


# -- tail -----------------------------------------------------------------------------------------------


def test_tail_prints_one_envelope_a_line_and_survives_a_restart(server: SyncServer, tmp_path: Path) -> None:
    with httpx2.Client(base_url=server.base_url, trust_env=False) as client:
        published(client, EVENT | {"data": {"newStage": "كولا", "n": 0}})
        with Running("tail", "--after", "earliest", "--url", server.base_url, cwd=tmp_path) as tail:
            tail.wait_for('"n":0')
            published(client, EVENT | {"data": {"newStage": "x", "n": 1}})
            tail.wait_for('"n":1')
            server.kill()
            tail.wait_for("trying again", where="notes")
            server.start()
            published(client, *(EVENT | {"data": {"newStage": "x", "n": n}} for n in range(2, 50)))
            tail.wait_for('"n":49')
            server.terminate()
            server.start()
            published(client, EVENT | {"data": {"newStage": "x", "n": 50}})
            tail.wait_for('"n":50')
            assert tail.end(signal.SIGINT) == 130
    envelopes = [json.loads(line) for line in tail.lines]
    assert [envelope["data"]["n"] for envelope in envelopes] == list(range(51))
    assert "كولا" in tail.lines[0]


def test_tail_waits_for_a_server_that_is_not_there_yet(server: SyncServer, tmp_path: Path) -> None:
    server.kill()
    with Running("tail", "--url", server.base_url, "--types", "note", cwd=tmp_path) as tail:
        tail.wait_for("trying again", where="notes")
        server.start()
        tail.wait_for("connected again", where="notes")
        with httpx2.Client(base_url=server.base_url, trust_env=False) as client:
            published(client, EVENT, {"eventType": "note", "data": {"n": 1}})
        tail.wait_for("note")
        assert tail.end(signal.SIGTERM) in (-signal.SIGTERM, 128 + signal.SIGTERM)
    assert len(tail.lines) == 1


def test_tail_from_a_cursor_that_leads_nowhere_says_reset(server: SyncServer, tmp_path: Path) -> None:
    with Running("tail", "--after", "كولا\n", "--url", server.base_url, cwd=tmp_path) as tail:
        tail.wait_for("reset", where="notes")
        assert '"reason":"malformed"' in tail.notes[0]


def test_tail_with_a_filter_that_cannot_be(server: SyncServer, tmp_path: Path) -> None:
    told = run("tail", "--types", "a b", "--url", server.base_url, cwd=tmp_path, status=1).stderr
    assert "eventTypes: 'a b' cannot be" in told


def test_tail_of_what_is_no_sync_server(tmp_path: Path) -> None:
    (tmp_path / "api/v1/sync").mkdir(parents=True)
    with Stranger(tmp_path) as url:
        told = run("tail", "--url", url, cwd=tmp_path, status=1).stderr
    assert "does not answer as a sync-server" in told


@pytest.mark.parametrize(
    "url", ["foo", "", "ftp://x", "127.0.0.1:8000", "localhost:8000", "http://", "http://x:99999", "http://[::1"]
)
@pytest.mark.parametrize("command", [["tail"], ["publish", "-"]])
def test_an_url_that_is_none_is_told(here: Place, command: list[str], url: str) -> None:
    done = run(*command, "--url", url, cwd=here.path, stdin=JSON_LINE, status=2)
    assert done.stderr.startswith("sync-server: this is no URL: ")
    assert len(done.stderr.splitlines()) == 1


@contextmanager
def mute_port() -> Iterator[str]:
    """A port at which every connection is reset after the first bytes; httpx2 has no words for that."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def hang_up() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    with connection:
                        connection.recv(65536)
                        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        thread = threading.Thread(target=hang_up)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_a_port_that_speaks_no_http_is_told_with_a_reason(here: Place) -> None:
    with mute_port() as url:
        told = run("publish", "-", "--url", url, cwd=here.path, stdin=JSON_LINE, status=1).stderr
        assert re.search(r"the server does not answer: \w+", told)
        with Running("tail", "--url", url, cwd=here.path) as tail:
            tail.wait_for("trying again", where="notes")
            assert re.match(rf"no connection to {url} \(\w.*\); trying again", tail.notes[0])
            tail.end(signal.SIGINT)


class Stranger:
    """Python's own file server on a port."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def __enter__(self) -> str:
        with socket.create_server(("127.0.0.1", 0)) as found:
            port = found.getsockname()[1]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1", "-d", str(self._directory)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

        def answers() -> bool:
            try:
                return httpx2.get(f"http://127.0.0.1:{port}/", trust_env=False).status_code == 200
            except httpx2.TransportError:
                return False

        wait_until(answers)
        return f"http://127.0.0.1:{port}"

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()


def test_a_closed_pipe_ends_tail_without_a_word(server: SyncServer, tmp_path: Path) -> None:
    with httpx2.Client(base_url=server.base_url, trust_env=False) as client:
        published(client, *[EVENT] * 1000)
        command = [sys.executable, "-m", "sync_server", "tail", "--after", "earliest", "--url", server.base_url]
        with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as tail:
            assert tail.stdout is not None
            assert tail.stderr is not None
            assert b"stage_change" in tail.stdout.readline()
            tail.stdout.close()
            published(client, *[EVENT] * 1000)
            assert tail.wait(30) != 0
            assert tail.stderr.read() == b""


# -- doctor ---------------------------------------------------------------------------------------------


def test_doctor_finds_nothing_wrong_with_a_good_log(place: Place) -> None:
    run("init", cwd=place.path, env=place.env)
    run("publish", "-", cwd=place.path, env=place.env, stdin=JSON_LINE)
    told = run("doctor", cwd=place.path, env=place.env).stdout
    assert "FAIL" not in told
    for text in ("configuration: store", "server: none runs", "log: answers in", "clock: "):
        assert text in told


def test_doctor_makes_nothing(here: Place) -> None:
    assert "is not there yet" in run("doctor", cwd=here.path, env=here.env).stdout
    assert list(here.path.iterdir()) == []


def test_doctor_beside_a_running_server(server: SyncServer) -> None:
    told = run("doctor", cwd=server.directory, env={"SYNC_SERVER__PORT": str(server.port)}).stdout
    assert f"server: {server.base_url} is ready" in told


def test_doctor_tells_a_clock_that_was_ahead(here: Place) -> None:
    run("publish", "-", cwd=here.path, env=here.env, stdin=JSON_LINE)
    with sqlite3.connect(here.path / "sync.db") as db:
        db.execute("UPDATE events SET time_ms = ?", ((time.time() + 3600) * 1000 // 1,))
    db.close()
    told = run("doctor", cwd=here.path, env=here.env, status=1).stdout
    assert re.search(r"FAIL clock: .* is 3\d\d\d s ahead: set the clock", told)


def test_doctor_tells_a_log_that_is_none(here: Place) -> None:
    (here.path / "sync.db").write_text("no database at all" * 100)
    assert "FAIL log: " in run("doctor", cwd=here.path, env=here.env, status=1).stdout


def test_doctor_tells_a_log_that_went_back(here: Place) -> None:
    run("publish", "-", cwd=here.path, env=here.env, stdin=JSON_LINE)
    backup = (here.path / "sync.db").read_bytes()
    run("publish", "-", cwd=here.path, env=here.env, stdin=JSON_LINE)
    for file in here.path.glob("sync.db-*"):
        file.unlink()
    (here.path / "sync.db").write_bytes(backup)
    told = run("doctor", cwd=here.path, env=here.env, status=1).stdout
    assert "sync-server log new-epoch" in told
    run("log", "new-epoch", cwd=here.path, env=here.env)
    run("doctor", cwd=here.path, env=here.env)


def test_doctor_tells_a_place_that_cannot_hold_a_log(here: Place) -> None:
    (here.path / "file").write_text("")
    env = here.env | {"SYNC_LOG__SQLITE__PATH": "file/sync.db"}
    assert "FAIL log: file/sync.db cannot be made" in run("doctor", cwd=here.path, env=env, status=1).stdout


def test_doctor_tells_a_mongodb_that_is_not_there_without_its_password(here: Place) -> None:
    uri = "mongodb://user:hunter2@127.0.0.1:1/"
    env = here.env | {"SYNC_LOG__STORE": "mongodb", "SYNC_LOG__MONGODB__URI": uri}
    done = run("doctor", cwd=here.path, env=env, status=1)
    assert re.search(r"FAIL log: .*127\.0\.0\.1:1", done.stdout)
    assert "hunter2" not in done.stdout + done.stderr


def test_doctor_tells_a_mongodb_uri_that_is_none(here: Place) -> None:
    env = here.env | {"SYNC_LOG__STORE": "mongodb", "SYNC_LOG__MONGODB__URI": "mongodb://a:b:c:hunter2@x"}
    done = run("doctor", cwd=here.path, env=env, status=2)
    assert "sync-server: [log.mongodb] uri: " in done.stderr
    assert "hunter2" not in done.stdout + done.stderr


def test_doctor_ends_with_2_for_a_uri_of_another_scheme_too(here: Place) -> None:
    env = here.env | {"SYNC_LOG__MONGODB__URI": "http://foo"}
    assert "[log.mongodb] uri: has to begin with mongodb://" in run("doctor", cwd=here.path, env=env, status=2).stderr


# -- log ------------------------------------------------------------------------------------------------


def test_log_trim_keeps_the_newest(place: Place) -> None:
    run("publish", "-", cwd=place.path, env=place.env, stdin=lines(*[EVENT] * 10))
    told = run("log", "trim", "--keep", "3", cwd=place.path, env=place.env).stdout
    assert told == "Removed 7 events: floor 7, head 10.\n"
    assert "floor 7, head 10, 3 events" in run("log", "info", cwd=place.path, env=place.env).stdout
    assert "floor 10, head 10." in run("log", "trim", "--keep", "0", cwd=place.path, env=place.env).stdout


def test_log_new_epoch_keeps_the_events_under_another_name(place: Place) -> None:
    before = run("publish", "-", cwd=place.path, env=place.env, stdin=JSON_LINE).stdout.partition(".")[0]
    told = run("log", "new-epoch", cwd=place.path, env=place.env).stdout
    after = re.search(r"epoch (\w{8}), head 1", told)
    assert after is not None
    assert after[1] != before
    assert f"epoch {after[1]}" in run("log", "info", cwd=place.path, env=place.env).stdout


def test_a_tenant_that_is_not_there_is_not_made(place: Place) -> None:
    run("init", cwd=place.path, env=place.env)
    for command in (["trim", "--keep", "0"], ["new-epoch"]):
        told = run("log", *command, "--tenant", "nobody", cwd=place.path, env=place.env, status=2).stderr
        assert "There is no tenant 'nobody'" in told
    assert "nobody" not in run("log", "info", cwd=place.path, env=place.env).stdout


@pytest.mark.parametrize("command", [["info"], ["trim", "--keep", "1"], ["new-epoch"]])
def test_looking_after_a_log_does_not_make_one(here: Place, command: list[str]) -> None:
    told = run("log", *command, cwd=here.path, status=2).stderr
    assert "There is no log at sync.db" in told
    assert list(here.path.iterdir()) == []


def test_log_trim_beside_a_running_server_resets_those_below(server: SyncServer) -> None:
    with httpx2.Client(base_url=server.base_url, trust_env=False) as client:
        first = published(client, *[EVENT] * 5)[0]["id"]
        run("log", "trim", "--keep", "1", cwd=server.directory)
        wait_until(lambda: client.get("/api/v1/sync/poll", params={"after": first}).status_code == 410)
        assert len(read(client, after="earliest")) == 1
