"""`sync-server key` and `sync-server user`: beside a running server, on each store; and what they never show."""

import asyncio
import json
import re
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import httpx2
import pytest
from typer.testing import CliRunner

from sync_server.cli import app
from sync_server.console.tail import follow
from sync_server.console.talk import Refused
from sync_server.settings import Settings
from tests.access.credentials import ACCESS, CONFIG, token
from tests.fixtures import MongoDatabase
from tests.server.commands import run
from tests.server.publishing import EVENT
from tests.servers import SyncServer, wait_until
from tests.serving import serving, sqlite_settings
from tests.streams import eventually

ME = "/api/v1/auth/me"
LOGIN = "/api/v1/auth/login"
PASSWORD = "correct horse battery"


class Done(NamedTuple):
    out: str
    err: str
    why: str


Command = Callable[..., Done]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs one in this process, in an empty directory with a configuration and a log."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sync.toml").write_text(CONFIG, encoding="utf-8")

    def invoke(*arguments: str, stdin: str = "", fails: bool = False) -> Done:
        result = CliRunner(env={"COLUMNS": "200"}).invoke(app, [*arguments], input=stdin)
        assert (result.exit_code != 0) == fails, (result.output, result.exception)
        return Done(result.stdout, result.stderr, f"{result.exception or ''} {result.stderr}")

    invoke("init")
    return invoke


@pytest.fixture(params=["sqlite", "mongodb"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SyncServer]:
    """A running server in the working directory of the commands."""
    config = CONFIG
    if request.param == "mongodb":
        database: MongoDatabase = request.getfixturevalue("mongodb_database")
        config += f'[log]\nstore = "mongodb"\n[log.mongodb]\nuri = "{database.uri}"\ndatabase = "{database.name}"\n'
    with SyncServer(tmp_path, config=config) as server:
        yield server
        assert "Traceback" not in server.log_text()


def status(server: SyncServer, token: str) -> int:
    reply = httpx2.get(f"{server.base_url}{ME}", headers={"Authorization": f"Bearer {token}"}, trust_env=False)
    return reply.status_code


def test_keys_and_users_beside_a_running_server(
    server: SyncServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def do(*arguments: str, stdin: str = "") -> str:
        result = CliRunner(env={"COLUMNS": "200"}).invoke(app, [*arguments], input=stdin)
        assert result.exit_code == 0, (result.output, result.exception)
        return result.stdout

    def login(password: str) -> int:
        given = {"username": "ann", "password": password}
        return httpx2.post(f"{server.base_url}{LOGIN}", json=given, trust_env=False).status_code

    def known(*keys: str) -> None:
        """What was done before these keys is known with them: no attempt to log in is wasted on waiting."""
        for key in keys:
            wait_until(lambda key=key: status(server, key) == 200, timeout_s=2.5)

    do("user", "add", "ann", "--role", "viewer", stdin=f"{PASSWORD}\n")
    first, second = [do("key", "new", "till", "--role", "cashier").strip() for _ in range(2)]
    known(first, second)
    assert login(PASSWORD) == 200
    do("user", "passwd", "ann", stdin="another long password\n")
    do("key", "revoke", first.split("_")[1])
    wait_until(lambda: status(server, first) == 401, timeout_s=2.5)
    assert status(server, second) == 200
    assert login("another long password") == 200
    assert login(PASSWORD) == 401
    do("user", "delete", "ann")
    assert do("user", "list") == ""
    assert first.split("_")[1] not in do("key", "list")


# -- keys ---------------------------------------------------------------------------------------------------


def test_a_key_is_shown_once_and_kept_as_a_digest(command: Command, tmp_path: Path) -> None:
    done = command("key", "new", "till-3", "--role", "cashier", "--role", "bay", "--bound", "bayID=B1")
    key = done.out.strip()
    assert re.fullmatch(r"osk_[a-z0-9]{10}_[A-Za-z0-9_-]{43}", key)
    assert "not shown again" in done.err
    listed = command("key", "list").out
    assert listed == f"{key.split('_')[1]} till-3 (default) cashier,bay bayID=B1 for ever\n"
    secret = key.split("_", 2)[2]
    with sqlite3.connect(tmp_path / "sync.db") as db:
        stored = "".join(str(row) for table in ("events", "documents") for row in db.execute(f"SELECT * FROM {table}"))
    assert "till-3" in stored
    assert secret not in stored


def test_a_key_has_its_day(command: Command) -> None:
    command("key", "new", "guest", "--role", "viewer", "--expires", "2h")
    assert re.search(r" guest \(default\) viewer until 20\d\d-", command("key", "list").out)
    assert "a duration" in command("key", "new", "guest", "--role", "viewer", "--expires", "soon", fails=True).err


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--role", "boss"], "no role 'boss'; there are admin, bay"),
        ([], "at least one --role"),
        (["--role", "viewer", "--tenant", "third"], "no tenant 'third'; there are default, other"),
        (["--role", "viewer", "--bound", "B1"], "cannot be accepted"),
        (["--role", "viewer", "--bound", "shoe=1"], "cannot be accepted"),
    ],
)
@pytest.mark.parametrize("what", [["key", "new", "till"], ["user", "add", "ann"]])
def test_what_the_configuration_does_not_know_is_refused(
    command: Command, what: list[str], options: list[str], why: str
) -> None:
    assert why in command(*what, *options, stdin=f"{PASSWORD}\n", fails=True).why
    assert command("key", "list").out == command("user", "list").out == ""


