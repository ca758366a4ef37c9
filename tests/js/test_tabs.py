"""Several tabs of one browser: one stream for all, whoever leads, and every tab gets exactly its events."""

import asyncio
from pathlib import Path

import pytest
from playwright.async_api import BrowserContext

from tests.js.shop import QUICK, Tab, open_tab, publish, until
from tests.js.site import Site
from tests.servers import SyncServer

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(120)]


def begin_a_new_log(directory: Path) -> None:
    for file in directory.glob("sync.db*"):
        file.unlink()


async def leaders(tabs: list[Tab]) -> list[Tab]:
    return [tab for tab in tabs if await tab.get("client.health.role") == "leader"]


async def split(tabs: list[Tab]) -> tuple[Tab, list[Tab]]:
    """The tab that leads, and the others."""
    (leader,) = await leaders(tabs)
    return leader, [tab for tab in tabs if tab is not leader]


async def test_eight_tabs_share_one_stream(context: BrowserContext, shop: Site, server: SyncServer) -> None:
    tabs = [await open_tab(context, shop) for _ in range(8)]
    assert len(await leaders(tabs)) == 1
    await publish(server, range(20))
    for tab in tabs:
        await tab.until("seen.length >= 20")
        assert await tab.numbers() == list(range(20))
        assert await tab.get("client.state") == "connected"
    assert shop.open_streams == 1


async def test_a_closed_leader_is_replaced_without_a_gap(
    context: BrowserContext, shop: Site, server: SyncServer
) -> None:
    tabs = [await open_tab(context, shop) for _ in range(3)]
    leader, others = await split(tabs)
    await publish(server, range(10))
    for tab in others:
        await tab.until("seen.length === 10")
    closing = asyncio.create_task(leader.page.close())
    for n in range(10, 40):
        await publish(server, range(n, n + 1))
    await closing
    for tab in others:
        await tab.until("seen.length >= 40", timeout_s=5)
        assert await tab.numbers() == list(range(40))
    assert len(await leaders(others)) == 1
    await until(lambda: shop.open_streams == 1)


async def test_a_crashed_leader_is_replaced_within_two_seconds(
    context: BrowserContext, shop: Site, server: SyncServer
) -> None:
    tabs = [await open_tab(context, shop) for _ in range(2)]
    leader, (other,) = await split(tabs)
    await publish(server, range(5))
    await other.until("seen.length === 5")
    crash = await context.new_cdp_session(leader.page)
    crashing = asyncio.create_task(crash.send("Page.crash"))  # it never answers
    await publish(server, range(5, 8))
    await other.until("client.health.role === 'leader' && client.isConnected", timeout_s=2)
    await other.until("seen.length === 8")
    assert await other.numbers() == list(range(8))
    crashing.cancel()


async def test_a_wider_wish_reopens_the_stream_where_it_stood(
    context: BrowserContext, shop: Site, server: SyncServer
) -> None:
    first = await open_tab(context, shop, filter={"orderID": "A"})
    await publish(server, range(3), order="A")
    await first.until("seen.length === 3")
    second = await open_tab(context, shop, filter={"orderID": "B"})
    assert [request.target for request in shop.streams][-1].startswith("/api/v1/sync/events?orderID=A%2CB&")
    await publish(server, range(10, 13), order="B")
    await publish(server, range(3, 6), order="A")
    await publish(server, range(20, 22), order="C")
    await first.until("seen.length === 6")
    await second.until("seen.length === 3")
    assert (await first.numbers(), await second.numbers()) == ([0, 1, 2, 3, 4, 5], [10, 11, 12])
    assert len(shop.streams) == 2


async def test_a_narrower_wish_needs_no_other_stream(context: BrowserContext, shop: Site, server: SyncServer) -> None:
    wide = await open_tab(context, shop)
    narrow = await open_tab(context, shop, filter={"orderID": "narrow"})
    await publish(server, range(2), order="narrow")
    await publish(server, range(2, 4), order="other")
    await narrow.until("seen.length === 2")
    await wide.until("seen.length === 4")
    assert len(shop.streams) == 1


async def test_a_tab_is_ready_only_when_everything_will_come(
    context: BrowserContext, shop: Site, server: SyncServer
) -> None:
    """What is published from the moment of `ready` on reaches it, however often the stream is reopened meanwhile."""
    await open_tab(context, shop, filter={"orderID": "first"})
    late = [await open_tab(context, shop, filter={"orderID": f"late{n}"}, ready=False) for n in range(4)]
    for n, tab in enumerate(late):
        await tab.until("client.isReady")
        await publish(server, range(3), order=f"late{n}")
    for tab in late:
        await tab.until("seen.length === 3")
        assert await tab.numbers() == [0, 1, 2]


