"""Any interleaving of what others do, what this client does, answers, lost answers, the feed, resets and snapshots.

The server is the shop in memory (its rules are the real ones). What is held against the replica after every step: a
replica that is made anew out of what the cache holds, and the rule that nothing older is ever shown again; in the
end, the shop itself.
"""

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import Any

from hypothesis import given as given_any
from hypothesis import settings
from hypothesis import strategies as st
from pydantic_core import from_json

from sync_client import documents
from sync_client.memory import MemoryCache
from sync_client.pending import PendingCommand
from sync_client.records import Batch, StoredDocument
from sync_client.replica import Replica
from sync_core.cursor import Cursor
from sync_core.domain import bays, orders, queues, waiting
from sync_core.domain.catalog import DOMAIN
from sync_core.domain.changes import RuleConflict
from sync_core.domain.command import Command
from sync_core.domain.document import Document, Ref, by_kind
from sync_core.filters import Filter
from sync_core.problems import NotFound, Problem, Unprocessable
from tests.client.stock import EPOCH, answer_of, given, seen
from tests.core.domain.shop import ITEM, Shop, open_shop

OWN = "till#1"
VIEWS = [Filter(), Filter(), Filter(tags=frozenset({"bayID=b1"})), Filter(tags=frozenset({"queueID=q1", "orderID=o2"}))]
ORDERS, BAYS = ["o1", "o2", "o3"], ["b1", "b2"]
WISHES: list[tuple[int, Command, dict[str, list[Any]]]] = [
    (3, orders.create, {"orderID": ORDERS, "items": [[ITEM], []]}),
    (3, orders.change_stage, {"orderID": ORDERS, "newStage": ["in_progress", "cancelled"]}),
    (5, orders.set_status, {"orderID": ORDERS, "status": ["a", "b"]}),
    (4, orders.delete, {"orderID": ORDERS}),
    (1, queues.edit, {"queueID": ["q1"], "paused": [True, False, False]}),
    (5, waiting.enter, {"queueID": ["q1"], "orderID": ORDERS}),
    (1, waiting.leave, {"queueID": ["q1"], "orderID": ORDERS}),
    (4, bays.call_next, {"queueID": ["q1"], "bayID": BAYS, "jobID": ["j"]}),
    (3, bays.finish_job, {"bayID": BAYS, "jobID": ["j"]}),
    (1, bays.abort_job, {"bayID": BAYS, "jobID": ["j"], "reason": ["x"]}),
    (3, bays.edit, {"bayID": BAYS, "status": ["available"]}),
]
"""What anybody may want, and how often."""


