"""The feed's counters say exactly what happened."""

from contextlib import AsyncExitStack
from typing import Any

from sync_server.log.open import new_epoch
from tests.feed.conftest import Start
from tests.feed.test_poll import page, poll
from tests.serving import Served, stage_change
from tests.streams import eventually, stream


def sample(served: Served, name: str, **labels: str) -> float:
    """The metric of that name; 0 if it has not been counted yet."""
    return served.application.feed.metrics.registry.get_sample_value(name, labels) or 0


async def test_deliveries_are_events_times_the_streams_they_were_written_to(start_sqlite: Start) -> None:
    async with start_sqlite() as served, AsyncExitStack() as stack:
        wanted: list[dict[str, Any]] = [{}, {}, {"orderID": "A"}]
        for parameters in wanted:
            opened = await stack.enter_async_context(stream(served.port, **parameters))
            await opened.until("caught_up")
        await served.publish(stage_change(0, order="A"), stage_change(1, order="A"), stage_change(2, order="B"))
        await eventually(lambda: sample(served, "sync_deliveries_total") == 3 + 3 + 2)
        async with stream(served.port, lastEventId="earliest", orderID="A") as replayed:
            await replayed.until("caught_up")
            (await served.hub()).flush()  # deliveries are counted when it writes
            assert sample(served, "sync_deliveries_total") == 10


async def test_resets_are_counted_by_their_reason(start_sqlite: Start) -> None:
    async with start_sqlite() as served:
        await served.stages(20)
        hub = await served.hub()
        async with stream(served.port, lastEventId="garbage") as opened:
            await opened.until("caught_up")
        await poll(served, after="garbage")
        await served.application.event_log.trim("default", 10)
        await hub.tail.refresh()
        await poll(served, after=hub.cursor_text(9))
        await poll(served, after=hub.cursor_text(10))
        async with stream(served.port) as one, stream(served.port, orderID="A") as other:
            for opened in (one, other):
                await opened.until("caught_up")
            await served.application.event_log.new_epoch("default", new_epoch())
            await hub.tail.refresh()
            for opened in (one, other):
                await opened.until("reset")
        reasons = ("malformed", "expired", "epoch", "future")
        assert [sample(served, "sync_resets_total", reason=reason) for reason in reasons] == [2, 1, 2, 0]


async def test_replays_are_counted_by_their_source(start_sqlite: Start) -> None:
    async with start_sqlite() as served:
        await served.stages(100)
    async with start_sqlite() as served:

        async def replayed(cursor: str) -> list[float]:
            async with stream(served.port, lastEventId=cursor) as opened:
                await opened.until("caught_up")
            return [sample(served, "sync_replays_total", source=source) for source in ("log", "pages", "window")]

        head = (await served.hub()).cursor_text(100)
        assert await replayed(head) == [0, 0, 0]
        assert await replayed("earliest") == [1, 0, 0]
        assert await replayed("earliest") == [1, 1, 0]
        await served.stages(2)
        assert await replayed(head) == [1, 1, 1]
        assert sample(served, "sync_log_reads_total", purpose="replay") == 1


async def test_polls_are_counted_by_their_status(start_sqlite: Start) -> None:
    async with start_sqlite() as served:
        await served.stages(2)
        etag = (await poll(served)).headers["etag"]
        cursor = (await page(served))["cursor"]
        assert (await poll(served, headers={"If-None-Match": etag}, after=cursor)).status_code == 304
        assert [sample(served, "sync_polls_total", status=status) for status in ("200", "304")] == [2, 1]
