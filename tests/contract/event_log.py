"""What every event log has to be, whatever its store. Concrete classes say how one is opened."""

import asyncio
import json

import pytest

from sync_core.cursor import Cursor
from sync_core.problems import Unprocessable
from sync_server.log.base import EventLog, LogMisconfigured
from sync_server.log.group import Group
from sync_server.log.open import new_epoch
from sync_server.log.records import OUTCOME_TTL_MS, NewEvent, Reach
from sync_server.log.retention import Retention, enforce
from tests.contract.store import Open, StoreTests
from tests.log.writes import (
    TENANT,
    commit,
    make_appender,
    note,
    parsed,
    read_all,
    receipts,
    seqs,
    submission,
    text_of,
    texts,
    until,
)

NOW_MS = 1_763_634_600_000


class EventLogContract(StoreTests):
    """Inherited by one test class per store and driver."""

    # -- bounds and epoch ---------------------------------------------------------------------------

    async def test_a_new_tenant_begins_at_zero_with_an_epoch(self, event_log: EventLog) -> None:
        bounds = await event_log.ensure(TENANT)
        assert (bounds.floor, bounds.head) == (0, 0)
        assert str(Cursor.parse(f"{bounds.epoch}.0")) == f"{bounds.epoch}.0"

    async def test_ensure_changes_nothing_the_second_time(self, event_log: EventLog) -> None:
        first = await event_log.ensure(TENANT)
        assert await event_log.ensure(TENANT) == first
        await commit(event_log, texts("a", "b"))
        assert await event_log.ensure(TENANT) == first._replace(head=2)

    async def test_ensure_at_the_same_time_makes_one_log(self, event_log: EventLog) -> None:
        found = await asyncio.gather(*(event_log.ensure(TENANT) for _ in range(20)))
        assert len(set(found)) == 1

    async def test_a_tenant_comes_to_be_by_its_first_write(self, event_log: EventLog) -> None:
        committed = await commit(event_log, texts("a"))
        assert (await event_log.ensure(TENANT)) == (committed.epoch, 0, 1)

    async def test_bounds_are_told_for_the_tenants_that_exist(self, event_log: EventLog) -> None:
        one, two = await event_log.ensure("one"), await event_log.ensure("two")
        assert await event_log.bounds(["one", "two", "none"]) == {"one": one, "two": two}
        assert await event_log.bounds([]) == {}

    async def test_tenants_are_listed_in_order(self, event_log: EventLog) -> None:
        for tenant in ("b", "a-2", "c"):
            await event_log.ensure(tenant)
        assert await event_log.tenants() == ["a-2", "b", "c"]

    async def test_tenants_have_logs_of_their_own(self, event_log: EventLog) -> None:
        await commit(event_log, texts("a1", "a2"), tenant="a")
        await commit(event_log, submission(note("b1"), key="k"), tenant="b")
        again = await commit(event_log, submission(note("a3"), key="k", fingerprint="other"), tenant="a")
        assert receipts(again)[0].duplicate is False
        assert [text_of(e) for e in await read_all(event_log, "a")] == ["a1", "a2", "a3"]
        assert [text_of(e) for e in await read_all(event_log, "b")] == ["b1"]
        bounds = await event_log.bounds(["a", "b"])
        assert bounds["a"].epoch != bounds["b"].epoch

    async def test_new_epoch_keeps_the_events(self, event_log: EventLog) -> None:
        await commit(event_log, texts("a", "b"))
        before = await event_log.trim(TENANT, 1)
        epoch = new_epoch()
        assert await event_log.new_epoch(TENANT, epoch) == before._replace(epoch=epoch)
        committed = await commit(event_log, texts("c"))
        assert (committed.epoch, receipts(committed)[0].event_id) == (epoch, f"{epoch}.3")
        assert [text_of(e) for e in await read_all(event_log)] == ["b", "c"]

    async def test_upkeep_of_an_unknown_tenant_is_refused(self, event_log: EventLog) -> None:
        with pytest.raises(LogMisconfigured, match="nobody"):
            await event_log.trim("nobody", 1)
        with pytest.raises(LogMisconfigured, match="nobody"):
            await event_log.new_epoch("nobody", new_epoch())
        with pytest.raises(LogMisconfigured, match="nobody"):
            await event_log.sweep("nobody", now_ms=NOW_MS)
        assert await event_log.tenants() == []

    # -- order --------------------------------------------------------------------------------------

    async def test_seqs_are_dense_and_ids_tell_them(self, event_log: EventLog) -> None:
        first = await commit(event_log, texts("a", "b"), texts("c"))
        second = await commit(event_log, texts("d"))
        assert seqs(first.events) == [1, 2, 3]
        assert [r.event_id for r in receipts(first, 1)] == [f"{first.epoch}.3"]
        assert [r.event_id for r in receipts(second)] == [f"{first.epoch}.4"]
        assert await read_all(event_log) == [*first.events, *second.events]

    async def test_the_order_of_members_is_the_order_of_seqs(self, event_log: EventLog) -> None:
        members = [texts(f"{i}.0", f"{i}.1") for i in range(300)]
        await commit(event_log, *members)
        assert [text_of(e) for e in await read_all(event_log)] == [f"{i}.{j}" for i in range(300) for j in (0, 1)]

    async def test_a_failed_group_gives_its_seqs_back(self, event_log: EventLog) -> None:
        await commit(event_log, texts("a"))
        poisoned = submission(NewEvent("status_update", (), None, "anna", '"data":{"text":"\ud800"}}'))
        with pytest.raises(UnicodeEncodeError):
            await commit(event_log, texts("b"), poisoned)
        assert (await event_log.ensure(TENANT)).head == 1
        await commit(event_log, texts("c"))
        assert [(e.seq, text_of(e)) for e in await read_all(event_log)] == [(1, "a"), (2, "c")]

    async def test_nobody_sees_an_event_before_its_predecessors(self, opened: Open) -> None:
        writers = await self.writers(4, opened)
        readers = [await opened() for _ in range(2)]
        total = 4 * 30 * 3
        seen: list[list[tuple[int, str]]] = [[] for _ in readers]

        async def write(number: int, event_log: EventLog) -> None:
            appender = make_appender(event_log)
            for i in range(30):
                await appender.append(TENANT, texts(*(f"{number}.{i}.{j}" for j in range(3))))
            await appender.aclose()

        async def follow(event_log: EventLog, rows: list[tuple[int, str]]) -> None:
            while len(rows) < total:
                page = await event_log.read(TENANT, after=len(rows), limit=50)
                assert seqs(page) == list(range(len(rows) + 1, len(rows) + 1 + len(page)))
                rows += [(event.seq, text_of(event)) for event in page]

        await readers[0].ensure(TENANT)
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            for number, event_log in enumerate(writers):
                group.create_task(write(number, event_log))
            for event_log, rows in zip(readers, seen, strict=True):
                group.create_task(follow(event_log, rows))
        assert seen[0] == seen[1]
        in_order = [text for _, text in seen[0]]
        for number in range(4):  # each writer's own order is kept, and its batches stand together
            own = [f"{number}.{i}.{j}" for i in range(30) for j in range(3)]
            assert [text for text in in_order if text.startswith(f"{number}.")] == own
        assert all(text.split(".")[:2] == in_order[i // 3 * 3].split(".")[:2] for i, text in enumerate(in_order))

    async def test_times_never_go_back_within_a_tenant(self, event_log: EventLog) -> None:
        for now_ms in (NOW_MS, NOW_MS - 60_000, NOW_MS + 5):
            await commit(event_log, texts("a", "b"), now_ms=now_ms)
        await commit(event_log, texts("other"), now_ms=NOW_MS - 60_000, tenant="other")
        times = [event.time_ms - NOW_MS for event in await read_all(event_log)]
        assert times == [0, 0, 0, 0, 5, 5]
        assert [event.time_ms for event in await read_all(event_log, "other")] == [NOW_MS - 60_000]

    # -- idempotency and refusals -------------------------------------------------------------------

    async def test_a_key_sent_again_is_answered_with_the_first_id(self, event_log: EventLog) -> None:
        first = await commit(event_log, submission(note("a"), key="k"))
        again = await commit(event_log, submission(note("a"), key="k"))
        assert receipts(again) == (receipts(first)[0]._replace(duplicate=True),)
        assert again.events == []
        assert (await event_log.ensure(TENANT)).head == 1

    async def test_only_the_known_key_of_a_batch_is_a_duplicate(self, event_log: EventLog) -> None:
        event = {"eventType": "status_update", "data": {"status": "ready", "text": "a"}}
        await commit(event_log, await parsed({**event, "key": "k1"}))
        second = await commit(event_log, await parsed({**event, "key": "k2"}, {**event, "key": "k1"}, event))
        assert [(r.event_id, r.duplicate) for r in receipts(second)] == [
            (f"{second.epoch}.2", False),
            (f"{second.epoch}.1", True),
            (f"{second.epoch}.3", False),
        ]

    async def test_a_reused_key_is_refused_without_harm_to_its_neighbours(self, event_log: EventLog) -> None:
        await commit(event_log, submission(note("a"), key="k", fingerprint="one"))
        committed = await commit(
            event_log,
            texts("before"),
            submission(note("never"), note("never either"), key="k", fingerprint="two"),
            texts("after"),
        )
        assert isinstance(committed.results[1], Unprocessable)
        assert committed.results[1].status == 422
        assert [(e.seq, text_of(e)) for e in await read_all(event_log)] == [(1, "a"), (2, "before"), (3, "after")]
        assert receipts(committed, 2)[0].event_id == f"{committed.epoch}.3"

    async def test_a_group_of_refusals_writes_nothing(self, event_log: EventLog) -> None:
        await commit(event_log, submission(note("a"), key="k", fingerprint="one"))
        committed = await commit(event_log, *(submission(note("b"), key="k", fingerprint="two") for _ in range(3)))
        assert [type(result) for result in committed.results] == [Unprocessable] * 3
        assert (await event_log.ensure(TENANT)).head == 1

    async def test_two_members_with_one_key_are_as_one_after_the_other(self, event_log: EventLog) -> None:
        committed = await commit(
            event_log,
            submission(note("a"), key="k", fingerprint="one"),
            submission(note("a"), key="k", fingerprint="one"),
            submission(note("b"), key="k", fingerprint="two"),
        )
        assert [r.duplicate for i in (0, 1) for r in receipts(committed, i)] == [False, True]
        assert isinstance(committed.results[2], Unprocessable)
        assert [text_of(e) for e in await read_all(event_log)] == ["a"]

    async def test_a_key_belongs_to_its_principal(self, event_log: EventLog) -> None:
        await commit(event_log, submission(note("a"), key="k", principal="anna"))
        other = await commit(event_log, submission(note("b"), key="k", fingerprint="x", principal="badr"))
        assert receipts(other)[0].duplicate is False

    async def test_outcomes_are_forgotten_when_their_time_is_over(self, event_log: EventLog) -> None:
        await commit(event_log, *(submission(note("old"), key=f"old-{i}") for i in range(700)), now_ms=NOW_MS)
        await commit(event_log, submission(note("new"), key="new"), now_ms=NOW_MS + 1000)
        end_ms = NOW_MS + OUTCOME_TTL_MS
        assert await event_log.sweep(TENANT, now_ms=end_ms) == 0
        forgotten = 0
        while count := await event_log.sweep(TENANT, now_ms=end_ms + 1):
            forgotten += count
        assert forgotten == 700
        repeated = await commit(
            event_log, submission(note("old"), key="old-0"), submission(note("new"), key="new"), now_ms=end_ms
        )
        assert [r.duplicate for i in (0, 1) for r in receipts(repeated, i)] == [False, True]

    async def test_outcomes_expire_while_others_write(self, event_log: EventLog, opened: Open) -> None:
        (sweeping,) = await self.writers(1, opened)
        await commit(sweeping, *(submission(note("old"), key=f"old-{i}") for i in range(100)), now_ms=NOW_MS)
        appender = make_appender(sweeping)

        async def write() -> None:
            for i in range(100):
                await appender.append(TENANT, submission(note("new"), key=f"new-{i}"))

        async def sweep() -> None:
            for _ in range(20):
                await sweeping.sweep(TENANT, now_ms=NOW_MS + OUTCOME_TTL_MS + 1)

        async with asyncio.TaskGroup() as group:
            group.create_task(write())
            group.create_task(sweep())
        await appender.aclose()
        assert seqs(await read_all(sweeping)) == list(range(1, 201))

    # -- trimming -----------------------------------------------------------------------------------

    async def test_trim_moves_the_floor_and_removes_what_lies_below(self, event_log: EventLog) -> None:
        await commit(event_log, texts(*"abcde"))
        before = await event_log.ensure(TENANT)
        assert await event_log.trim(TENANT, 3) == before._replace(floor=3)
        assert [text_of(e) for e in await read_all(event_log)] == ["d", "e"]
        assert await event_log.bounds([TENANT]) == {TENANT: before._replace(floor=3)}

    async def test_the_floor_never_goes_down_nor_beyond_the_head(self, event_log: EventLog) -> None:
        await commit(event_log, texts(*"abcde"))
        await event_log.trim(TENANT, 3)
        assert (await event_log.trim(TENANT, 1)).floor == 3
        bounds = await event_log.trim(TENANT, 99)
        assert (bounds.floor, bounds.head) == (5, 5)
        assert await event_log.read(TENANT, after=0, limit=10) == []
        await commit(event_log, texts("f"))
        assert seqs(await read_all(event_log)) == [6]

    async def test_what_is_below_the_floor_is_gone_only_after_it_moved(self, event_log: EventLog, opened: Open) -> None:
        await commit(event_log, *(texts(*(f"{i}.{j}" for j in range(100))) for i in range(120)))
        (reading,) = await self.writers(1, opened)
        trimming = asyncio.create_task(event_log.trim(TENANT, 11_990))
        while True:
            done = trimming.done()
            page = await reading.read(TENANT, after=0, limit=1)
            floor = (await reading.bounds([TENANT]))[TENANT].floor
            assert page[0].seq <= floor + 1  # a reader who misses events finds the floor above them
            if done:
                break
        await trimming
        assert page[0].seq == 11_991

    async def test_a_trim_that_was_broken_off_is_finished_by_the_next(self, event_log: EventLog, opened: Open) -> None:
        await commit(event_log, *(texts(*(f"{i}.{j}" for j in range(100))) for i in range(120)))
        trimming = asyncio.create_task(event_log.trim(TENANT, 12_000))

        async def begun() -> bool:
            return (await event_log.bounds([TENANT]))[TENANT].floor > 0

        await until(begun)
        trimming.cancel()
        await asyncio.gather(trimming, return_exceptions=True)
        await event_log.trim(TENANT, 0)
        assert await read_all(event_log) == []

    async def test_retention_by_count_keeps_the_newest(self, event_log: EventLog) -> None:
        await commit(event_log, texts(*"abcdefgh"))
        bounds = await enforce(event_log, TENANT, Retention(10**12, 3), now_ms=NOW_MS)
        assert (bounds.floor, bounds.head) == (5, 8)
        assert [text_of(e) for e in await read_all(event_log)] == ["f", "g", "h"]

    @pytest.mark.parametrize("now_ms", [NOW_MS + 950, NOW_MS + 1200, NOW_MS + 1250, NOW_MS + 1600])
    async def test_retention_by_age_removes_what_is_older(self, event_log: EventLog, now_ms: int) -> None:
        for step in range(0, 500, 100):
            await commit(event_log, texts("a", "b", "c"), now_ms=NOW_MS + step)
        await event_log.trim(TENANT, 1)
        await enforce(event_log, TENANT, Retention(1000, 10**6), now_ms=now_ms)
        oldest_ms = now_ms - 1000
        kept = [event.time_ms for event in await read_all(event_log)]
        expected = [NOW_MS + step for step in range(0, 500, 100) for _ in "abc"][1:]
        assert kept == [time_ms for time_ms in expected if time_ms >= oldest_ms]

    async def test_retention_forgets_outcomes(self, event_log: EventLog) -> None:
        await commit(event_log, submission(note("a"), key="k"), now_ms=NOW_MS)
        late_ms = NOW_MS + OUTCOME_TTL_MS + 1
        await enforce(event_log, TENANT, Retention(10**15, 10**6), now_ms=late_ms)
        assert receipts(await commit(event_log, submission(note("a"), key="k"), now_ms=late_ms))[0].duplicate is False

    # -- reading ------------------------------------------------------------------------------------

    async def test_a_page_has_at_most_limit_events(self, event_log: EventLog) -> None:
        await commit(event_log, texts(*"abcde"))
        assert seqs(await event_log.read(TENANT, after=1, limit=3)) == [2, 3, 4]
        assert seqs(await event_log.read(TENANT, after=4, limit=3)) == [5]
        assert await event_log.read(TENANT, after=5, limit=3) == []
        assert await event_log.read(TENANT, after=99, limit=3) == []
        assert await event_log.read("nobody", after=0, limit=3) == []

    async def test_large_events_cut_a_page_but_never_to_nothing(self, event_log: EventLog) -> None:
        large = "x" * (256 * 1024 - 200)
        for _ in range(10):
            await commit(event_log, *(texts(large) for _ in range(10)))
        page = await event_log.read(TENANT, after=0, limit=1000)
        assert 1 <= len(page) < 100
        assert seqs(await read_all(event_log)) == list(range(1, 101))
        assert seqs(await event_log.read(TENANT, after=98, limit=1)) == [99]

    @pytest.mark.parametrize(
        "text",
        ["طلب جديد — سيارة الأجرة ١٢", "emoji 🚗 and \U0001f9fc", "\x00\x1e\x1f\x7f\n\r\t", "\u2028\u2029\ufeff", "",
         'quote " and \\ backslash', "x" * (256 * 1024 - 200)],
        ids=["arabic", "emoji", "control", "separators", "empty", "quotes", "256KiB"],
    )  # fmt: skip
    async def test_text_leaves_as_it_came(self, event_log: EventLog, text: str) -> None:
        await commit(event_log, await parsed({"eventType": "status_update", "data": {"status": "s", "text": text}}))
        escaped = note(text)
        plain = escaped._replace(tail=f'"data":{json.dumps({"text": text}, ensure_ascii=False)}}}')
        await commit(event_log, submission(escaped, plain if "\x00" not in text else escaped))
        events = await read_all(event_log)
        assert [text_of(event) for event in events] == [text] * 3
        assert events[1].tail == escaped.tail

    async def test_every_field_is_kept(self, event_log: EventLog) -> None:
        given = [
            NewEvent("job_progress", ("orderID=A 17/ب", "bayID=bay 2", "x=a=b"), "till-3#8f2c", "badr:1", '"a":1}'),
            NewEvent("custom.type-1", (), None, "anna", '"data":{}}'),
            NewEvent("order_updated", ("orderID=A",), None, "anna", '"data":{}}', Reach("order", "A", 7)),
            NewEvent("offer", (), None, "anna", '"data":{}}', Reach(
                "order", "A", 2**40, ("bayID=ب 2", "x=\x1e\x1f\n,\"[]"), ("orderID=A", "bayID=1"), ("bayID=ب 2",),
                ("role:csr", "user:12"), ("*",), 0.25,
            )),
        ]  # fmt: skip
        committed = await commit(event_log, submission(*given), now_ms=NOW_MS)
        events = await read_all(event_log)
        assert events == committed.events
        assert [event[2:] for event in events] == [tuple(event) for event in given]
        assert [event[:2] for event in events] == [(seq, NOW_MS) for seq in (1, 2, 3, 4)]

    # -- restart ------------------------------------------------------------------------------------

    async def test_a_restart_keeps_everything(self, opened: Open) -> None:
        first = await opened()
        await commit(first, *(submission(note(str(i)), key=f"k{i}") for i in range(20)))
        await first.trim(TENANT, 5)
        await first.ensure("other")
        bounds, events = await first.bounds([TENANT, "other"]), await read_all(first)
        await first.aclose()
        second = await opened()
        assert await second.tenants() == ["other", TENANT]
        assert await second.bounds([TENANT, "other"]) == bounds
        assert await read_all(second) == events
        repeated = await commit(second, submission(note("7"), key="k7"), texts("next"))
        assert receipts(repeated)[0] == (f"{repeated.epoch}.8", "status_update", True)
        assert receipts(repeated, 1)[0].event_id == f"{bounds[TENANT].epoch}.21"

    async def test_closing_twice_is_closing_once(self, event_log: EventLog) -> None:
        await event_log.ensure(TENANT)
        await event_log.aclose()
        await event_log.aclose()

    async def test_a_log_that_was_never_opened_opens_at_first_use(self) -> None:
        event_log = self.make()
        try:
            assert (await event_log.ensure(TENANT)).head == 0
            assert (await event_log.describe())["store"]
        finally:
            await event_log.aclose()

    async def test_a_committed_group_offered_again_by_key_is_not_doubled(self, event_log: EventLog) -> None:
        group = Group([submission(note("a"), key="k"), submission(note("b"), key="l")])
        deadline_s = asyncio.get_running_loop().time() + 30
        await event_log.ensure(TENANT)
        await event_log.transact(TENANT, group, now_ms=NOW_MS, deadline_s=deadline_s)
        again = await event_log.transact(TENANT, group, now_ms=NOW_MS, deadline_s=deadline_s)
        assert all(receipt.duplicate for i in (0, 1) for receipt in receipts(again, i))
        assert [text_of(e) for e in await read_all(event_log)] == ["a", "b"]
