"""What a newer server has written, with a stage that this version does not know: a client of this version leaves the
document out, a page shows what it can of it, an older server gives it to readers as it is and does not let anybody
change it. Nothing else suffers.
"""

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser

from sync_client import State, SyncClient
from sync_client.errors import CommandFailed
from tests.changed_core import changed_core
from tests.dashboard.screen import Viewer
from tests.server.commands import run
from tests.server.shop import ITEM, Shop
from tests.servers import SyncServer
from tests.streams import eventually


def with_one_more_stage(text: str) -> str:
    text = text.replace('    CANCELLED = "cancelled"\n', '    CANCELLED = "cancelled"\n    ARCHIVED = "archived"\n')
    return (
        text
        + "\nNEXT_STAGES = {**NEXT_STAGES, Stage.COMPLETED: frozenset({Stage.ARCHIVED}), Stage.ARCHIVED: frozenset()}\n"
    )


@pytest.fixture(scope="module")
def newer(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a newer server."""
    return changed_core(tmp_path_factory.mktemp("newer"), "domain/orders.py", with_one_more_stage)


@pytest.fixture
def log(tmp_path: Path, newer: dict[str, str]) -> Iterator[SyncServer]:
    """A newer server, in whose log an order is archived and another one is not."""
    with SyncServer(tmp_path / "server", env=newer) as server, Shop(server.base_url) as shop:
        for order in ("archived", "plain"):
            shop.do("POST", "/orders", {"orderID": order, "items": [ITEM]})
        for stage in ("in_progress", "completed", "archived"):
            shop.do("POST", "/orders/archived/stage", {"newStage": stage})
        yield server


async def test_a_client_leaves_it_out_and_goes_on(
    log: SyncServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, logger="sync_client")

    def make() -> SyncClient:
        return SyncClient(log.base_url, cache_dir=tmp_path / "cache", replica=True, trust_env=False)

    async with make() as client:
        await client.wait_for(State.CONNECTED, timeout_s=20)
        await eventually(lambda: client.orders.fresh)
        assert [entry.document.id for entry in client.orders] == ["plain"]
        assert client.orders.get("archived") is None
        # A command about it shows nothing, and is the server's to decide.
        await (await client.orders.set_status("archived", "in a box")).done(10)
        refused = await client.orders.change_stage("archived", "completed")
        with pytest.raises(CommandFailed, match="is archived and cannot become completed"):
            await refused.done(10)
        await (await client.orders.set_status("plain", "ready")).done(10)  # nothing is held up
        await client.outbox.discard(refused.key)
    assert "document_unreadable" in caplog.text
    async with make() as client:  # and what the cache has kept of it harms nobody
        assert [entry.document.status for entry in client.orders] == ["ready"]
        assert client.orders.fresh


@pytest.mark.asyncio(loop_scope="session")
async def test_a_page_shows_what_it_can_of_it(log: SyncServer, browser: Browser) -> None:
    async with Viewer(browser, log.base_url) as viewer:
        screen = await viewer.open()
        await screen.shows(screen.card("plain", "initiated"))
        await screen.hides(screen.card("archived"))
        await screen.go("orders/archived")
        await screen.shows(screen.page.get_by_text("Completed → archived"))
        await screen.shows(screen.page.get_by_role("button", name="Delete…"))
        assert viewer.complaints() == []


async def test_an_older_server_gives_it_to_readers_and_lets_nobody_change_it(
    log: SyncServer, newer: dict[str, str]
) -> None:
    await asyncio.to_thread(log.terminate)
    older = SyncServer(log.directory)
    with older, Shop(older.base_url) as shop:
        kept = shop.get("/orders/archived")["order"]
        assert (kept["stage"], kept["version"]) == ("archived", 4)
        assert {order["orderID"] for order in shop.get("/orders")["orders"]} == {"archived", "plain"}
        assert kept in shop.get("/sync/snapshot")["orders"]
        assert shop.events(after="earliest", orderID="archived")[-1]["data"]["order"] == kept
        calls: list[tuple[str, str, Any]] = [
            ("POST", "/orders/archived/status", {"status": "x"}),
            ("PATCH", "/orders/archived", {"notes": "x"}),
            ("POST", "/orders", {"orderID": "archived"}),
            ("DELETE", "/orders/archived", None),
        ]
        before = shop.head()
        for method, path, body in calls:
            reply = shop.call(method, path, body, headers={"If-Match": '"4"'} if method == "PATCH" else None)
            assert (reply.status_code, reply.json()["type"]) == (409, "unreadable")
            assert "Order archived was written by a newer version" in reply.json()["detail"]
        assert shop.head() == before
        shop.do("POST", "/orders/plain/status", {"status": "fine"})
        assert "Traceback" not in older.log_text()
    assert "no difference" in (await asyncio.to_thread(run, "verify", cwd=log.directory)).stdout
