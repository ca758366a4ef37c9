"""What every test may ask for: a MongoDB, a Chromium, and respx on httpx2.

Run in parallel, each process has a mongod and a Chromium of its own, started when a test first asks for them.

SYNC_TEST_MONGOD        path of the mongod to run
SYNC_TEST_MONGODB_URI   a running replica set to use where one node is enough; nothing is started for those
SYNC_TEST_NO_SKIP=1     a skipped test is a failed one (CI: what is not run is not green)
"""

import os
import shutil
import sys
import uuid
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TypeVar

import httpx2
import pytest
import pytest_asyncio
from hypothesis import settings
from playwright.async_api import Browser, async_playwright
from pymongo import MongoClient

from tests.mongod import External, ReplicaSet
from tests.mongod_binary import unavailable_reason


def _alias_httpx() -> None:
    """Makes respx work on httpx2: `import httpx` means httpx2 from here on.

    It has to come before anything imports httpx; but pytest loads respx's own plugin before this one,
    and that imports the real one. What it loaded is forgotten, to be imported again on httpx2.
    """
    if sys.modules.get("httpx", httpx2) is not httpx2:
        for name in list(sys.modules):
            if name.partition(".")[0] in {"httpcore", "httpx", "respx"}:
                del sys.modules[name]
    httpx2.alias_httpx()


_alias_httpx()

# Replaces the fixture of the plugin that pytest loaded, which mocks the httpx that was forgotten.
from respx.plugin import respx_mock as respx_mock  # noqa: E402

# How long an example takes says nothing on a machine that runs other tests meanwhile.
settings.register_profile("order-sync", settings.default, deadline=None)
settings.load_profile("order-sync")

CHROMIUM_ARGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
                 "--disable-background-networking", "--disable-component-update"]  # fmt: skip

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)


class MongoDatabase(NamedTuple):
    """Where a test may write: nobody else uses the database, and it is dropped afterwards."""

    uri: str
    name: str


def _no_skip() -> bool:
    return os.environ.get("SYNC_TEST_NO_SKIP") == "1"


def missing(reason: str) -> NoReturn:
    if _no_skip():
        pytest.fail(f"{reason} (SYNC_TEST_NO_SKIP=1)", pytrace=False)
    pytest.skip(reason)


def _no_skip_report(report: Report) -> Report:
    # An expected failure (xfail) counts as skipped in pytest; it ran, and is none of ours.
    if _no_skip() and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{reason} (a failure: SYNC_TEST_NO_SKIP=1)"
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return _no_skip_report((yield))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return _no_skip_report((yield))


@pytest.fixture(scope="session")
def mongod() -> Iterator[ReplicaSet | External]:
    """One node for the whole session, fail points allowed; or the one of SYNC_TEST_MONGODB_URI, as it is."""
    if uri := os.environ.get("SYNC_TEST_MONGODB_URI"):
        with MongoClient[dict[str, Any]](uri, serverSelectionTimeoutMS=10_000) as client:
            found = client.admin.command("getParameter", 1, enableTestCommands=1)
        yield External(uri, test_commands=bool(found["enableTestCommands"]))
        return
    if reason := unavailable_reason():
        missing(reason)
    with ReplicaSet(test_commands=True) as replicas:
        yield replicas


@pytest.fixture
def mongodb_database(mongod: ReplicaSet | External) -> Iterator[MongoDatabase]:
    """A fresh database: (uri, name)."""
    database = MongoDatabase(mongod.uri, f"test_{uuid.uuid4().hex}")
    yield database
    with MongoClient[dict[str, Any]](mongod.uri, serverSelectionTimeoutMS=10_000) as client:
        if isinstance(mongod, ReplicaSet):
            # What a test may leave behind would make the drop fail, or wait a minute for an open transaction.
            client.admin.command("configureFailPoint", "failCommand", mode="off")
            client.admin.command("killAllSessions", [])
        client.drop_database(database.name)


@pytest.fixture
def replica_set() -> Iterator[ReplicaSet]:
    """Three nodes of the test's own, to be killed (3 s to make)."""
    if reason := unavailable_reason():
        missing(reason)
    with ReplicaSet(nodes=3, test_commands=True) as replicas:
        yield replicas


@pytest.fixture(scope="session")
def chromium_path() -> Path:
    """The browser that page tests drive. Chromium without its windows is the same engine for two thirds of the CPU."""
    for name in ("chromium-headless-shell", "/usr/bin/chromium", "chromium", "google-chrome"):
        if found := shutil.which(name):
            return Path(found)
    missing("No browser: no chromium or google-chrome on PATH.")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser(chromium_path: Path) -> AsyncIterator[Browser]:
    """One Chromium for the whole session; its tests run in the session's event loop."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=str(chromium_path), args=CHROMIUM_ARGS)
        yield browser
        await browser.close()
