"""Any interleaving of what others do, what this client does, answers, lost answers, the feed, resets and snapshots.

The server is the shop in memory (its rules are the real ones). What is held against the replica after every step: a
replica that is made anew out of what the cache holds, and the rule that nothing older is ever shown again; in the
end, the shop itself.
"""

from collections import deque
from contextlib import suppress
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from pydantic_core import from_json

from sync_client import documents
from sync_client.memory import MemoryCache
from sync_client.pending import PendingCommand
from sync_client.records import Batch, StoredDocument
from sync_client.replica import Replica
from sync_core.cursor import Cursor
from sync_core.domain import bays, orders, queues, waiting
from sync_core.domain.catalog import DOMAIN
from sync_core.domain.command import Command, RuleConflict
from sync_core.domain.document import Ref, by_kind
from sync_core.filters import Filter
from sync_core.problems import NotFound, Problem, Unprocessable
from tests.client.stock import EPOCH, answer_of, given, seen
from tests.core.domain.shop import ITEM, Shop, open_shop

VIEWS = [Filter(), Filter(), Filter(tags=frozenset({"bayID=b1"})), Filter(tags=frozenset({"queueID=q1", "orderID=o2"}))]
order_ids = st.sampled_from(["o1", "o2", "o3"])
WISHES: list[tuple[Command, dict[str, Any]]] = [
    (orders.create, {"orderID": order_ids, "items": st.just([ITEM])}),
    (orders.change_stage, {"orderID": order_ids, "newStage": st.sampled_from(["in_progress", "cancelled"])}),
    (orders.set_status, {"orderID": order_ids, "status": st.sampled_from(["a", "b"])}),
    (orders.set_status, {"orderID": order_ids, "status": st.sampled_from(["a", "b"])}),
    (orders.create, {"orderID": order_ids}),
    (orders.delete, {"orderID": order_ids}),
    (orders.delete, {"orderID": order_ids}),
    (queues.edit, {"queueID": st.just("q1"), "paused": st.booleans()}),
    (waiting.enter, {"queueID": st.just("q1"), "orderID": order_ids}),
    (waiting.enter, {"queueID": st.just("q1"), "orderID": order_ids}),
    (waiting.leave, {"queueID": st.just("q1"), "orderID": order_ids}),
    (bays.call_next, {"queueID": st.just("q1"), "bayID": st.sampled_from(["b1", "b2"]), "jobID": st.just("j")}),
    (bays.finish_job, {"bayID": st.sampled_from(["b1", "b2"]), "jobID": st.just("j")}),
    (bays.abort_job, {"bayID": st.sampled_from(["b1", "b2"]), "jobID": st.just("j"), "reason": st.just("x")}),
    (bays.edit, {"bayID": st.sampled_from(["b1", "b2"]), "status": st.just("available")}),
]  # fmt: skip
wishes = st.sampled_from(WISHES).flatmap(lambda wish: st.tuples(st.just(wish[0]), st.fixed_dictionaries(wish[1])))


