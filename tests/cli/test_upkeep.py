"""`sync-server doctor` and `log`."""

import re
import sqlite3
import time

import httpx2
import pytest

from tests.cli.places import JSON_LINE, Place, lines
from tests.server.commands import run
from tests.server.publishing import EVENT, published, read
from tests.servers import SyncServer, wait_until

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
