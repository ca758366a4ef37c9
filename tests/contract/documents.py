"""What every event log has to hold of documents, whatever its store."""

import asyncio
import json
from dataclasses import dataclass
from typing import Any

import pytest

from sync_core.domain.document import Ref
from sync_core.problems import Conflict
from sync_server.log.base import EventLog, LogMisconfigured, Selection
from sync_server.log.group import Decision, View
from sync_server.log.open import new_epoch
from sync_server.log.paging import PAGE_BYTES, SCAN_ROWS
from sync_server.log.records import NewEvent, OutcomeKey, StoredDocument
from sync_server.log.retention import Retention, enforce
from tests.contract.store import Open, StoreTests
from tests.log.changes import Change, all_documents, changes, check_documents, held, told
from tests.log.writes import TENANT, commit, make_appender, read_all, seqs, submission, texts

NOW_MS = 1_763_634_600_000


SELECTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "all": ({}, "abcdef"),
    "with deleted": ({"deleted": True}, "abcdefg"),
    "one tag": ({"tags": {"bayID=1"}}, "bc"),
    "any of several tags": ({"tags": {"bayID=1", "orderID=a", "bayID=none"}}, "abc"),
    "no part of a tag": ({"tags": {"bayID=", "ayID=1", "1"}}, ""),
    "many tags": ({"tags": {f"orderID={i}" for i in range(198)} | {"bayID=2", "orderID=e"}}, "cde"),
    "one state": ({"states": {"busy"}}, "bd"),
    "several states": ({"states": {"busy", "new", "lost"}}, "abd"),
    "no state": ({"states": {""}}, "cef"),
    "changed since": ({"updated_since_ms": NOW_MS + 200}, "cdef"),
    "open or finished since": ({"finished_since_ms": NOW_MS + 300}, "abdef"),
    "finished long ago": ({"finished_since_ms": NOW_MS}, "abcdef"),
    "only open": ({"finished_since_ms": NOW_MS + 10**9}, "abf"),
    "all at once": (
        {"tags": {"bayID=2"}, "states": {"", "busy"}, "updated_since_ms": NOW_MS + 200,
         "finished_since_ms": NOW_MS + 300}, "d",
    ),
}  # fmt: skip


def versions(documents: list[StoredDocument]) -> dict[str, int]:
    return {document.id: document.version for document in documents}


async def loaded(event_log: EventLog, *ids: str, kind: str = "order") -> dict[str, StoredDocument]:
    page = await event_log.load(TENANT, [Ref(kind, document_id) for document_id in ids])
    return {document.id: document for document in page.documents}


@dataclass(frozen=True)
class Blind(Change):
    """Writes its documents as if they were new, without having read them."""

    @property
    def refs(self) -> list[Ref]:
        return []

    def decide(self, view: View) -> Decision[tuple[int, ...]]:
        nothing_known = dict.fromkeys((Ref(self.kind, document_id) for document_id in self.ids), None)
        unread = View(view.epoch, view.next_seq, view.time_ms, {}, {**nothing_known})
        return Change(self.text, self.ids, kind=self.kind).decide(unread)


@dataclass(frozen=True)
class Raw(Change):
    """Writes *document* as it is."""

    document: StoredDocument | None = None

    @property
    def refs(self) -> list[Ref]:
        assert self.document is not None
        return [self.document.ref]

    def decide(self, view: View) -> Decision[tuple[int, ...]]:
        assert self.document is not None
        return Decision([], {}, (), [self.document])


