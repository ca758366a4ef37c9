"""The client in a real browser against the real server: live, through restarts and blocked streams, after a reload."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import BrowserContext

from e2e.fault_proxy import FaultProxy
from tests.js.shop import QUICK, open_tab, publish, until
from tests.js.site import Site
from tests.servers import SyncServer

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(120)]


@pytest_asyncio.fixture(loop_scope="session")
async def proxy(site: Site, server: SyncServer) -> AsyncIterator[FaultProxy]:
    """Between site and server."""
    async with FaultProxy("127.0.0.1", server.port) as proxy:
        site.upstream = ("127.0.0.1", proxy.port)
        yield proxy


async def test_events_come_live_and_in_order(context: BrowserContext, shop: Site, server: SyncServer) -> None:
    tab = await open_tab(context, shop, filter={"orderID": "live"})
    await publish(server, range(50), order="live")
    await publish(server, range(50, 52), order="other")
    await tab.until("seen.length === 50")
    assert await tab.numbers() == list(range(50))
    assert await tab.get("[client.health.status, client.health.transport, client.health.role]") == [
        "healthy", "sse", "leader",
    ]  # fmt: skip
    assert tab.errors == []


async def test_a_compressed_stream_is_live_too_and_goes_on_after_a_goodbye(
    context: BrowserContext, site: Site, tmp_path: Path
) -> None:
    with SyncServer(tmp_path, config="[feed]\ncompression = true\nmax_age_s = 2\n") as server:
        site.upstream = ("127.0.0.1", server.port)
        tab = await open_tab(context, site, options=QUICK)
        for n in range(30):  # through one planned goodbye at least
            await publish(server, range(n, n + 1))
            await asyncio.sleep(0.1)
        await tab.until("seen.length === 30")
        assert await tab.numbers() == list(range(30))
        assert len(site.streams) > 1
        assert tab.errors == []


async def test_a_killed_server_is_found_again_and_nothing_is_missed(
    context: BrowserContext, site: Site, tmp_path: Path
) -> None:
    with SyncServer(tmp_path) as server:
        site.upstream = ("127.0.0.1", server.port)
        tab = await open_tab(context, site, options=QUICK)
        await publish(server, range(10))
        await tab.until("seen.length === 10")
        await asyncio.to_thread(server.kill)
        await tab.until("client.state !== 'connected'")
        await asyncio.to_thread(server.start)
        await publish(server, range(10, 300))
        await tab.until("seen.length >= 300")
        assert await tab.numbers() == list(range(300))
        assert await tab.get("resyncs") == []


async def test_planned_goodbyes_are_no_failures(context: BrowserContext, site: Site, tmp_path: Path) -> None:
    with SyncServer(tmp_path, config="[feed]\nmax_age_s = 1\n") as server:
        site.upstream = ("127.0.0.1", server.port)
        tab = await open_tab(context, site)
        for n in range(9):
            await publish(server, range(n, n + 1))
            await asyncio.sleep(0.15)  # a steady shop over several lives of the stream
        await tab.until("seen.length === 9")
        assert await tab.numbers() == list(range(9))
        assert len(site.streams) >= 2
        assert set(await tab.get("states")) <= {"connecting", "connected", "reconnecting max_age"}


async def test_it_works_below_a_path(context: BrowserContext, shop: Site, server: SyncServer) -> None:
    tab = await open_tab(context, shop, options={"baseUrl": "/shop"}, filter={"orderID": "path"})
    await publish(server, range(3), order="path")
    await tab.until("seen.length === 3")


async def test_names_that_look_like_markup_arrive_as_text(
    context: BrowserContext, shop: Site, server: SyncServer
) -> None:
    order = "<img src=x onerror=alert(1)>"
    tab = await open_tab(context, shop, filter={"orderID": order})
    await publish(server, range(1), order=order)
    await tab.until("seen.length === 1")
    assert await tab.get("[seen[0].orderID, document.querySelector('img')]") == [order, None]


async def test_configured_types_need_not_be_named(context: BrowserContext, site: Site, tmp_path: Path) -> None:
    """A browser hands out only what it listens for; the server says what that may be, also to a second tab."""
    with SyncServer(tmp_path, config='[events]\ncustom = ["door_opened"]\n') as server:
        site.upstream = ("127.0.0.1", server.port)
        tabs = [await open_tab(context, site) for _ in range(2)]
        await publish(server, range(3), eventType="door_opened")
        for tab in tabs:
            await tab.until("seen.length === 3")
            assert await tab.get("seen.map(({ eventType }) => eventType)") == ["door_opened"] * 3
        await site.cut()
        await publish(server, range(3, 5), eventType="door_opened")
        for tab in tabs:
            await tab.until("seen.length === 5")


# -- a reload


async def test_after_a_reload_it_goes_on_where_it_was(context: BrowserContext, shop: Site, server: SyncServer) -> None:
    tab = await open_tab(context, shop, filter={"orderID": "reload"})
    await publish(server, range(5), order="reload")
    await tab.until("seen.length === 5")
    await tab.page.goto(shop.url("/page"))  # before the quarter of a second is over: the page says goodbye
    await publish(server, range(5, 9), order="reload")
    await tab.connect(filter={"orderID": "reload"})
    await tab.until("seen.length === 4")
    assert await tab.numbers() == [5, 6, 7, 8]
    assert await tab.get("client.events.map(({ data }) => data.n)") == list(range(9))


async def test_what_is_kept_is_the_persistence_format(context: BrowserContext, shop: Site, server: SyncServer) -> None:
    options = {"storageKey": "kept"}
    tab = await open_tab(context, shop, options=options, filter={"orderID": "kept", "eventTypes": ["stage_change"]})
    ids = await publish(server, range(120), order="kept")
    await tab.until("JSON.parse(localStorage.getItem('kept') ?? '{}').events?.length === 100")
    await tab.until(f"JSON.parse(localStorage.getItem('kept')).lastEventId === '{ids[-1]}'")
    await tab.until("JSON.parse(localStorage.getItem('kept')).events.every(({ metadata }) => metadata.processed)")
    kept = json.loads(await tab.page.evaluate("localStorage.getItem('kept')"))
    assert [event["id"] for event in kept["events"]] == ids[20:]
    first = kept["events"][0]
    assert list(first) == ["id", "eventType", "data", "orderID", "timestamp", "metadata"]
    assert first["metadata"] == {
        "receivedAt": first["metadata"]["receivedAt"], "processed": True, "acknowledged": False, "source": "sse",
    }  # fmt: skip
    assert list(kept) == [
        "events", "configuration", "lastConnectionTime", "connectionMetrics", "lastEventId", "version",
    ]  # fmt: skip
    assert kept["configuration"] == {
        "orderID": "kept", "eventTypes": ["stage_change"], "autoReconnect": True, "maxReconnectAttempts": 5,
    }  # fmt: skip
    assert kept["connectionMetrics"]["totalEvents"] == 120
    assert kept["connectionMetrics"]["totalConnections"] == 1
    assert kept["version"] == "1.0.0"


async def test_metrics_go_on_after_a_reload(context: BrowserContext, shop: Site, server: SyncServer) -> None:
    tab = await open_tab(context, shop, filter={"orderID": "metrics"})
    await publish(server, range(3), order="metrics")
    await tab.until("seen.length === 3")
    await tab.page.goto(shop.url("/page"))
    await tab.connect(filter={"orderID": "metrics"})
    await tab.until("client.isReady")
    metrics = await tab.get("client.metrics")
    assert (metrics["totalConnections"], metrics["totalEvents"]) == (2, 3)
    assert metrics["uptime"] > 0


# -- streams that do not work


async def test_blocked_streams_lead_to_polling_and_back(
    context: BrowserContext, site: Site, server: SyncServer, proxy: FaultProxy
) -> None:
    tab = await open_tab(context, site, options=QUICK, filter={"orderID": "blocked"})
    proxy.stream.status = 503
    proxy.cut_all()
    await tab.until("client.state === 'polling_fallback'")
    await publish(server, range(10), order="blocked")
    await tab.until("seen.length === 10")
    assert await tab.get("[...new Set(client.events.map(({ metadata }) => metadata.source))]") == ["polling"]
    assert await tab.get("client.health.isPollingFallback") is True
    proxy.stream.clear()
    await tab.until("client.state === 'connected'")
    await publish(server, range(10, 20), order="blocked")
    await tab.until("seen.length === 20")
    assert await tab.numbers() == list(range(20))
    assert tab.errors == []


async def test_a_proxy_that_holds_streams_back_leads_to_polling(
    context: BrowserContext, site: Site, server: SyncServer, proxy: FaultProxy
) -> None:
    proxy.stream.buffered = True
    tab = await open_tab(context, site, options=QUICK, filter={"orderID": "buffered"}, ready=False)
    await tab.until("client.state === 'polling_fallback'")
    assert "holds the stream back" in await tab.get("client.health.reason")
    await tab.until("client.isReady")
    await publish(server, range(5), order="buffered")
    await tab.until("seen.length === 5")


async def test_a_stream_that_falls_silent_is_given_up(
    context: BrowserContext, site: Site, server: SyncServer, proxy: FaultProxy
) -> None:
    tab = await open_tab(context, site, options=QUICK, filter={"orderID": "silent"})
    proxy.stream.stalled = True
    await tab.until("states.includes('reconnecting silence')")
    proxy.stream.clear()
    await publish(server, range(3), order="silent")
    await tab.until("seen.length === 3")


@pytest.mark.parametrize(("status", "state"), [(204, "closed"), (403, "failed")])
async def test_the_poll_says_why_a_stream_was_refused(
    context: BrowserContext, site: Site, proxy: FaultProxy, status: int, state: str
) -> None:
    proxy.stream.status = proxy.plain.status = status
    tab = await open_tab(context, site, options=QUICK, ready=False)
    await tab.until(f"client.state === '{state}'")
    assert [request.target.partition("?")[2] for request in proxy.plain_requests] == ["limit=1"]
    assert (len(proxy.stream_requests), str(status) in await tab.get("client.health.reason")) == (1, True)


async def test_failed_ends_with_the_next_connect(
    context: BrowserContext, site: Site, server: SyncServer, proxy: FaultProxy
) -> None:
    proxy.stream.status = proxy.plain.status = 401
    tab = await open_tab(context, site, options=QUICK, ready=False)
    await tab.until("client.state === 'failed'")
    proxy.stream.clear()
    proxy.plain.clear()
    await tab.page.evaluate("client.connect()")
    await tab.until("client.state === 'connected'")


async def test_retry_after_holds_for_the_next_stream(
    context: BrowserContext, site: Site, server: SyncServer, proxy: FaultProxy
) -> None:
    proxy.stream.status = proxy.plain.status = 503
    proxy.stream.headers = proxy.plain.headers = {"Retry-After": "1"}
    tab = await open_tab(context, site, options=QUICK, ready=False)
    await tab.until("client.state === 'error'")
    proxy.stream.clear()
    proxy.plain.clear()
    await tab.until("client.state === 'connected'")
    first, second = proxy.stream_requests
    assert second.at_s - first.at_s >= 1.0


# -- cursors that lead nowhere, and the network


async def test_a_cursor_of_another_log_is_told_and_left_behind(
    context: BrowserContext, shop: Site, server: SyncServer
) -> None:
    tab = await open_tab(context, shop, options={"start": "zzzzzzzz.5"}, filter={"orderID": "epoch"})
    await tab.until("resyncs.length === 1")
    await publish(server, range(2), order="epoch")
    await tab.until("seen.length === 2")
    assert await tab.get("resyncs") == ["epoch"]


async def test_an_expired_cursor_while_polling_is_a_resync_too(
    context: BrowserContext, site: Site, server: SyncServer, proxy: FaultProxy
) -> None:
    proxy.stream.status = 503
    tab = await open_tab(context, site, options=QUICK | {"start": "zzzzzzzz.5"}, filter={"orderID": "410"}, ready=False)
    await tab.until("resyncs.length === 1 && client.isReady")
    await publish(server, range(2), order="410")
    await tab.until("seen.length === 2")
    assert await tab.get("resyncs") == ["epoch"]


async def test_network_off_and_on_again(context: BrowserContext, shop: Site, server: SyncServer) -> None:
    tab = await open_tab(context, shop, filter={"orderID": "offline"})
    await context.set_offline(True)
    await tab.until("client.state !== 'connected' && !client.health.isOnline")
    await publish(server, range(5), order="offline")
    await context.set_offline(False)
    await tab.until("client.state === 'connected' && seen.length === 5", timeout_s=5)
    assert await tab.numbers() == list(range(5))


async def test_a_page_that_was_put_away_goes_on_when_it_is_back(
    context: BrowserContext, shop: Site, server: SyncServer
) -> None:
    tab = await open_tab(context, shop, filter={"orderID": "away"})
    await tab.page.evaluate("dispatchEvent(new PageTransitionEvent('pagehide', { persisted: true }))")
    await until(lambda: shop.open_streams == 0)
    await publish(server, range(3), order="away")
    await tab.page.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))")
    await tab.until("seen.length === 3")


async def test_disconnect_ends_the_stream_and_connect_goes_on(
    context: BrowserContext, shop: Site, server: SyncServer
) -> None:
    tab = await open_tab(context, shop, filter={"orderID": "ended"})
    await tab.page.evaluate("client.disconnect()")
    await until(lambda: shop.open_streams == 0)
    assert await tab.get("client.state") == "closed"
    await publish(server, range(3), order="ended")
    await tab.page.evaluate("client.connect({ orderID: 'ended' })")
    await tab.until("seen.length === 3")