def test_a_binding_of_another_form_is_asked_for_by_example(command: Command, tmp_path: Path) -> None:
    told = run("key", "new", "till", "--role", "viewer", "--bound", "tillID", cwd=tmp_path, status=1).stderr
    assert "bound[0]: has to be KEY=ID, such as tillID=till-1; KEY is one of orderID," in " ".join(told.split())


def test_an_unknown_key_cannot_be_revoked(command: Command) -> None:
    assert "There is no api key nothing" in command("key", "revoke", "nothing", fails=True).why


def test_with_an_open_server_it_is_said_that_keys_have_no_effect(command: Command, tmp_path: Path) -> None:
    (tmp_path / "sync.toml").write_text("", encoding="utf-8")
    assert "lets everybody in" in command("key", "new", "till", "--role", "viewer").err


# -- users --------------------------------------------------------------------------------------------------


def test_a_user_is_added_changed_and_deleted(command: Command) -> None:
    command("user", "add", "ann", "--role", "viewer", "--tenant", "other", stdin=f"{PASSWORD}\n")
    assert command("user", "list").out == "ann (other) viewer\n"
    why = command("user", "add", "ann", "--role", "viewer", "--tenant", "other", stdin=f"{PASSWORD}\n", fails=True).why
    assert "There is already a user other/ann" in why
    command("user", "access", "ann", "--role", "bay", "--bound", "bayID=B1", "--tenant", "other")
    assert command("user", "list").out == "ann (other) bay bayID=B1\n"
    command("user", "delete", "ann", "--tenant", "other")
    assert command("user", "list").out == ""
    for what in (["passwd", "ann"], ["access", "ann", "--role", "bay"], ["delete", "ann"]):
        assert "There is no user default/ann" in command("user", *what, stdin=f"{PASSWORD}\n", fails=True).why


def test_what_a_newer_server_wrote_is_told_and_not_changed(command: Command, tmp_path: Path) -> None:
    for name in ("ann", "bob"):
        command("user", "add", name, "--role", "viewer", stdin=f"{PASSWORD}\n")
    key = command("key", "new", "till", "--role", "viewer").out.split("_")[1]
    with sqlite3.connect(tmp_path / "sync.db") as db:
        newer = """UPDATE documents SET body = json_set(body, '$.roles', json('{"viewer": 1}')) WHERE id IN (?, ?)"""
        assert db.execute(newer, ("default/ann", key)).rowcount == 2
    users, keys = command("user", "list"), command("key", "list")
    assert users.out.endswith("\nbob (default) viewer\n")
    assert ("ann (default)" in users.out, "till (default)" in keys.out) == (False, False)
    assert "The user default/ann was written by a newer version of this server: it lets nobody in here." in users.err
    assert f"The api key {key} was written by a newer version of this server" in keys.err
    for what in (["user", "passwd", "ann"], ["user", "access", "ann", "--role", "bay"], ["key", "revoke", key]):
        why = command(*what, stdin=f"{PASSWORD}\n", fails=True).why
        assert "was written by a newer version of this server" in why


@pytest.mark.parametrize("password", ["", "short", "x" * 257])
def test_a_password_has_its_length(command: Command, password: str) -> None:
    done = command("user", "add", "ann", "--role", "viewer", stdin=f"{password}\n", fails=True)
    assert "10 to 256 characters" in done.err
    assert command("user", "list").out == ""


def test_no_command_takes_or_shows_a_password(command: Command, tmp_path: Path) -> None:
    done = command("user", "add", "ann", "--role", "viewer", stdin=f"{PASSWORD}\n")
    assert PASSWORD not in "".join(done)
    assert "argon2" not in command("user", "list").out
    with sqlite3.connect(tmp_path / "sync.db") as db:
        stored = "".join(str(row) for table in ("events", "documents") for row in db.execute(f"SELECT * FROM {table}"))
    assert "$argon2id$" in stored
    assert PASSWORD not in stored
    for what in ("add", "passwd"):
        assert "--password" not in CliRunner(env={"COLUMNS": "200"}).invoke(app, ["user", what, "--help"]).output


@pytest.mark.parametrize("name", ["", " ann", "a,b", "a\nb", "x" * 129, "key:abc"])
def test_a_name_of_another_form_is_refused(command: Command, name: str) -> None:
    command("user", "add", name, "--role", "viewer", stdin=f"{PASSWORD}\n", fails=True)
    assert command("user", "list").out == ""


# -- as real processes --------------------------------------------------------------------------------------


def test_publish_shows_its_token_and_says_when_it_needs_one(tmp_path: Path) -> None:
    with SyncServer(tmp_path, config=CONFIG) as server:
        event = json.dumps(EVENT)
        assert "Say who you are" in run("publish", "-", cwd=tmp_path, env=at(server), stdin=event, status=1).stderr
        env = at(server) | {"SYNC_CLIENT_TOKEN": token("integrator")}
        assert "1 event published" in run("publish", "-", cwd=tmp_path, env=env, stdin=event).stderr


def at(server: SyncServer) -> dict[str, str]:
    return {"SYNC_SERVER__PORT": str(server.port)}


async def test_tail_shows_its_token(tmp_path: Path) -> None:
    async with serving(sqlite_settings(tmp_path, access=ACCESS)) as served:
        settings = Settings.model_validate({"server": {"port": served.port}})
        shown: list[str] = []
        await served.publish(EVENT)

        async def tail(**how: str) -> None:
            await follow(settings, after="earliest", types=None, url=None, show=shown.append, note=print, **how)

        with pytest.raises(Refused, match="Say who you are"):
            await tail()
        following = asyncio.create_task(tail(token=token("viewer")))
        await eventually(lambda: len(shown) == 1)
        following.cancel()
        await asyncio.wait([following])
