"""``sync-server verify``: a log that is as it should be, and each way in which one can differ."""

import re
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import httpx2
import pytest

from sync_core.domain.catalog import DOMAIN
from sync_server.console.verify import Report, verify
from sync_server.log.base import EventLog
from sync_server.log.open import open_log
from sync_server.log.records import StoredEvent
from tests.server.commands import run
from tests.serving import serving, sqlite_settings

ITEM = {"sku": "S", "name": "Wash", "quantity": 1, "unitPrice": "9.50"}


@pytest.fixture
async def shop(tmp_path: Path) -> Path:
    """The file of a log with an order that has moved on, one that was deleted, and a queue."""
    settings = sqlite_settings(tmp_path)
    async with serving(settings) as server, httpx2.AsyncClient(base_url=server.url, trust_env=False) as http:
        for method, path, body in (
            ("POST", "/orders", {"orderID": "A", "items": [ITEM]}),
            ("POST", "/orders", {"orderID": "B"}),
            ("POST", "/queues", {"queueID": "Q", "name": "Queue"}),
            ("POST", "/queues/Q/entries", {"orderID": "A"}),
            ("DELETE", "/orders/B", {}),
            ("POST", "/orders/A/stage", {"newStage": "in_progress"}),
        ):
            response = await http.request(method, f"/api/v1{path}", json=body)
            assert response.is_success, response.text
    return tmp_path / "sync.db"


@asynccontextmanager
async def opened(directory: Path) -> AsyncIterator[EventLog]:
    event_log: EventLog = open_log(sqlite_settings(directory).log, exclusive=False)
    await event_log.open()
    try:
        yield event_log
    finally:
        await event_log.aclose()


async def checked(file: Path) -> Report:
    async with opened(file.parent) as event_log:
        return await verify(event_log, "default", DOMAIN)


def change(file: Path, statement: str) -> None:
    with sqlite3.connect(file) as db:
        assert db.execute(statement).rowcount > 0


async def test_a_log_that_commands_made_has_no_difference(shop: Path) -> None:
    report = await checked(shop)
    assert report.findings == []
    assert (report.documents, report.uncovered) == (3, 0)
    assert report.events > 6


@pytest.mark.parametrize(
    ("statement", "finding"),
    [
        ("UPDATE documents SET body = replace(body, '9.50', '8.50') WHERE id = 'A'", "order A: .*another content"),
        ("UPDATE documents SET version = version - 1 WHERE id = 'A'", "order A: version 2 is stored, the log says 3"),
        ("DELETE FROM documents WHERE id = 'Q'", "queue Q: version .* but no document is stored"),
        ("DELETE FROM documents WHERE id = 'B'", "order B: version 2 is in the log"),
        ("UPDATE documents SET deleted = 0 WHERE id = 'B'", "order B: is there, the log says otherwise"),
        ("UPDATE documents SET seq = 1 WHERE id = 'Q'", "queue Q: points at event 1"),
        ("UPDATE documents SET id = 'X' WHERE id = 'Q'", "queue X: .* no event of the log carries it"),
        ("DELETE FROM events WHERE seq = 2", "events 2 to 2 are missing"),
        ("UPDATE events SET time_ms = 1 WHERE seq = 3", "event 3: its time lies before"),
        ("UPDATE events SET tail = '\"data\":{}}' WHERE seq = 1", "event 1: does not carry order A"),
    ],
)
async def test_what_differs_is_named(shop: Path, statement: str, finding: str) -> None:
    change(shop, statement)
    report = await checked(shop)
    assert report.finding_count >= 1
    assert any(re.search(finding, found) for found in report.findings), report.findings


async def test_documents_older_than_the_log_are_counted_and_no_difference(shop: Path) -> None:
    async with opened(shop.parent) as event_log:
        bounds = await event_log.ensure("default")
        await event_log.trim("default", bounds.head)
    report = await checked(shop)
    assert report.findings == []
    assert report.uncovered == report.documents == 3


def test_the_command_tells_and_exits_with_1_where_something_differs(shop: Path) -> None:
    fine = run("verify", cwd=shop.parent)
    assert "3 documents: no difference" in fine.stdout
    change(shop, "DELETE FROM documents WHERE id = 'Q'")
    wrong = run("verify", cwd=shop.parent, status=1)
    assert "1 differences" in wrong.stdout
    assert "  - queue Q: " in wrong.stdout


def test_the_command_refuses_a_tenant_that_is_not_there(shop: Path) -> None:
    refused = run("verify", "--tenant", "nobody", cwd=shop.parent, status=2)
    assert "nobody" in refused.stderr


class Overtaken:
    """An event log to which *meanwhile* happens before it is read for the time *number* (from 0)."""

    def __init__(self, event_log: EventLog, meanwhile: Callable[[], Awaitable[None]], *, number: int) -> None:
        self._log = event_log
        self._meanwhile = meanwhile
        self._left = number

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    async def read(self, tenant: str, *, after: int, limit: int) -> list[StoredEvent]:
        if self._left == 0:
            await self._meanwhile()
        self._left -= 1
        return await self._log.read(tenant, after=after, limit=1)


async def trim_and_sweep(event_log: EventLog, *, kept: int) -> None:
    head = (await event_log.ensure("default")).head
    await event_log.trim("default", head - kept)
    await event_log.sweep("default", now_ms=0)


@pytest.mark.parametrize("kept", [0, 1])
@pytest.mark.parametrize("number", [0, 1, 4, 6])
async def test_what_retention_takes_away_meanwhile_is_no_difference(shop: Path, number: int, kept: int) -> None:
    async with opened(shop.parent) as event_log:
        log = Overtaken(event_log, lambda: trim_and_sweep(event_log, kept=kept), number=number)
        report = await verify(cast(EventLog, log), "default", DOMAIN)
    assert report.findings == []
    assert report.documents == 2


async def test_what_is_made_anew_after_its_tombstone_is_no_difference(tmp_path: Path) -> None:
    order = {"orderID": "A"}
    async with (
        serving(sqlite_settings(tmp_path)) as server,
        httpx2.AsyncClient(base_url=f"{server.url}/api/v1", trust_env=False) as http,
        opened(tmp_path) as event_log,
    ):

        async def make_anew() -> None:
            await trim_and_sweep(event_log, kept=0)
            assert (await http.post("/orders", json=order)).json()["order"]["version"] == 1

        assert (await http.post("/orders", json=order)).is_success
        assert (await http.delete("/orders/A")).is_success
        log = Overtaken(event_log, make_anew, number=2)
        report = await verify(cast(EventLog, log), "default", DOMAIN)
    assert report.findings == []
    assert (report.events, report.documents) == (3, 1)