class Till:
    """One client of the shop q1, b1, b2, o1 ... o3."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.shop: Shop = open_shop(waiting_in=["o1", "o2"])
        self.shop.do(bays.create, bayID="b2", name="Second")
        self.own_seqs: set[int] = set()
        self.has_stray = False
        """Whether one was discarded on its way, whose effect may be still to come."""
        self.view = rng.choice(VIEWS)
        self.cache = MemoryCache()
        self.replica = Replica(DOMAIN, view=self.view)
        begun = rng.random() < 0.5
        self.replica.load([], complete_to=Cursor(EPOCH, 0), due="" if begun else "first")
        self.cache.commit(Batch(complete_to=f"{EPOCH}.0"))
        self.events: list[dict[str, Any]] = []
        self.latest: dict[Ref, Document] = {}
        self.cursor = 0 if begun else self.head
        self.pending: list[PendingCommand] = []
        self.replica.client_id = OWN
        self.replica.in_flight = self.in_flight
        self.outcomes: dict[str, dict[str, Any]] = {}
        self.mail: deque[tuple[str, dict[str, Any]]] = deque()
        self.snapshot: tuple[Cursor, int, list[Ref], int] | None = None
        self.told: dict[Ref, int] = {}
        """The newest version of each document that this client was told of."""

    def step(self) -> None:
        steps: list[tuple[int, Callable[[], None]]] = [
            (6, self.somebody_else_does_something),
            (5, self.this_client_gives_commands),
            (6, self.the_first_is_sent),
            (6, self.an_answer_comes),
            (1, self.one_is_discarded),
            (6, self.the_feed_brings_some),
            (1, self.the_feed_begins_again),
            (1, self.events_are_missed),
            (5, self.a_page_of_the_snapshot_comes),
            (3, self.old_ones_are_forgotten),
        ]
        weights = [weight for weight, _ in steps]
        self.rng.choices(steps, weights)[0][1]()
        self.check()

    # -- the shop -----------------------------------------------------------------------------------------

    def wish(self) -> tuple[Command, dict[str, Any]]:
        _, command, fields = self.rng.choices(WISHES, [wish[0] for wish in WISHES])[0]
        return command, {name: self.rng.choice(values) for name, values in fields.items()}

    def somebody_else_does_something(self) -> None:
        for _ in range(self.rng.randint(1, 4)):
            command, fields = self.wish()
            with suppress(RuleConflict, NotFound, Unprocessable):
                self.shop.do(command, **fields)

    @property
    def head(self) -> int:
        """The log's head; what is new in it is worked out as this view is shown it."""
        while len(self.events) < len(self.shop.log):
            is_own = len(self.events) + 1 in self.own_seqs
            event = from_json(self.shop.log[len(self.events)]) | ({"clientID": OWN} if is_own else {})
            self.events.append(self.shown(event))
        return len(self.events)

    def shown(self, event: dict[str, Any]) -> dict[str, Any]:
        """As the server shows it to this view: whole, as removed, or (empty) not at all."""
        if "version" not in event:
            return {}
        name, kind = next((name, kind) for name, kind in DOMAIN.kinds.items() if name in event["data"])
        ref = Ref(name, event["data"][name][kind.id_key])
        before = self.latest.pop(ref, None)
        document = None
        if not event["data"].get("deleted"):
            document = self.latest[ref] = kind.model_validate(event["data"][name])
        if self.in_view(document or before):
            return event
        data = {"kind": name, "id": ref.id, "version": event["version"]}
        return {"id": event["id"], "eventType": "removed", "data": data} if self.in_view(before) else {}

    def in_view(self, document: Document | None) -> bool:
        return document is not None and self.view.matches("", document.tags())

    # -- this client --------------------------------------------------------------------------------------

    def this_client_gives_commands(self) -> None:
        for _ in range(self.rng.randint(1, 4)):
            command, fields = self.wish()
            self.pending.append(given(command, **fields))
        self.replica.set_pending(self.pending)

    def the_first_is_sent(self) -> None:
        """It may have been before: the server says the same again."""
        if not self.pending:
            return
        command = self.pending[0]
        if command.key not in self.outcomes:
            self.outcomes[command.key] = self.outcome(command)
        self.mail.append((command.key, self.outcomes[command.key]))

    def in_flight(self) -> str | None:
        key = self.pending[0].key if self.pending else ""
        return key if key in self.outcomes and not self.has_stray else None

    def outcome(self, pending: PendingCommand) -> dict[str, Any]:
        before = len(self.shop.log)
        outcome = self.outcome_of(pending)
        self.own_seqs |= set(range(before + 1, len(self.shop.log) + 1))
        return outcome

    def outcome_of(self, pending: PendingCommand) -> dict[str, Any]:
        fields = from_json(pending.given.model_dump_json(exclude_unset=True))
        try:
            return answer_of(self.shop, lambda: self.shop.do(pending.command, **fields))
        except RuleConflict as exc:
            return {"current": by_kind((type(d), d.content()) for d in exc.documents)}
        except Problem:
            return {"current": {}}

    def an_answer_comes(self) -> None:
        """To the first command, or to one that has been answered; sometimes it is lost on the way."""
        if not self.mail:
            return
        key, outcome = self.mail.popleft()
        if self.rng.random() < 0.2 or not self.pending or self.pending[0].key != key:
            return
        self.pending.pop(0)
        if "current" in outcome:
            self.take(self.replica.of_refusal(outcome["current"]), pending=self.pending)
            return
        self.has_stray = False
        found = self.replica.of_answer(outcome, at=Cursor(EPOCH, self.cursor))
        self.take(found, pending=self.pending)
        self.check_shown(found)

    def check_shown(self, found: list[StoredDocument]) -> None:
        """No flicker back: what the server has answered is shown, or something newer is."""
        done = self.replica.complete_to
        for one in found:
            is_known_by_now = done is not None and one.seq <= done.seq
            entry = self.replica.get(Ref(one.kind, one.id))
            if entry is not None and not entry.pending and not is_known_by_now:
                assert entry.document.version >= one.version

    def one_is_discarded(self) -> None:
        if self.pending:
            discarded = self.rng.choice(self.pending)
            self.has_stray = self.has_stray or discarded.key in self.outcomes
            self.pending.remove(discarded)
            self.replica.set_pending(self.pending)

    # -- the feed -----------------------------------------------------------------------------------------

    def the_feed_brings_some(self) -> None:
        self.the_feed_brings(self.rng.choice([1, 2, 4, 100]))

    def the_feed_brings(self, count: int) -> None:
        upto = min(self.cursor + count, self.head)
        found = [self.replica.of_event(event) for event in self.events[self.cursor : upto]]
        self.take([document for document in found if document is not None])
        self.cursor = upto

    def the_feed_begins_again(self) -> None:
        """With other rights, say: from an early event on, and a snapshot is due."""
        self.demand("access")
        self.cursor = min(self.rng.randint(0, 5), self.cursor)
        self.the_feed_brings_some()

    def events_are_missed(self) -> None:
        self.demand("expired")
        self.cursor = self.head

    def demand(self, reason: str) -> None:
        here = Cursor(EPOCH, self.cursor)
        done = self.replica.completed(here)
        self.cache.commit(Batch(snapshot_due=reason, complete_to=None if done is None else str(done)))
        self.replica.demand(reason, at=here)

    def take(self, found: list[StoredDocument], *, pending: list[PendingCommand] | None = None) -> None:
        news = self.replica.newer(found)
        for one in news:
            ref = Ref(one.kind, one.id)
            self.told[ref] = max(one.version, self.told.get(ref, 0))
        self.cache.commit(Batch(documents=news))
        self.replica.apply(news, pending=None if pending is None else list(pending))

    # -- snapshots ----------------------------------------------------------------------------------------

    def a_page_of_the_snapshot_comes(self) -> None:
        if self.snapshot is None and self.replica.due:
            self.snapshot = Cursor(EPOCH, self.head), 0, [], self.replica.demands
        if self.snapshot is None:
            return
        cursor, count, passed, demands = self.snapshot
        left = [ref for ref in sorted(self.shop.bodies) if not passed or ref > passed[-1]]
        refs = left[: self.rng.choice([2, 4, 100])]
        page: dict[str, Any] = {kind.plural: [] for kind in DOMAIN.kinds.values()}
        for ref in refs:
            document = self.shop.known(ref).document
            if document is not None and self.in_view(document):
                page[DOMAIN.kinds[ref.kind].plural].append(document.content())
        found = documents.of_page(page, DOMAIN.kinds, cursor=cursor)
        self.cache.stage(found, first=not passed)
        count += len(found)
        self.snapshot = cursor, count, [*passed, *refs], demands
        if len(left) > len(refs):
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

    def check(self) -> None:
        self.check_that_the_cache_would_show_the_same()
        self.check_that_nothing_older_is_shown()
        self.check_that_what_landed_was_done()
        if self.replica.fresh and self.cursor == self.head:
            self.check_that_it_is_the_shop()

    def check_that_the_cache_would_show_the_same(self) -> None:
        anew = Replica(DOMAIN, view=self.view)
        anew.load(self.cache.documents(), complete_to=None, due=self.cache.load().snapshot_due)
        landed = self.replica.landed
        if not all(landed.values()):
            return  # in the middle of a command that the feed tells of: no file has what was shown of the rest of it
        anew.set_pending([command for command in self.pending if command.key not in landed])
        assert seen(self.replica) == seen(anew)

    def check_that_what_landed_was_done(self) -> None:
        """What the feed has told of is not shown on top any more: the server has done it."""
        for key in self.replica.landed:
            assert "cursor" in self.outcomes[key]

    def check_that_nothing_older_is_shown(self) -> None:
        """Of what was deleted or went out of view, neither."""
        for ref, document in self.truth().items():
            assert document.version >= self.told.get(ref, 0)
            self.told[ref] = document.version

    def check_that_it_is_the_shop(self) -> None:
        assert self.truth() == {ref: document for ref, document in self.latest.items() if self.in_view(document)}

    def truth(self) -> dict[Ref, Document]:
        refs = [ref for kind in DOMAIN.kinds for ref in self.replica.refs(kind)]
        return {ref: document for ref in refs if (document := self.replica.truth(ref)) is not None}

    def finish(self) -> None:
        """Everything comes to its end, and nothing is left to wait for."""
        while self.pending:
            self.the_first_is_sent()
            self.mail = deque([self.mail[-1]])
            self.an_answer_comes()
        while self.cursor < self.head:
            self.the_feed_brings_some()
        while self.replica.due:
            self.a_page_of_the_snapshot_comes()
        self.check()
        self.check_that_it_is_the_shop()
        assert not any(pending for _, pending in seen(self.replica).values())


@given_any(st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_whatever_comes_in_whatever_order_nothing_old_is_shown_and_all_ends_well(seed: int) -> None:
    till = Till(Random(seed))
    for _ in range(80):
        till.step()
    till.finish()