async def test_only_the_leader_writes_to_storage(context: BrowserContext, shop: Site, server: SyncServer) -> None:
    tabs = [await open_tab(context, shop, options={"storageKey": "one"}) for _ in range(2)]
    leader, (other,) = await split(tabs)
    await other.page.evaluate("void (Storage.prototype.setItem = () => { throw new Error('I do not write'); })")
    await publish(server, range(3))
    await other.until("seen.length === 3")
    await other.until("JSON.parse(localStorage.getItem('one'))?.events.length === 3")
    assert await other.get("client.export().events.map(({ data }) => data.n)") == [0, 1, 2]
    assert leader.errors == other.errors == []


async def test_the_next_leader_goes_on_with_what_was_kept(
    context: BrowserContext, shop: Site, server: SyncServer
) -> None:
    tabs = [await open_tab(context, shop, options={"storageKey": "next"}) for _ in range(2)]
    leader, (other,) = await split(tabs)
    ids = await publish(server, range(4))
    await other.until("seen.length === 4")
    await other.until("JSON.parse(localStorage.getItem('next'))?.connectionMetrics.totalEvents === 4")
    await leader.page.close()
    await other.until("client.health.role === 'leader'")
    ids += await publish(server, range(4, 6))
    await other.until(f"JSON.parse(localStorage.getItem('next')).lastEventId === '{ids[-1]}'")
    kept = await other.get("JSON.parse(localStorage.getItem('next'))")
    assert [event["id"] for event in kept["events"]] == ids
    assert kept["connectionMetrics"]["totalEvents"] == 6


async def test_a_visible_tab_takes_over_from_a_hidden_one_without_a_stream(
    context: BrowserContext, shop: Site, server: SyncServer
) -> None:
    tabs = [await open_tab(context, shop) for _ in range(2)]
    leader, (other,) = await split(tabs)
    await leader.page.evaluate(
        """() => {
          Object.defineProperty(document, 'visibilityState', { value: 'hidden', configurable: true });
          document.dispatchEvent(new Event('visibilitychange'));
        }"""
    )
    await publish(server, range(2))
    await other.until("seen.length === 2")
    assert await leaders(tabs) == [leader], "a hidden tab whose stream works keeps the lead"
    shop.upstream = None
    await shop.cut()
    await other.until("client.health.role === 'leader'", timeout_s=5)
    shop.upstream = ("127.0.0.1", server.port)
    await publish(server, range(2, 4))
    for tab in tabs:
        await tab.until("seen.length === 4")
        assert await tab.numbers() == [0, 1, 2, 3]
    assert await leaders(tabs) == [other]


async def test_all_tabs_are_told_of_a_resync(context: BrowserContext, site: Site, tmp_path: Path) -> None:
    with SyncServer(tmp_path) as server:
        site.upstream = ("127.0.0.1", server.port)
        tabs = [await open_tab(context, site, options=QUICK) for _ in range(2)]
        await publish(server, range(3))
        for tab in tabs:
            await tab.until("seen.length === 3")
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(begin_a_new_log, tmp_path)
        await asyncio.to_thread(server.start)
        for tab in tabs:
            await tab.until("resyncs.length === 1")
        await publish(server, range(3, 5))
        for tab in tabs:
            await tab.until("seen.length === 5")
            assert (await tab.get("resyncs"), await tab.numbers()) == (["epoch"], [0, 1, 2, 3, 4])


async def test_tabs_of_other_tenants_have_their_own(context: BrowserContext, shop: Site, server: SyncServer) -> None:
    one = await open_tab(context, shop, options={"tenantId": "one"})
    two = await open_tab(context, shop, options={"tenantId": "two"})
    assert await leaders([one, two]) == [one, two]
    assert shop.open_streams == 2


async def test_tabs_that_do_not_share_are_alone(context: BrowserContext, shop: Site, server: SyncServer) -> None:
    tabs = [await open_tab(context, shop, options={"tabs": False}) for _ in range(2)]
    await publish(server, range(2))
    for tab in tabs:
        await tab.until("seen.length === 2")
        assert await tab.get("client.health.role") == "single"
    assert shop.open_streams == 2
