"""Who is shown what: documents that move between entities and audiences, readers with all kinds of rights.

Against a model that knows no index, no channels and no pages: for each reader and each change, the event whole, as
removed, or nothing; the same live, replayed and polled.
"""

import asyncio
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from sync_core.filters import Filter
from sync_server.access.rights import OPEN_RIGHTS, Rights
from sync_server.feed.hub import FeedSettings, Hub
from sync_server.feed.reader import Reader
from sync_server.feed.view import View
from sync_server.log.records import NewEvent, Reach
from tests.feed.hubs import MemoryLog, Socket, begin, memory_hub, poll_page, view_of
from tests.streams import eventually

STEPS = 120
READERS = 60
PLACES = ("tillID=1", "tillID=2", "tillID=3")
LABELS = ("role:csr", "role:fueler", "user:1", "user:2")
KINDS = {"order": "order_updated", "queue": "queue_updated", "bay": "job_progress"}
VIEW = {"order": "view_orders", "queue": "view_queues", "bay": "view_bays"}
LOG_PATH, WINDOW_PATH = 3000, 16 * 1024 * 1024


@pytest.fixture(autouse=True)
def _short_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the logs of these tests are several, which readers share."""
    monkeypatch.setattr("sync_server.feed.replays.SPAN", 8)


Told = tuple[int, str, int]
"""What a reader was told: the event's seq, its type or "removed", the document's version (0: none)."""


@dataclass(frozen=True)
class State:
    """A document as the model knows it."""

    kind: str
    id: str
    version: int = 0
    tags: frozenset[str] = frozenset()
    grants: frozenset[str] = frozenset()
    audience: frozenset[str] = frozenset()

    def takes_away(self, before: "State") -> bool:
        kept = before.tags <= self.tags and before.grants <= self.grants and before.audience <= self.audience
        return not kept or bool(self.audience and not before.audience)


@dataclass(frozen=True)
class Change:
    """One event of the log, as the model knows it; *before* and *after* where it carries a document."""

    seq: int
    event: NewEvent
    judged_by: State | None = None
    after: State | None = None
    before: State | None = None

    @property
    def sampled(self) -> bool:
        return self.event.reach is not None and self.event.reach.sample is not None


@dataclass
class World:
    """The documents and everything that happened to them."""

    rng: random.Random
    documents: dict[str, State] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)

    def step(self) -> NewEvent:
        """Something happens."""
        rng, seq = self.rng, len(self.changes) + 1
        cause = (rng.choice([None, "till-1", "till-2"]), rng.choice(["anna", "bert"]))
        known = self.documents.get(f"{rng.choice(list(KINDS))}-{rng.randint(1, 3)}")
        if rng.random() < 0.15:  # a publisher's, about the same entities, of no document
            tags = tuple(rng.sample(PLACES, rng.randint(0, 2)))
            change = Change(seq, NewEvent("qr_generated", tags, *cause, '"data":{}}'))
        elif rng.random() < 0.15 and known is not None:
            reach = Reach(known.kind, known.id, 0, grants=tuple(known.grants), audience=tuple(known.audience))
            event = NewEvent("stage_change", tuple(known.tags), *cause, '"data":{}}', reach)
            change = Change(seq, event, judged_by=known)
        else:
            change = self._move(seq, cause)
        self.changes.append(change)
        return change.event

    def _move(self, seq: int, cause: tuple[str | None, str]) -> Change:
        rng = self.rng
        kind, number = rng.choice(list(KINDS)), rng.randint(1, 3)
        document_id = f"{kind}-{number}"
        before = self.documents.get(document_id)
        own = f"{kind}ID={document_id}"
        tags = frozenset({own, *rng.sample(PLACES, rng.randint(0, 2))})
        after = State(
            kind,
            document_id,
            1 if before is None else before.version + 1,
            tags=tags,
            grants=frozenset({own, *rng.sample(sorted(tags), rng.randint(0, len(tags)))}),
            audience=frozenset(rng.sample(LABELS, rng.choice([0, 0, 1, 2]))),
        )
        reach = Reach(
            kind, document_id, after.version, grants=tuple(after.grants), audience=tuple(after.audience),
            sample=rng.choice([None, None, None, 0.5]),
        )  # fmt: skip
        if before is not None and after.takes_away(before):
            reach = reach._replace(
                left=tuple(before.tags), grants_left=tuple(before.grants), audience_left=tuple(before.audience)
            )
        self.documents[document_id] = after
        tail = f'"data":{{"{kind}":{{}}}},"version":{after.version}}}'
        return Change(seq, NewEvent(KINDS[kind], tuple(tags), *cause, tail, reach), after, after, before)


def may_see(rights: Rights, kind: str | None, state: State | None) -> bool:
    """The rule, said once more and otherwise."""
    if rights.permissions is None:
        return True
    if (VIEW[kind] if kind else "view_events") not in rights.permissions:
        return False
    grants = state.grants if state else frozenset()
    audience = state.audience if state else frozenset()
    if rights.bound:
        return bool(rights.bound & grants) or bool(rights.labels & audience)
    return bool(rights.labels & audience) or not audience


def told(view: View, change: Change) -> Told | None:
    """What the model says of *change* to a reader; a sampled event counts as told."""
    event, state = change.event, change.judged_by
    if view.client_id is not None and (event.client_id, event.principal) == (view.client_id, view.caller.principal):
        return None
    wanted, rights = view.sight.filter, view.sight.rights
    if wanted.event_types and event.event_type not in wanted.event_types:
        return None

    def finds(tags: frozenset[str]) -> bool:
        return not wanted.tags or bool(wanted.tags & tags)

    kind = state.kind if state else None
    version = change.after.version if change.after else 0
    if finds(frozenset(event.tags)) and may_see(rights, kind, state):
        return change.seq, event.event_type, version
    before = change.before
    if before is not None and finds(before.tags) and may_see(rights, kind, before):
        return change.seq, "removed", version
    return None


def random_view(rng: random.Random) -> View:
    tags = frozenset(rng.sample([*PLACES, "orderID=order-1", "bayID=bay-2"], rng.choice([0, 0, 1, 2])))
    types = frozenset(rng.sample([*KINDS.values(), "stage_change"], rng.choice([0, 0, 0, 2])))
    rights = OPEN_RIGHTS
    if rng.random() < 0.9:
        permissions = frozenset(rng.sample([*VIEW.values(), "view_events"], rng.choice([2, 4, 4])))
        labels = frozenset(rng.sample(LABELS, rng.choice([0, 1, 2])))
        bound = frozenset(rng.sample([*PLACES, "orderID=order-1", "queueID=queue-2"], rng.choice([0, 0, 1, 2])))
        rights = Rights(permissions, labels, bound)
    client_id = rng.choice([None, None, "till-1"])
    return view_of(Filter(types, tags), client_id=client_id, principal=rng.choice(["anna", "bert"]), rights=rights)


class Follower:
    """A stream in several lives, each from where the one before it had come to."""

    def __init__(self, hub: Hub, view: View) -> None:
        self.hub = hub
        self.view = view
        self.cursor = 0
        self.told: list[Told] = []
        self._reader: Reader | None = None
        self._socket = Socket()

    def connect(self) -> None:
        if self._reader is None:
            self._reader, self._socket = begin(self.hub, self.view, cursor=self.cursor)

    def disconnect(self) -> None:
        if self._reader is not None:
            self._reader.discard()
            self._reader = None
            self.told += [of_stream(event) for event in self._socket.seen if event.event not in ("caught_up",)]
            self.cursor = int(self._socket.last_event_id.partition(".")[2] or self.cursor)

    @property
    def live(self) -> bool:
        return self._reader is None or self._reader.live


def of_stream(event: Any) -> Told:
    content = json.loads(event.data)
    if event.event == "removed":
        assert set(content) == {"kind", "id", "version"}
    else:
        assert content["id"] == event.id
    return int(event.id.partition(".")[2]), event.event, content.get("version", 0)


def of_poll(envelope: dict[str, Any]) -> Told:
    removed = envelope["eventType"] == "removed"
    version = envelope["data"]["version"] if removed else envelope.get("version", 0)
    assert not removed or set(envelope) == {"id", "eventType", "data"}
    return int(envelope["id"].partition(".")[2]), envelope["eventType"], version


async def polled(hub: Hub, view: View, rng: random.Random) -> list[Told]:
    """Everything from the beginning, page by page."""
    found: list[Told] = []
    query = "&".join(_query(view))
    cursor = "earliest"
    while True:
        limit = rng.randint(1, 40)
        page = await poll_page(hub, f"after={cursor}&limit={limit}&{query}", caller=view.caller)
        found += [of_poll(envelope) for envelope in page["events"]]
        cursor = page["cursor"]
        if page["upToDate"]:
            return found


def _query(view: View) -> Iterator[str]:
    for name, values in view.sight.filter.document().items():
        yield f"{name}={','.join(values)}"
    if view.client_id is not None:
        yield f"clientID={view.client_id}"


async def live_through(event_log: MemoryLog, hub: Hub, world: World, followers: list[Follower]) -> None:
    """Things happen while readers come and go."""
    rng = world.rng
    while len(world.changes) < STEPS:
        hub.tail.offer(event_log.append(*(world.step() for _ in range(rng.randint(1, 4)))))
        for follower in rng.sample(followers, 5):
            rng.choice([follower.connect, follower.connect, follower.disconnect])()
        if rng.random() < 0.5:  # otherwise the next ones leave in the same flush
            await asyncio.sleep(rng.choice([0, 0.006]))
    for follower in followers:
        follower.connect()
    hub.flush()
    await eventually(lambda: all(follower.live for follower in followers))
    for follower in followers:
        follower.disconnect()


@pytest.mark.parametrize("window_bytes", [LOG_PATH, WINDOW_PATH])
@pytest.mark.parametrize("seed", range(5))
async def test_every_reader_is_told_what_the_model_says_live_replayed_and_polled(seed: int, window_bytes: int) -> None:
    rng = random.Random(seed)
    world = World(rng)
    async with memory_hub(settings=FeedSettings(window_bytes=window_bytes)) as (event_log, hub):
        hub.latest = {}  # what is thinned out depends on the flush; see below
        followers = [Follower(hub, random_view(rng)) for _ in range(READERS)]
        await live_through(event_log, hub, world, followers)
        assert (hub.tail.window.before > 0) is (window_bytes == LOG_PATH)
        for follower in followers:
            expected = [one for change in world.changes if (one := told(follower.view, change)) is not None]
            sampled = {change.seq for change in world.changes if change.sampled}
            # The draw is the same at every reading; it takes nothing else away, and no removals.
            missing = set(expected) - set(follower.told)
            assert all(seq in sampled and name != "removed" for seq, name, _ in missing)
            assert follower.told == [one for one in expected if one not in missing], follower.view
            assert await polled(hub, follower.view, rng) == follower.told
        assert any(name == "removed" for follower in followers for _, name, _ in follower.told)
        assert not len(hub.channels)


@pytest.mark.parametrize("window_bytes", [LOG_PATH, WINDOW_PATH])
@pytest.mark.parametrize("seed", range(3))
async def test_a_replica_ends_with_what_its_reader_finds_and_may_see(seed: int, window_bytes: int) -> None:
    """With progress thinned out as it pleases."""
    rng = random.Random(1000 + seed)
    world = World(rng)
    async with memory_hub(settings=FeedSettings(window_bytes=window_bytes)) as (event_log, hub):
        assert "job_progress" in hub.latest
        views = [random_view(rng) for _ in range(READERS)]
        plain = [
            replace(v, client_id=None, sight=replace(v.sight, filter=Filter(tags=v.sight.filter.tags))) for v in views
        ]
        followers = [Follower(hub, view) for view in plain]
        await live_through(event_log, hub, world, followers)
        sampled = {(c.after.id, c.after.version) for c in world.changes if c.after and c.sampled}
        ids = {change.seq: change.after.id for change in world.changes if change.after is not None}
        for follower in followers:
            replica: dict[str, int] = {}
            for seq, name, version in follower.told:
                if name == "removed":
                    replica.pop(ids[seq], None)
                elif version:
                    replica[ids[seq]] = version
            wanted, rights = follower.view.sight.filter, follower.view.sight.rights
            visible = {
                state.id: state.version
                for state in world.documents.values()
                if (not wanted.tags or wanted.tags & state.tags) and may_see(rights, state.kind, state)
            }
            assert replica.keys() <= visible.keys()
            differing = {item for item in visible.items() if replica.get(item[0]) != item[1]}
            assert differing <= sampled


async def test_an_event_without_reach_makes_no_removal_and_one_with_costs_one_block() -> None:
    event = NewEvent("order_updated", ("orderID=A", "bayID=2"), None, "anna", '"data":{"order":{}},"version":4}')
    moved = event._replace(reach=Reach("order", "A", 4, left=("orderID=A", "bayID=1"), grants_left=("orderID=A",)))
    async with memory_hub() as (event_log, hub):
        stays, leaves, comes = (
            begin(hub, view_of(Filter(tags=frozenset({wanted}))))[1] for wanted in ("orderID=A", "bayID=1", "bayID=2")
        )
        hub.tail.offer(event_log.append(event, moved))
        hub.flush()
        plain, changed = hub.tail.window.after(0, upto=2)
        assert plain.removal is None
        assert changed.removal is not None
        assert changed.removal.block == (
            b'event: removed\nid: k3f9a2c1.2\ndata: {"kind":"order","id":"A","version":4}\n\n'
        )
        assert stays.count("order_updated") == comes.count("order_updated") == 2
        assert [one.event for one in leaves.seen] == ["caught_up", "removed"]
        page = await poll_page(hub, "after=earliest&bayID=1")
        assert page["events"] == [
            {"id": "k3f9a2c1.2", "eventType": "removed", "data": {"kind": "order", "id": "A", "version": 4}}
        ]
