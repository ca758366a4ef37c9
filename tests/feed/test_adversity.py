"""Things that once broke the promise: each is the way it was provoked."""

import asyncio

from sync_server.log.base import Bounds, LogUnavailable
from sync_server.log.group import Committed
from sync_server.log.records import StoredEvent
from tests.feed.conftest import Start
from tests.serving import Served
from tests.streams import eventually, seqs, stream


async def fail_pages(served: Served) -> asyncio.Event:
    """Replay pages of the log cannot be read until the returned event is set."""
    event_log = served.application.event_log
    read, mended = event_log.read, asyncio.Event()

    async def failing(tenant: str, *, after: int, limit: int) -> list[StoredEvent]:
        if not mended.is_set() and limit <= 512:
            raise LogUnavailable("out of order")
        return await read(tenant, after=after, limit=limit)

    event_log.read = failing  # type: ignore[method-assign] - a log that is away for reads only
    return mended


async def test_a_floor_that_passes_a_reader_while_it_waits_for_the_log_is_a_reset(start_sqlite: Start) -> None:
    async with start_sqlite(feed={"window_bytes": 65536}) as served:
        hub = await served.hub()
        await served.stages(3000)
        mended = await fail_pages(served)
        async with stream(served.port, lastEventId=hub.cursor_text(100)) as opened:
            await opened.until("connected")
            await served.application.event_log.trim("default", 400)
            await hub.tail.refresh()
            mended.set()
            await opened.until("caught_up")
            assert [e.event for e in opened.seen] == ["connected", "reset", "caught_up"]
            assert opened.envelopes == []


async def test_a_page_of_which_only_the_beginning_was_trimmed_is_no_hole(start: Start) -> None:
    async with start() as served:
        await served.stages(1500)
    async with start() as served:
        hub = await served.hub()
        await served.application.event_log.trim("default", 900)  # in the middle of a page; unknown to the hub
        async with stream(served.port, lastEventId=hub.cursor_text(974)) as opened:
            await opened.until("caught_up")
            assert seqs(opened.envelopes) == list(range(975, 1501))
        assert served.application.feed.metrics.log_holes._value.get() == 0


async def test_an_own_commit_that_contradicts_what_was_shown_resets_at_once(start_sqlite: Start) -> None:
    """The log beneath was put back: it gives out seqs again that readers have seen for other events."""
    async with start_sqlite() as served:
        hub = await served.hub()
        await served.stages(20)
        async with stream(served.port) as opened:
            await opened.until("caught_up")
            again = StoredEvent(11, 1_763_634_600_123, "stage_change", (), None, "anonymous", '"data":{"n":99}}')
            hub.tail.offer(Committed(hub.tail.epoch, [again], []))
            reset = await opened.until("reset")
            assert '"future"' in reset.data
            assert reset.id == hub.cursor_text(11)


async def test_the_same_commit_offered_twice_changes_nothing(start_sqlite: Start) -> None:
    async with start_sqlite() as served:
        await served.stages(5)
        hub = await served.hub()
        rows = await served.application.event_log.read("default", after=2, limit=10)
        hub.tail.offer(Committed(hub.tail.epoch, rows, []))
        assert hub.tail.seq == 5
        assert not hub.metrics.resets.collect()[0].samples


async def test_data_that_is_known_to_be_missing_grows_old(start_sqlite: Start) -> None:
    """Heads can be read and events not: the log answers, yet what readers have is old."""
    async with start_sqlite() as served:
        await served.stages(5)
        hub = await served.hub()
        seen_s = hub.tail.read_s
        hub.tail.observe(Bounds(hub.tail.epoch, 0, 9), seq_before=5)
        assert hub.tail.read_s == seen_s
        hub.tail.observe(Bounds(hub.tail.epoch, 0, 5), seq_before=5)
        assert hub.tail.read_s > seen_s


async def test_a_pipelined_request_does_not_hide_the_disconnect(start_sqlite: Start) -> None:
    async with start_sqlite() as served:
        _, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(b"GET /api/v1/sync/events HTTP/1.1\r\nHost: x\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        await writer.drain()
        await eventually(lambda: served.application.feed.reader_count == 1)
        writer.transport.abort()
        await asyncio.sleep(0)
        for n in range(100):  # a write finds out
            await served.stages(1, first=n)
            if served.application.feed.reader_count == 0:
                break
        await eventually(lambda: served.application.feed.reader_count == 0)


async def test_filters_that_are_gone_leave_no_trace_in_the_index(start_sqlite: Start) -> None:
    async with start_sqlite() as served:
        hub = await served.hub()
        async with stream(served.port, eventTypes="a,b,c") as opened:
            await opened.until("caught_up")
            assert len(hub.channels._open) == 3
        await eventually(lambda: served.application.feed.reader_count == 0)
        assert hub.channels._open == {}
