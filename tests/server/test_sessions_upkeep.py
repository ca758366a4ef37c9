"""What becomes of sessions by themselves, on both stores: left when nobody touches them, deleted with their user."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from time import time_ns
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from typer.testing import CliRunner

from sync_core.domain.catalog import DOMAIN
from sync_core.domain.document import Ref
from sync_core.domain.sessions import CreateSession, OrderSession, SessionSlot, create
from sync_core.problems import Conflict
from sync_server import app as app_module
from sync_server.access.caller import Caller
from sync_server.access.rights import OPEN_RIGHTS
from sync_server.accounts.records import ACCOUNTS, ACCOUNTS_TENANT, AddUser, DeleteUser, User, delete_user, user_id
from sync_server.cli import app
from sync_server.commands.dispatch import Call, Dispatch
from sync_server.console.accounts import Accounts
from sync_server.log.appender import Appender, AppendFailed
from sync_server.log.base import DocumentPage, EventLog, Selection
from sync_server.log.open import open_log
from sync_server.metrics import Metrics
from sync_server.sessions import DeletedUsers
from tests.access.credentials import CONFIG, bearer
from tests.fixtures import MongoDatabase
from tests.server.shop import Shop, new_id
from tests.servers import SyncServer, wait_until
from tests.serving import mongodb_settings, serving, sqlite_settings

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


class Place:
    """The parts of a process that know of accounts and of the shop, in a tenant of its own."""

    def __init__(self, event_log: EventLog) -> None:
        self.log = event_log
        self.appender = Appender(
            event_log, on_commit=lambda *_: None, metrics=Metrics(CollectorRegistry()), wall_ms=wall_ms
        )
        self.accounts, self.shop = Dispatch(ACCOUNTS, self.appender), Dispatch(DOMAIN, self.appender)
        self.console = Accounts(event_log, self.appender)
        self.tenant = f"t-{uuid.uuid4().hex[:8]}"

    async def add(self, name: str) -> None:
        await self.console.add_user(AddUser(name=name, tenant=self.tenant, password="-"))

    async def delete(self, name: str) -> None:
        """As if killed right after it."""
        await self.console.do(delete_user, DeleteUser(record=user_id(self.tenant, name)))

    async def cart(self, session: str, user: str) -> None:
        given = CreateSession(sessionID=session, userId=user)
        answer = await self.shop(Caller(self.tenant, "boss", OPEN_RIGHTS), Call(create, given))
        assert answer.refusal is None

    async def carts(self) -> list[str]:
        page = await self.log.documents(self.tenant, Selection((OrderSession.kind,)), after=None, limit=100)
        return [stored.id for stored in page.documents]

    async def slots(self) -> list[str]:
        page = await self.log.documents(self.tenant, Selection((SessionSlot.kind,)), after=None, limit=100)
        return [stored.id for stored in page.documents]


@pytest.fixture
async def place(event_log: EventLog) -> AsyncIterator[Place]:
    place = Place(event_log)
    yield place
    await place.appender.aclose()


async def test_what_a_kill_has_left_of_a_deleted_user_is_swept(place: Place) -> None:
    sweep = DeletedUsers(place.log, place.shop).sweep
    await sweep()
    for name in ("ann", "bob"):
        await place.add(name)
        await place.cart(f"{name}-1", name)
    await sweep()
    assert (await place.carts(), await place.slots()) == (["ann-1", "bob-1"], ["ann", "bob"])
    await place.delete("ann")
    await sweep()
    assert (await place.carts(), await place.slots()) == (["bob-1"], ["bob"])
    await place.cart("ann-2", "ann")  # by a process that did not know yet
    await sweep()
    assert await place.carts() == ["bob-1"]


async def test_who_is_added_again_finds_nothing_of_who_had_the_name_before(place: Place) -> None:
    await place.cart("bob-1", "bob")  # of somebody whom another provider knows
    for name in ("ann", "bob"):
        await place.add(name)
    await place.cart("ann-1", "ann")
    await place.delete("ann")
    await place.add("ann")
    assert (await place.carts(), await place.slots()) == (["bob-1"], ["bob"])
    with pytest.raises(Conflict):
        await place.add("bob")
    assert await place.carts() == ["bob-1"], "of somebody who is not deleted nothing is touched"
    await place.cart("ann-2", "ann")
    for _ in range(2):
        await DeletedUsers(place.log, place.shop).sweep()
    assert await place.carts() == ["ann-2", "bob-1"]


class Killed(Exception):
    """In the place of a kill -9."""


class Dying:
    """A log that takes *tenant*'s writes no more, as if the process had been killed before them."""

    def __init__(self, event_log: EventLog, tenant: str) -> None:
        self._log = event_log
        self._tenant = tenant

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    async def transact(self, tenant: str, group: Any, **more: Any) -> Any:
        if tenant == self._tenant:
            raise Killed
        return await self._log.transact(tenant, group, **more)


async def test_a_kill_while_a_user_is_added_again_leaves_no_user_with_old_sessions(place: Place) -> None:
    await place.add("ann")
    await place.cart("ann-1", "ann")
    await place.delete("ann")
    for dies, left in ((place.tenant, ["ann-1"]), (ACCOUNTS_TENANT, [])):
        dying = Place(Dying(place.log, dies))  # type: ignore[arg-type]
        dying.tenant = place.tenant
        with pytest.raises(AppendFailed):
            await dying.add("ann")
        await dying.appender.aclose()
        assert await place.carts() == left
        assert (await place.console.directory()).user(user_id(place.tenant, "ann")) is None
    await place.add("ann")


async def test_a_sweep_that_is_overtaken_by_a_new_account_leaves_it_alone(place: Place) -> None:
    """Between the moment in which it sees who is deleted and that in which it looks for the sessions."""
    await place.add("ann")
    await place.delete("ann")

    class Overtaken:
        def __getattr__(self, name: str) -> Any:
            return getattr(place.log, name)

        async def documents(self, tenant: str, selection: Selection, **more: Any) -> DocumentPage:
            if selection.kinds == (OrderSession.kind,):
                await place.add("ann")
                await place.cart("ann-1", "ann")
            return await place.log.documents(tenant, selection, **more)

    await place.cart("bob-1", "bob")
    await DeletedUsers(Overtaken(), place.shop).sweep()  # type: ignore[arg-type]
    assert await place.carts() == ["ann-1", "bob-1"]


async def test_who_was_deleted_is_forgotten_only_when_the_sessions_are_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a long stop, in which the time of the deletion's event was over."""
    monkeypatch.setattr(app_module, "RETENTION_INTERVAL_S", 0.05)
    settings = sqlite_settings(tmp_path, retention={"max_events": 1})
    event_log = open_log(settings.log)
    await event_log.open()
    place = Place(event_log)
    place.tenant = "default"
    await place.add("ann")
    await place.cart("ann-1", "ann")
    await place.delete("ann")
    await place.add("bob")
    await place.appender.aclose()
    await event_log.aclose()
    async with serving(settings) as served:
        log = served.application.event_log
        ann = Ref(User.kind, user_id("default", "ann"))

        async with asyncio.timeout(10):
            while (await log.load(ACCOUNTS_TENANT, [ann])).documents:
                await asyncio.sleep(0.01)
        page = await log.documents("default", Selection((OrderSession.kind,)), after=None, limit=100)
        assert page.documents == []