class RandomTill(RuleBasedStateMachine):
    """One client of the shop q1, b1, b2, o1 ... o3."""

    @initialize(view=st.sampled_from(VIEWS), begun=st.booleans())
    def open(self, view: Filter, begun: bool) -> None:
        self.shop: Shop = open_shop(waiting_in=["o1", "o2"])
        self.shop.do(bays.create, bayID="b2", name="Second")
        self.view = view
        self.cache = MemoryCache()
        self.replica = Replica(DOMAIN, view=view)
        self.replica.load([], complete_to=Cursor(EPOCH, 0), due="" if begun else "first")
        self.cache.commit(Batch(complete_to=f"{EPOCH}.0"))
        self.cursor = 0 if begun else len(self.shop.log)
        self.pending: list[PendingCommand] = []
        self.outcomes: dict[str, dict[str, Any]] = {}
        self.mail: deque[tuple[str, dict[str, Any]]] = deque()
        self.snapshot: tuple[Cursor, int, list[Ref], int] | None = None
        self.told: dict[Ref, int] = {}
        """The newest version of each document that this client was told of."""

    # -- the shop -----------------------------------------------------------------------------------------

    @rule(wishes=st.lists(wishes, min_size=1, max_size=4), heard=st.booleans(), forgets=st.booleans())
    def somebody_else_does(self, wishes: list[tuple[Command, dict[str, Any]]], heard: bool, forgets: bool) -> None:
        for command, fields in wishes:
            with suppress(RuleConflict, NotFound, Unprocessable):
                self.shop.do(command, **fields)
        if heard:
            self.the_feed_brings(100)
        if forgets:
            self.old_ones_are_forgotten()

    # -- this client --------------------------------------------------------------------------------------

    @rule(wishes=st.lists(wishes, min_size=1, max_size=4))
    def this_client_gives(self, wishes: list[tuple[Command, dict[str, Any]]]) -> None:
        self.pending += [given(command, **fields) for command, fields in wishes]
        self.replica.set_pending(self.pending)

    @precondition(lambda self: self.pending)
    @rule()
    def the_first_is_sent(self) -> None:
        """It may have been before: the server says the same again."""
        command = self.pending[0]
        if command.key not in self.outcomes:
            self.outcomes[command.key] = self._outcome(command)
        self.mail.append((command.key, self.outcomes[command.key]))

    def _outcome(self, pending: PendingCommand) -> dict[str, Any]:
        fields = from_json(pending.given.model_dump_json(exclude_unset=True))
        try:
            return answer_of(self.shop, lambda: self.shop.do(pending.command, **fields))
        except RuleConflict as exc:
            return {"current": by_kind((type(d), d.content()) for d in exc.documents)}
        except Problem:
            return {"current": {}}

    @precondition(lambda self: self.pending)
    @rule(data=st.data())
    def one_is_discarded(self, data: st.DataObject) -> None:
        self.pending.remove(data.draw(st.sampled_from(self.pending)))
        self.replica.set_pending(self.pending)

    @precondition(lambda self: self.mail)
    @rule(lost=st.sampled_from([False, False, True]))
    def an_answer_comes(self, lost: bool) -> None:
        key, outcome = self.mail.popleft()
        if lost or not self.pending or self.pending[0].key != key:
            return
        self.pending.pop(0)
        here = Cursor(EPOCH, self.cursor)
        if "current" in outcome:
            self.take(self.replica.of_refusal(outcome["current"]), pending=self.pending)
            return
        found = self.replica.of_answer(outcome, at=here)
        self.take(found, pending=self.pending)
        self.check_shown(found)

    def check_shown(self, found: list[StoredDocument]) -> None:
        """No flicker back: what the server has answered is shown, or something newer is."""
        done = self.replica.complete_to
        for one in found:
            entry = self.replica.get(Ref(one.kind, one.id))
            is_known_by_now = done is not None and one.seq <= done.seq
            if entry is not None and not entry.pending and not is_known_by_now:
                assert entry.document.version >= one.version

    # -- the feed -----------------------------------------------------------------------------------------

    @rule(count=st.integers(1, 6))
    def the_feed_brings(self, count: int) -> None:
        upto = min(self.cursor + count, len(self.shop.log))
        self.take_events(self.cursor, upto)
        self.cursor = max(self.cursor, upto)

    @precondition(lambda self: not self.replica.due or self.snapshot)
    @rule(first=st.integers(0, 5), count=st.integers(0, 30))
    def the_feed_begins_again(self, first: int, count: int) -> None:
        """With other rights, say: from an early event on, and a snapshot is due."""
        self.demand("access")
        self.cursor = min(first, self.cursor)
        self.the_feed_brings(count)

    @precondition(lambda self: not self.replica.due or self.snapshot)
    @rule()
    def events_are_missed(self) -> None:
        self.demand("expired")
        self.cursor = len(self.shop.log)

    def demand(self, reason: str) -> None:
        here = Cursor(EPOCH, self.cursor)
        done = self.replica.completed(here)
        self.cache.commit(Batch(snapshot_due=reason, complete_to=None if done is None else str(done)))
        self.replica.demand(reason, at=here)

    def take_events(self, first: int, last: int) -> None:
        found = []
        for seq in range(first, last):
            shown = self.shown(from_json(self.shop.log[seq]))
            document = None if shown is None else self.replica.of_event(shown)
            if document is not None:
                found.append(document)
        self.take(found)

    def shown(self, event: dict[str, Any]) -> dict[str, Any] | None:
        """As the server shows it to this view: whole, as removed, or not."""
        tags = {f"{key}={event[key]}" for key in ("orderID", "queueID", "bayID", "jobID") if key in event}
        if self.view.matches(event["eventType"], tags):
            return event
        for name, kind in DOMAIN.kinds.items():
            if "version" in event and name in event["data"] and not event["data"].get("deleted"):
                document_id = event["data"][name][kind.id_key]
                before = self.before(Ref(name, document_id), event["version"])
                if before is not None and self.view.matches("", before):
                    data = {"kind": name, "id": document_id, "version": event["version"]}
                    return {"id": event["id"], "eventType": "removed", "data": data}
        return None

    def before(self, ref: Ref, version: int) -> tuple[str, ...] | None:
        """The tags of a document in the version before."""
        kind = DOMAIN.kinds[ref.kind]
        for text in self.shop.log:
            event = from_json(text)
            content = event["data"].get(ref.kind)
            if "version" not in event or not isinstance(content, dict) or event["data"].get("deleted"):
                continue
            if content[kind.id_key] == ref.id and event["version"] == version - 1:
                return kind.model_validate(content).tags()
        return None

    def take(self, found: list[StoredDocument], *, pending: list[PendingCommand] | None = None) -> None:
        news = self.replica.newer(found)
        for one in news:
            ref = Ref(one.kind, one.id)
            self.told[ref] = max(one.version, self.told.get(ref, 0))
        self.cache.commit(Batch(documents=news))
        self.replica.apply(news, pending=None if pending is None else list(pending))

    # -- snapshots ----------------------------------------------------------------------------------------

    @precondition(lambda self: self.replica.due or self.snapshot)
    @rule(size=st.sampled_from([2, 4, 10]))
    def a_page_of_the_snapshot_comes(self, size: int) -> None:
        if self.snapshot is None:
            self.snapshot = Cursor(EPOCH, len(self.shop.log)), 0, [], self.replica.demands
        cursor, count, passed, demands = self.snapshot
        left = [ref for ref in sorted(self.shop.bodies) if not passed or ref > passed[-1]]
        refs = left[:size]
        page: dict[str, Any] = {kind.plural: [] for kind in DOMAIN.kinds.values()}
        for ref in refs:
            document = self.shop.known(ref).document
            assert document is not None
            if self.view.matches("", document.tags()):
                page[DOMAIN.kinds[ref.kind].plural].append(document.content())
        found = documents.of_page(page, DOMAIN.kinds, cursor=cursor)
        self.cache.stage(found, first=not passed)
        count += len(found)
        self.snapshot = cursor, count, [*passed, *refs], demands
        if len(left) > size:
            return
        self.snapshot = None
        if self.replica.demands == demands:
            self.replica.install(self.cache.install(cursor, count=count), cursor=cursor)

    def old_ones_are_forgotten(self) -> None:
        here = Cursor(EPOCH, self.cursor)
        expired = self.replica.expired(here)
        if expired:
            done = self.replica.completed(here)
            self.cache.commit(Batch(complete_to=None if done is None else str(done), forgotten=expired))
            self.replica.complete_to = done
            self.replica.apply((), forgotten=expired)

    # -- what always holds --------------------------------------------------------------------------------

    @invariant()
    def it_looks_like_one_that_begins_with_what_the_cache_holds(self) -> None:
        fresh = Replica(DOMAIN, view=self.view)
        saved = self.cache.load()
        fresh.load(self.cache.documents(), complete_to=None, due=saved.snapshot_due)
        fresh.set_pending(self.pending)
        assert seen(self.replica) == seen(fresh)

    @invariant()
    def nothing_older_is_shown_as_true_again(self) -> None:
        """Of what was deleted or went out of view, neither."""
        for ref in [ref for kind in DOMAIN.kinds for ref in self.replica.refs(kind)]:
            document = self.replica.truth(ref)
            if document is not None:
                assert document.version >= self.told.get(ref, 0)
                self.told[ref] = document.version

    @invariant()
    def a_fresh_one_that_has_heard_everything_is_the_shop(self) -> None:
        if self.replica.fresh and self.cursor == len(self.shop.log):
            truth = {ref: self.replica.truth(ref) for kind in DOMAIN.kinds for ref in self.replica.refs(kind)}
            assert {ref: found for ref, found in truth.items() if found is not None} == self.visible()

    def visible(self) -> dict[Ref, Any]:
        known = {ref: self.shop.known(ref).document for ref in self.shop.bodies}
        return {ref: found for ref, found in known.items() if found and self.view.matches("", found.tags())}

    def teardown(self) -> None:
        """Everything comes to its end, and nothing is left to wait for."""
        while self.pending:
            self.the_first_is_sent()
            self.mail = deque([self.mail[-1]])
            self.an_answer_comes(lost=False)
        while self.cursor < len(self.shop.log):
            self.the_feed_brings(6)
        while self.replica.due:
            self.a_page_of_the_snapshot_comes(4)
        self.a_fresh_one_that_has_heard_everything_is_the_shop()
        assert seen(self.replica) == {
            f"{ref.kind} {ref.id}": (found.content(), False) for ref, found in self.visible().items()
        }


RandomTill.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestRandomTill = RandomTill.TestCase
