"""What becomes of sessions by themselves, on both stores: left when nobody touches them, deleted with their user."""

import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from time import time_ns
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from typer.testing import CliRunner

from sync_core.domain.catalog import DOMAIN
from sync_core.domain.sessions import CreateSession, OrderSession, SessionSlot, create
from sync_server.access.caller import Caller
from sync_server.access.rights import OPEN_RIGHTS
from sync_server.accounts.logins import SYSTEM
from sync_server.accounts.records import ACCOUNTS, AddUser, DeleteUser, add_user, delete_user, user_id
from sync_server.cli import app
from sync_server.commands.dispatch import Call, Dispatch
from sync_server.log.appender import Appender
from sync_server.log.base import EventLog, Selection
from sync_server.log.open import open_log
from sync_server.metrics import Metrics
from sync_server.sessions import DeletedUsers
from tests.access.credentials import CONFIG, bearer
from tests.fixtures import MongoDatabase
from tests.server.shop import Shop, new_id
from tests.servers import SyncServer, wait_until
from tests.serving import mongodb_settings, sqlite_settings

ITEM: dict[str, Any] = {"sku": "COLA", "name": "كولا", "quantity": 1, "unitPrice": "2.50"}
PASSWORD = "correct horse battery"


@pytest.fixture(params=["sqlite", "mongodb"])
def log_config(request: pytest.FixtureRequest) -> str:
    """The configuration of an empty log."""
    if request.param == "sqlite":
        return ""
    database: MongoDatabase = request.getfixturevalue("mongodb_database")
    return f'[log]\nstore = "mongodb"\n[log.mongodb]\nuri = "{database.uri}"\ndatabase = "{database.name}"\n'


@pytest.fixture
def servers(log_config: str, tmp_path: Path) -> Iterator[list[SyncServer]]:
    """One on SQLite, two of one log on MongoDB; a session is stale after a second."""
    config = f'[sessions]\nstale_after = "1s"\n{log_config}'
    with SyncServer(tmp_path / "one", config=config) as one:
        if not log_config:
            yield [one]
            return
        with SyncServer(tmp_path / "two", config=config) as two:
            yield [one, two]


def test_what_nobody_touches_is_left_once_and_can_be_recovered(servers: list[SyncServer]) -> None:
    with Shop(servers[0].base_url) as shop:
        users = [new_id("user") for _ in range(3)]
        made = [shop.do("POST", "/order-sessions", {"userId": u, "items": [ITEM]})["order_session"] for u in users]
        left_ones = {"status": "pending_logout"}
        wait_until(lambda: len(shop.get("/order-sessions", **left_ones)["order_sessions"]) == 3, what="all are left")
        for session in made:
            left = shop.get(f"/order-sessions/{session['id']}")["order_session"]
            assert (left["version"], left["items"]) == (2, session["items"]), "by one of the processes"
            assert left["logoutTime"] == left["updatedAt"] > session["updatedAt"]
        assert shop.get("/session-slots")["session_slots"] == []
        back = shop.do("POST", f"/order-sessions/{made[0]['id']}/recover")["order_session"]
        assert (back["status"], back["items"]) == ("active", [ITEM])


def test_deleting_a_user_deletes_the_sessions(log_config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def do(*arguments: str, stdin: str = "") -> str:
        result = CliRunner(env={"COLUMNS": "200"}).invoke(app, [*arguments], input=stdin)
        assert result.exit_code == 0, (result.output, result.exception)
        return result.output

    with SyncServer(tmp_path, config=CONFIG + log_config) as server, Shop(server.base_url) as shop:
        do("user", "add", "ann", "--role", "cashier", stdin=f"{PASSWORD}\n")
        login = shop.http.post("/api/v1/auth/login", json={"username": "ann", "password": PASSWORD})
        ann = {"Authorization": f"Bearer {login.json()['token']}"}
        boss = bearer("admin", sub="boss")
        sold = shop.do("POST", "/order-sessions", {"items": [ITEM]}, **ann)["order_session"]
        shop.do("POST", f"/order-sessions/{sold['id']}/complete", **ann)
        session = shop.do("POST", "/order-sessions", {"items": [ITEM]}, **ann)["order_session"]
        other = shop.do("POST", "/order-sessions", {"userId": "bob"}, **boss)["order_session"]
        assert "2 order sessions" in do("user", "delete", "ann")
        for one, status in ((sold, 404), (session, 404), (other, 200)):
            assert shop.call("GET", f"/order-sessions/{one['id']}", headers=boss).status_code == status
        assert shop.call("GET", "/session-slots/ann", headers=boss).status_code == 404
        sales = shop.call("GET", "/transactions", headers=boss).json()["transactions"]
        assert [sale["sessionID"] for sale in sales] == [sold["id"]], "what was sold stays"


def wall_ms() -> int:
    return time_ns() // 1_000_000


@pytest.fixture(params=["sqlite", "mongodb"])
async def event_log(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[EventLog]:
    if request.param == "sqlite":
        settings = sqlite_settings(tmp_path)
    else:
        database: MongoDatabase = request.getfixturevalue("mongodb_database")
        settings = mongodb_settings(database.uri, database.name)
    event_log = open_log(settings.log)
    await event_log.open()
    yield event_log
    await event_log.aclose()


async def sessions_in(event_log: EventLog, tenant: str) -> list[str]:
    selection = Selection((OrderSession.kind, SessionSlot.kind))
    page = await event_log.documents(tenant, selection, after=None, limit=100)
    return [stored.id for stored in page.documents]


async def test_what_a_kill_has_left_of_a_deleted_user_is_swept(event_log: EventLog) -> None:
    appender = Appender(event_log, on_commit=lambda *_: None, metrics=Metrics(CollectorRegistry()), wall_ms=wall_ms)
    accounts, shop = Dispatch(ACCOUNTS, appender), Dispatch(DOMAIN, appender)
    tenant = f"t-{uuid.uuid4().hex[:8]}"
    sweep = DeletedUsers(event_log, shop).sweep
    await sweep()
    for name in ("ann", "bob"):
        await accounts(SYSTEM, Call(add_user, AddUser(name=name, tenant=tenant, password="-")))
        given = CreateSession(sessionID=f"{name}-1", userId=name)
        await shop(Caller(tenant, "boss", OPEN_RIGHTS), Call(create, given))
    await sweep()
    assert await sessions_in(event_log, tenant) == ["ann-1", "bob-1", "ann", "bob"]
    await accounts(SYSTEM, Call(delete_user, DeleteUser(record=user_id(tenant, "ann"))))
    await sweep()
    assert await sessions_in(event_log, tenant) == ["bob-1", "bob"]
    await appender.aclose()
