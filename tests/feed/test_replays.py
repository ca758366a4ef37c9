"""Catching up in company: what is made once, and what has to be made for one reader alone."""

import random
from pathlib import Path
from typing import Any

import pytest

from sync_core.filters import Filter, tag
from sync_server.access.rights import Rights
from sync_server.feed import replays
from sync_server.feed.framing import MESSAGES, SSE, ServerSentEvents
from sync_server.feed.hub import FeedSettings, Hub
from sync_server.feed.memory import Kept
from sync_server.feed.reader import Reader
from sync_server.feed.replays import SPAN, Replays
from sync_server.feed.view import View
from sync_server.log.records import NewEvent, Reach
from tests.feed.hubs import Socket, begin, bench, memory_hub, view_of
from tests.log.writes import note
from tests.streams import eventually

SMALL_WINDOW = FeedSettings(window_bytes=65536)
VIEWS = frozenset({"view_events"})


def numbers(socket: Socket) -> list[int]:
    return [data["n"] for data in (one["data"] for one in socket.data("status_update"))]


def numbered(n: int, **fields: Any) -> NewEvent:
    client_id, audience, sample = fields.get("client_id"), fields.get("audience", ()), fields.get("sample")
    reach = Reach("", "", 0, audience=audience, sample=sample) if audience or sample is not None else None
    return NewEvent("status_update", (tag("orderID", f"O{n % 3}"),), client_id, "anna", f'"data":{{"n":{n}}}}}', reach)


def ids_of(socket: Socket) -> list[tuple[str, str]]:
    """Epoch and seq of each event."""
    return [tuple(one["id"].split(".")) for one in socket.data("status_update")]


async def caught_up(*sockets: Socket) -> None:
    await eventually(lambda: all(socket.count("caught_up") == 1 for socket in sockets))


async def test_thousands_at_any_cursor_cost_as_many_pieces_as_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    events = ServerSentEvents.events

    def counted(self: ServerSentEvents, given: Any) -> bytes:
        made.extend([1] if given else [])
        return events(self, given)

    monkeypatch.setattr(ServerSentEvents, "events", counted)
    rng = random.Random(7)
    async with bench(tmp_path, events=8 * SPAN) as opened:
        cursors = [rng.randrange(8 * SPAN) for _ in range(300)]
        sockets = [opened.read(cursor=cursor) for cursor in cursors]
        await caught_up(*sockets)
        for cursor, socket in zip(cursors, sockets, strict=True):
            ids = [int(seq) for _, seq in ids_of(socket)]
            assert ids == list(range(cursor + 1, 8 * SPAN + 1))
        # Each its own way to where it meets the others; from there on a piece is made once for all.
        assert len(made) <= len(sockets) + 7
        opened.hub.flush()  # which counts
        assert opened.sample("sync_deliveries_total") == sum(8 * SPAN - cursor for cursor in cursors)


def readers(hub: Hub, cursors: list[int], **options: Any) -> list[Socket]:
    return [begin(hub, view_of(**options), cursor=cursor)[1] for cursor in cursors]


async def test_nobody_is_sent_what_is_not_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replays, "SPAN", 8)
    rng = random.Random(3)
    fields: list[dict[str, Any]] = [
        {}, {}, {}, {"client_id": "till-1"}, {"audience": ("role:csr",)}, {"audience": ("user:ann",)}, {"sample": 0.5},
    ]  # fmt: skip
    shapes = [rng.choice(fields) if rng.random() < 0.4 else {} for _ in range(400)]
    people = ["ann", "bob", "cid", "dora"]
    async with memory_hub(settings=SMALL_WINDOW) as (log, hub):
        log.append(*(numbered(n, **shape) for n, shape in enumerate(shapes)))
        await hub.tail.refresh()
        hub.flush()
        opened: list[tuple[View, int, Reader, Socket]] = []
        for _ in range(150):
            person, role = rng.choice(people), rng.choice(["role:csr", "role:driver"])
            view = view_of(
                rng.choice([Filter(), Filter(tags=frozenset({tag("orderID", "O1")}))]),
                client_id=rng.choice([None, None, "till-1"]),
                principal=rng.choice(["anna", person]),
                rights=Rights(VIEWS, frozenset({f"user:{person}", role}), frozenset()),
            )
            cursor = rng.randrange(400)
            opened.append((view, cursor, *begin(hub, view, cursor=cursor)))
        await caught_up(*(socket for *_, socket in opened))
        events = hub.tail.window.after(399, upto=400) and await all_events(hub)
        for view, cursor, _, socket in opened:
            expected = [event.seq - 1 for event in view.shown(events[cursor:])]
            assert numbers(socket) == expected


async def all_events(hub: Hub) -> list[Any]:
    events: list[Any] = []
    while len(events) < hub.flushed:
        events += await hub.tail.pages.after(len(events), floor=0)
    return events


async def test_another_log_has_other_pieces(tmp_path: Path) -> None:
    async with bench(tmp_path, events=3 * SPAN, settings=SMALL_WINDOW) as opened:
        first = opened.read(cursor=0)
        await caught_up(first)
        await opened.event_log.new_epoch("shop-1", "zzzzzzzz")
        await opened.hub.tail.refresh()
        await opened.write(3 * SPAN)
        await opened.hub.tail.refresh()
        opened.hub.flush()
        again = opened.read(cursor=opened.hub.tail.floor)
        await caught_up(again)
        assert len(ids_of(again)) >= 3 * SPAN
        assert {epoch for epoch, _ in ids_of(again)} == {"zzzzzzzz"}


async def test_pieces_take_no_more_than_they_may() -> None:
    async with memory_hub() as (log, hub):
        log.append(*(note() for _ in range(10)))
        await hub.tail.refresh()
        events = hub.tail.window.after(0, upto=10)
        view = view_of()
        kept = Replays(Kept(max_bytes=1000))
        for cursor in range(0, 10 * SPAN, SPAN):
            kept.keep(cursor, events, b"x" * 400, deliveries=10, sight=view.sight, framing=SSE, view=view)
        found = [
            cursor
            for cursor in range(0, 10 * SPAN, SPAN)
            if kept.after(cursor, sight=view.sight, framing=SSE, view=view) is not None
        ]
        assert found == [8 * SPAN, 9 * SPAN]
        assert kept.after(9 * SPAN, sight=view.sight, framing=MESSAGES, view=view) is None