class DocumentsContract(StoreTests):
    """Inherited by one test class per store and driver."""

    # -- writing ------------------------------------------------------------------------------------

    async def test_documents_and_events_are_committed_together(self, event_log: EventLog) -> None:
        committed = await commit(event_log, Change("one", ("a", "b")), texts("between"), Change("two", ("b", "c")))
        assert committed.results[0] == (1, 1)
        assert committed.results[2] == (2, 1)
        assert versions(await all_documents(event_log)) == {"a": 1, "b": 2, "c": 1}
        assert [event.reach is not None for event in committed.events] == [True, True, False, True, True]
        await check_documents(event_log)

    @pytest.mark.parametrize("poisoned", ["event", "document"])
    async def test_a_failed_group_leaves_neither_documents_nor_events(self, event_log: EventLog, poisoned: str) -> None:
        await commit(event_log, Change("before", ("a",)))
        event = submission(NewEvent("status_update", (), None, "anna", '"data":{"text":"\ud800"}}'))
        document = Raw("", (), document=StoredDocument("order", "z", 1, False, True, "", (), (), (), 4, 0, "\ud800"))
        with pytest.raises(UnicodeEncodeError):
            await commit(event_log, Change("never", ("a", "b")), event if poisoned == "event" else document)
        assert versions(await all_documents(event_log)) == {"a": 1}
        assert (await event_log.ensure(TENANT)).head == 1
        await commit(event_log, Change("after", ("a", "b")))
        await check_documents(event_log)

    async def test_members_on_one_document_see_each_other(self, event_log: EventLog) -> None:
        await commit(event_log, Change("0", ("a",)))
        committed = await commit(event_log, *(Change(str(i), ("a",)) for i in range(1, 6)))
        assert committed.results == [(version,) for version in (2, 3, 4, 5, 6)]
        found = (await loaded(event_log, "a"))["a"]
        assert (found.version, found.seq, json.loads(found.body)["text"]) == (6, 6, "5")
        await check_documents(event_log)

    async def test_a_refusal_leaves_its_neighbours_alone(self, event_log: EventLog) -> None:
        committed = await commit(
            event_log,
            Change("first", ("a",)),
            Change("second", ("a",), at_version=0),
            Change("third", ("a", "b"), at_version=1),
        )
        assert isinstance(committed.results[1], Conflict)
        assert committed.results[2] == (2, 1)
        assert seqs(await read_all(event_log)) == [1, 2, 3]
        await check_documents(event_log)

    async def test_a_group_of_refusals_changes_no_document(self, event_log: EventLog) -> None:
        await commit(event_log, Change("first", ("a",)))
        await commit(event_log, *(Change("x", ("a",), at_version=0) for _ in range(3)))
        assert versions(await all_documents(event_log)) == {"a": 1}
        await check_documents(event_log)

    async def test_what_is_only_asked_for_while_deciding_is_loaded_then(self, event_log: EventLog) -> None:
        await commit(event_log, Change("before", ("q", "b")))
        committed = await commit(
            event_log,
            Change("one", ("a",), also=("q", "new")),
            Change("two", ("b",), also=("q",)),
            Change("three", ("c",), also=("a", "c2")),
        )
        assert committed.results == [(1, 2, 1), (2, 3), (1, 2, 1)]
        await check_documents(event_log)

    async def test_a_key_sent_again_changes_nothing_more(self, event_log: EventLog) -> None:
        key = OutcomeKey("anna", "k")
        first, same = (await commit(event_log, *(Change("x", ("a",), key=key) for _ in range(2)))).results
        (again,) = (await commit(event_log, Change("x", ("a",), key=key))).results
        assert first == same == again == (1,)
        await check_documents(event_log)

    async def test_a_document_that_was_not_read_is_not_overwritten(self, event_log: EventLog) -> None:
        """A mistake of ours: it fails alone, and harms nothing."""
        await commit(event_log, *changes("before", "a", "b"))
        appender = make_appender(event_log)
        blind, *others = await asyncio.gather(
            appender.append(TENANT, Blind("blind", ("b",))),
            *(appender.append(TENANT, change) for change in changes("after", "a", "c")),
            return_exceptions=True,
        )
        await appender.aclose()
        assert isinstance(blind, Exception)
        assert others == [(2,), (1,)]
        assert versions(await all_documents(event_log)) == {"a": 2, "b": 1, "c": 1}
        await check_documents(event_log)

    async def test_many_documents_in_one_group(self, event_log: EventLog) -> None:
        ids = [f"o{i:04}" for i in range(700)]
        await commit(event_log, *changes("one", *ids))
        await commit(event_log, *changes("two", *ids[::2], "new"))
        assert versions(await all_documents(event_log)) == {
            "new": 1, **{document_id: 1 + (i % 2 == 0) for i, document_id in enumerate(ids)}
        }  # fmt: skip
        await check_documents(event_log)

    @pytest.mark.parametrize("writers", [1, 3])
    async def test_changes_of_few_documents_by_many_writers_follow_each_other(
        self, event_log: EventLog, opened: Open, writers: int
    ) -> None:
        appenders = [make_appender(one) for one in await self.writers(writers, opened)]
        await event_log.ensure(TENANT)

        async def work(number: int) -> None:
            for step in range(10):
                also = (f"d{(number + step) % 4}",)
                await appenders[number % writers].append(TENANT, Change("x", (f"e{number % 3}",), also=also))

        await asyncio.gather(*(work(number) for number in range(12)))
        for appender in appenders:
            await appender.aclose()
        assert sum(versions(await all_documents(event_log)).values()) == 12 * 10 * 2
        await check_documents(event_log)

    async def test_every_field_is_kept(self, event_log: EventLog) -> None:
        body = json.dumps({"text": "طلب 🚗 \x00\x1e\x1f\n\u2028", "plain": "x"}) + " "
        odd = ("role:csr", "user:ب 2", 'x=\x1e\x1f\n,"[]')
        given = [
            StoredDocument("order", "A-1._", 1, False, True, "in_progress", ("orderID=A",), (), odd, 5, NOW_MS, body),
            StoredDocument("order", "B", 2**40, True, False, "", odd, ("orderID=A",), (), 2**40, 2**42, "{}"),
            StoredDocument("queue", "A-1._", 1, False, False, "ب", (), odd, ("*",), 0, 0, body.replace("\\u", "\\\\u")),
        ]
        await commit(event_log, *(Raw("", (), document=document) for document in given))
        assert await all_documents(event_log, deleted=True) == given
        assert set((await event_log.load(TENANT, [d.ref for d in given])).documents) == set(given)

    # -- deleting -----------------------------------------------------------------------------------

    async def test_a_deleted_document_stays_as_a_tombstone(self, event_log: EventLog) -> None:
        await commit(event_log, *changes("x", "a", "b"))
        await commit(event_log, Change("", ("a",), delete=True))
        assert versions(await all_documents(event_log)) == {"b": 1}
        assert versions(await all_documents(event_log, deleted=True)) == {"a": 2, "b": 1}
        assert (await loaded(event_log, "a"))["a"].deleted
        (again,) = (await commit(event_log, Change("made again", ("a",)))).results
        assert again == (3,)
        assert versions(await all_documents(event_log)) == {"a": 3, "b": 1}
        await check_documents(event_log)

    async def test_a_tombstone_stays_until_the_floor_has_passed_it(self, event_log: EventLog) -> None:
        await commit(event_log, *changes("x", "a", "b", "c"))  # 1 to 3
        await commit(event_log, *changes("", "a", "b", delete=True), *changes("made again", "b"))  # 4 to 6
        await commit(event_log, Change("", ("c",), delete=True))  # 7
        for floor, forgotten, left in ((3, 0, "abc"), (4, 1, "bc"), (6, 0, "bc"), (7, 1, "b")):
            await event_log.trim(TENANT, floor)
            assert await event_log.sweep(TENANT, now_ms=NOW_MS) == forgotten
            assert sorted(versions(await all_documents(event_log, deleted=True))) == [*left]
        assert (await commit(event_log, Change("new", ("a",)))).results == [(1,)]

    async def test_retention_forgets_tombstones_however_many(self, event_log: EventLog) -> None:
        ids = [f"o{i}" for i in range(700)]
        await commit(event_log, *changes("x", "kept", *ids))
        await commit(event_log, *changes("", *ids, delete=True))
        await commit(event_log, texts("newest"))
        await commit(event_log, *changes("", "kept", delete=True), tenant="other")
        await enforce(event_log, TENANT, Retention(10**15, 1), now_ms=NOW_MS)
        assert versions(await all_documents(event_log, deleted=True)) == {"kept": 1}
        assert len(await all_documents(event_log, "other", deleted=True)) == 1

    async def test_tombstones_are_swept_while_others_write(self, opened: Open) -> None:
        (event_log,) = await self.writers(1, opened)
        appender = make_appender(event_log)
        rounds = 30

        async def write() -> None:
            for i in range(rounds):
                await appender.append(TENANT, Change("x", ("a", f"b{i}")))
                await appender.append(TENANT, Change("x", ("a", f"b{i}"), delete=True))

        async def sweep() -> None:
            while not writing.done():
                await event_log.trim(TENANT, 10**9)
                await event_log.sweep(TENANT, now_ms=NOW_MS)

        await event_log.ensure(TENANT)
        async with asyncio.TaskGroup() as group:
            writing = group.create_task(write())
            group.create_task(sweep())
        await appender.aclose()
        await event_log.trim(TENANT, 10**9)
        while await event_log.sweep(TENANT, now_ms=NOW_MS):
            pass
        assert await all_documents(event_log, deleted=True) == []
        assert (await event_log.ensure(TENANT)).head == rounds * 4

    # -- loading ------------------------------------------------------------------------------------

    async def test_loading_gives_those_that_exist(self, event_log: EventLog) -> None:
        await commit(event_log, *changes("x", "a", "b"), Change("x", ("a",), kind="queue"))
        bounds = await event_log.ensure(TENANT)
        page = await event_log.load(TENANT, [Ref("order", "a"), Ref("queue", "b"), Ref("bay", "a"), Ref("order", "b")])
        assert {document.ref for document in page.documents} == {Ref("order", "a"), Ref("order", "b")}
        assert (page.bounds, page.next) == (bounds, None)
        assert (await event_log.load(TENANT, [])).documents == []
        assert (await event_log.load(TENANT, [Ref("order", "\x00 ' \x1e"), Ref("", "")])).documents == []

    async def test_what_was_acknowledged_is_there_for_every_reader(self, event_log: EventLog, opened: Open) -> None:
        (writing,) = await self.writers(1, opened)
        for number in range(1, 31):
            committed = await commit(writing, Change("x", ("a",)))
            page = await event_log.load(TENANT, [Ref("order", "a")])
            assert page.bounds.head == committed.events[-1].seq
            assert [document.version for document in page.documents] == [number]
            page = await event_log.documents(TENANT, Selection(("order",)), after=None, limit=10)
            assert (page.bounds.head, versions(page.documents)) == (number, {"a": number})

    async def test_tenants_have_documents_of_their_own(self, event_log: EventLog) -> None:
        await commit(event_log, Change("one", ("a",)), tenant="one")
        await commit(event_log, *changes("two", "a", "b"), tenant="two")
        await commit(event_log, Change("one", ("a",)), tenant="one")
        assert versions(await all_documents(event_log, "one")) == {"a": 2}
        assert versions(await all_documents(event_log, "two")) == {"a": 1, "b": 1}
        assert (await event_log.load("one", [Ref("order", "b")])).documents == []

    async def test_a_tenant_without_a_log_has_no_documents_to_read(self, event_log: EventLog) -> None:
        with pytest.raises(LogMisconfigured, match="nobody"):
            await event_log.load("nobody", [Ref("order", "a")])
        with pytest.raises(LogMisconfigured, match="nobody"):
            await event_log.documents("nobody", Selection(("order",)), after=None, limit=10)

    async def test_trim_new_epoch_and_restart_leave_documents_alone(self, opened: Open) -> None:
        first = await opened()
        await commit(first, *changes("x", "a", "b"), Change("x", ("b",)))
        documents = await all_documents(first)
        await first.trim(TENANT, 3)
        await first.new_epoch(TENANT, new_epoch())
        await first.aclose()
        second = await opened()
        assert await all_documents(second) == documents
        assert (await commit(second, Change("x", ("b",)))).results == [(3,)]

    async def test_the_log_tells_how_many_documents_it_has(self, event_log: EventLog) -> None:
        await commit(event_log, *changes("x", "a", "b", "c"))
        assert (await event_log.describe())["documents"] == "3"

    # -- one state ----------------------------------------------------------------------------------

    async def test_a_page_is_exactly_the_state_at_its_head(self, event_log: EventLog, opened: Open) -> None:
        (writing,) = await self.writers(1, opened)
        await commit(writing, *changes("x", *"abcdefgh"), Change("x", ("q",), kind="queue"))
        whole = Selection(("queue", "order"), deleted=True)
        refs = [*(Ref("order", document_id) for document_id in "abcdefgh"), Ref("queue", "q")]
        pages, loads = [], []

        async def write() -> None:
            appender = make_appender(writing)
            for i in range(60):
                await appender.append(TENANT, Change("x", ("a", "bcdefgh"[i % 7], f"n{i}")))
                await appender.append(TENANT, Change("x", ("q",), kind="queue", delete=i % 3 == 0))
            await appender.aclose()

        writer = asyncio.create_task(write())
        while not writer.done():
            pages.append(await event_log.documents(TENANT, whole, after=None, limit=1000))
            loads.append(await event_log.load(TENANT, refs))
        await writer
        states = [told([])]
        for event in await read_all(event_log):
            states.append(told([event], states[-1]))
        assert len({page.bounds.head for page in pages}) > 5
        for page in pages:
            assert held(page.documents) == states[page.bounds.head]
        for page in loads:
            assert held(page.documents) == {ref: states[page.bounds.head][ref] for ref in refs}

    async def test_pages_and_the_feed_from_the_first_cursor_make_the_end(
        self, event_log: EventLog, opened: Open
    ) -> None:
        (writing,) = await self.writers(1, opened)
        await commit(writing, *changes("x", *(f"o{i}" for i in range(60))))

        async def write() -> None:
            appender = make_appender(writing)
            for i in range(60):
                await appender.append(TENANT, Change("x", (f"o{i * 7 % 60}", f"o{i}x"), delete=i % 5 == 0))
            await appender.aclose()

        writer = asyncio.create_task(write())
        for limit in (1, 7, 20, 7, 1):
            first = await event_log.documents(TENANT, Selection(("order",)), after=None, limit=limit)
            found, after = first.documents, first.next
            while after is not None:
                page = await event_log.documents(TENANT, Selection(("order",)), after=after, limit=limit)
                found, after = found + page.documents, page.next
            replica = versions(found)
            assert len(replica) == len(found), "none twice"
            gone: set[str] = set()
            for event in await read_all(event_log, after=first.bounds.head):
                assert event.reach is not None
                if event.reach.version > replica.get(event.reach.id, 0):
                    replica[event.reach.id] = event.reach.version
                    gone.discard(event.reach.id)
                    if '"deleted": true' in event.tail:
                        gone.add(event.reach.id)
            if writer.done():
                assert {i: v for i, v in replica.items() if i not in gone} == versions(await all_documents(event_log))
        await writer

    # -- paging -------------------------------------------------------------------------------------

    async def test_pages_follow_the_order_of_kinds_and_ids(self, event_log: EventLog) -> None:
        ids = {"bay": ("b", "a"), "queue": ("q",), "order": ("z", "x", "1", "Z")}
        await commit(event_log, *(Change("x", own, kind=kind) for kind, own in ids.items()))
        for limit in (1, 2, 3, 10):
            documents = await all_documents(event_log, kinds=("order", "bay", "nothing", "queue"), limit=limit)
            assert [(d.kind, d.id) for d in documents] == [
                *(("order", document_id) for document_id in "1Zxz"), ("bay", "a"), ("bay", "b"), ("queue", "q")
            ]  # fmt: skip
        assert await all_documents(event_log, kinds=()) == []

    async def test_a_page_has_at_most_limit_documents_and_tells_where_the_next_begins(
        self, event_log: EventLog
    ) -> None:
        await commit(event_log, *changes("x", *"abcde"))
        page = await event_log.documents(TENANT, Selection(("order",)), after=Ref("order", "b"), limit=2)
        assert ([d.id for d in page.documents], page.next) == (["c", "d"], Ref("order", "d"))
        page = await event_log.documents(TENANT, Selection(("order",)), after=Ref("order", "d"), limit=2)
        assert ([d.id for d in page.documents], page.next) == (["e"], None)
        page = await event_log.documents(TENANT, Selection(("order",)), after=Ref("order", "ccc"), limit=1)
        assert [d.id for d in page.documents] == ["d"]

    async def test_a_page_that_begins_at_no_selected_kind_is_refused(self, event_log: EventLog) -> None:
        await event_log.ensure(TENANT)
        with pytest.raises(ValueError, match="bay"):
            await event_log.documents(TENANT, Selection(("order",)), after=Ref("bay", "a"), limit=1)

    async def test_pages_stay_in_order_while_documents_come_and_go(self, event_log: EventLog) -> None:
        await commit(event_log, *changes("x", *(f"o{i:02}" for i in range(0, 60, 2))))
        seen: list[str] = []
        after: Ref | None = None
        for step in range(100):
            page = await event_log.documents(TENANT, Selection(("order",)), after=after, limit=3)
            seen += [document.id for document in page.documents]
            after = page.next
            if after is None:
                break
            await commit(event_log, Change("x", (f"o{(step * 14 + 3) % 60:02}",)))  # odd ones come, on both sides
            await commit(event_log, Change("x", (f"o{step * 2:02}",), delete=step % 2 == 0))
        assert seen == sorted(set(seen))
        assert {f"o{i:02}" for i in range(50, 60, 2)} <= set(seen)

    async def test_large_documents_cut_a_page_but_never_to_nothing(self, event_log: EventLog) -> None:
        for number in range(9):
            await commit(event_log, Change("x", (f"o{number}",), padding="x" * (PAGE_BYTES // 4)))
        await commit(event_log, Change("x", ("a", "z"), kind="bay", padding="x" * (PAGE_BYTES + 1)))
        await commit(event_log, Change("x", ("small",), kind="queue"))
        pages: list[list[str]] = []
        after: Ref | None = None
        while not pages or after is not None:
            page = await event_log.documents(TENANT, Selection(("order", "bay", "queue")), after=after, limit=100)
            pages.append([document.id for document in page.documents])
            after = page.next
        assert pages == [["o0", "o1", "o2"], ["o3", "o4", "o5"], ["o6", "o7", "o8"], ["a"], ["z"], ["small"]]

    async def test_what_is_passed_over_is_bounded_and_leads_on(self, event_log: EventLog) -> None:
        """However few are selected, a page looks at SCAN_ROWS documents at most."""
        ids = [f"o{i:05}" for i in range(SCAN_ROWS + 10)]
        await commit(event_log, Change("x", tuple(ids), is_open=False), Change("x", (ids[-1], ids[100])))
        selection = Selection(("order", "bay"), finished_since_ms=2**50)
        first = await event_log.documents(TENANT, selection, after=None, limit=10)
        assert ([d.id for d in first.documents], first.next) == ([ids[100]], Ref("order", ids[SCAN_ROWS - 1]))
        second = await event_log.documents(TENANT, selection, after=first.next, limit=10)
        assert ([d.id for d in second.documents], second.next) == ([ids[-1]], None)
        nothing = Selection(("order",), states=frozenset({"lost"}))
        page = await event_log.documents(TENANT, nothing, after=None, limit=10)
        assert (page.documents, page.next) == ([], first.next)

    # -- selecting ----------------------------------------------------------------------------------

    @pytest.mark.parametrize("limit", [100, 1])
    async def test_a_selection_holds_what_it_asks_for(self, event_log: EventLog, limit: int) -> None:
        for step, member in enumerate(
            [
                Change("x", ("a",), state="new"),
                Change("x", ("b",), state="busy", tags=("bayID=1",)),
                Change("x", ("c",), is_open=False, tags=("bayID=1", "bayID=2")),
                Change("x", ("d",), is_open=False, tags=("bayID=2",), state="busy"),
                Change("x", ("e",), is_open=False),
                Change("x", ("f", "g")),
                Change("x", ("g",), delete=True, tags=("bayID=1",)),
            ]
        ):
            await commit(event_log, member, now_ms=NOW_MS + step * 100)
        found = {}
        for name, (given, _) in SELECTIONS.items():
            selected: Any = {key: frozenset(value) if isinstance(value, set) else value for key, value in given.items()}
            documents = await all_documents(event_log, limit=limit, **selected)
            found[name] = "".join(document.id for document in documents)
        assert found == {name: expected for name, (_, expected) in SELECTIONS.items()}
