"""The newest passing event of each entity, for readers that were not live when it passed.

An event that is not logged is gone for who cannot be written to just then. Of the types of delivery ``latest`` the
newest of each entity is kept, and handed on when the reader's socket takes something again: what it missed, thinned,
at its own pace. It takes no more room than there are entities, however slow readers are and however many.

A passing event is judged by a document as it was when it was sent. Once the log has told something of that document
(an event about the entity, which takes the same permission to see), the passing one is neither kept nor handed on:
whose the entity is may have changed, and who was told ``removed`` is told no more of it. The next one comes soon.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from sync_server.feed.window import FeedEvent, piece

__all__ = ["Newest", "Seen"]

MAX_ENTITIES = 100_000
"""Beyond it those are forgotten of which nothing has come for the longest time."""

Entity = tuple[str, str]
"""Type and tag."""


class Seen(NamedTuple):
    """How far a reader has come. It has what was kept up to *tick*; and, going round those that it missed since, what
    stands up to *place* as it was at *mark* or later. So nobody is passed over, however fast the others change."""

    tick: int
    mark: int = 0
    place: int = 0


class _Kept(NamedTuple):
    tick: int
    place: int
    event: FeedEvent


class Newest:
    """*latest* maps the types of delivery ``latest`` to the tag prefix of their entity."""

    def __init__(self, latest: Mapping[str, str], *, max_entities: int = MAX_ENTITIES) -> None:
        self._latest = latest
        self._max_entities = max_entities
        self._kept: dict[Entity, _Kept] = {}
        """In the order of their ticks. An entity keeps its place."""
        self._places = 0
        self.tick = 0
        """Counts what was kept."""

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, events: Iterable[FeedEvent]) -> None:
        """Take *events* in, which were not logged, each instead of an older one of its entity."""
        for event in events:
            entity = self._entity(event)
            if entity is None:
                continue
            self.tick += 1
            older = self._kept.pop(entity, None)
            if older is None:
                self._places += 1
            self._kept[entity] = _Kept(self.tick, self._places if older is None else older.place, event)
            if len(self._kept) > self._max_entities:
                del self._kept[next(iter(self._kept))]

    def outdate(self, events: Iterable[FeedEvent]) -> None:
        """Of what *events* of the log tell, they are the newest now: whoever missed something gets them from there."""
        for event in events:
            if event.seq:
                for entity in self._about(event):
                    kept = self._kept.get(entity)
                    if kept is not None and kept.event.access.permission == event.access.permission:
                        del self._kept[entity]

    def standing(self, events: list[FeedEvent], later: Iterable[FeedEvent] | None) -> list[FeedEvent]:
        """Those of *events*, which were not logged, of whose entity nothing is told by *later*: what the log tells
        since they were judged, or None where that is not known. Another event of their type changes no access."""
        if later is None:
            return []
        told = {
            (event.access.permission, *entity)
            for event in later
            for entity in self._about(event)
            if entity[0] != event.event_type
        }
        return [
            event
            for event in events
            if not told or (entity := self._entity(event)) is None or (event.access.permission, *entity) not in told
        ]

    def after(self, seen: Seen) -> tuple[list[FeedEvent], Seen]:
        """What a reader has missed, as much as fits a piece, and how far it has come with that. It has all once its
        tick is that of this object."""
        if seen.tick == self.tick:
            return [], seen
        mark = seen.mark if seen.place else self.tick
        missed: list[_Kept] = []
        for kept in reversed(self._kept.values()):
            if kept.tick <= seen.tick:
                break
            if kept.place > seen.place:
                missed.append(kept)
        missed.sort(key=lambda kept: kept.place)
        events = piece([kept.event for kept in missed])
        if len(events) == len(missed):
            return events, Seen(mark)
        return events, Seen(seen.tick, mark, missed[len(events) - 1].place)

    def _about(self, event: FeedEvent) -> Iterator[Entity]:
        """The entities that *event* may tell of."""
        for event_type, prefix in self._latest.items():
            for tag in event.tags:
                if tag.startswith(prefix):
                    yield event_type, tag

    def _entity(self, event: FeedEvent) -> Entity | None:
        prefix = self._latest.get(event.event_type)
        if prefix is None:
            return None
        return next(((event.event_type, tag) for tag in event.tags if tag.startswith(prefix)), None)
