"""Channels: readers who want and may see the same in the same form, and are therefore sent the very same bytes.

The index finds an event's channels by who may see it and by its tags and type, so 10,000 readers of 10,000 orders
are not 10,000 tests per event, whether they filter by their order or are bound to it: cost follows matches.

A channel's readers share their rights but for labels of one person (``user:12``), or every user would be a channel
of its own. Who is addressed by such a label, has caused what waits, or is not drawn for a sample gets a piece of
its own in that flush.
"""

import asyncio
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from sync_core.filters import Filter
from sync_server.access.rights import Rights
from sync_server.feed.framing import SSE, Framing
from sync_server.feed.view import Sight
from sync_server.feed.window import FeedEvent

if TYPE_CHECKING:
    from sync_server.feed.reader import Reader

__all__ = ["Channel", "ChannelIndex", "Piece"]

Places = dict[str, dict["Channel", None]]
"""Channels by a tag or a type that their filter asks for; without any, by EVERYTHING."""
EVERYTHING = "*"

Piece = tuple[list["Reader"], list[FeedEvent]]
"""Readers, and what all of them are sent next."""


class Channel:
    """One sight in one framing, its live readers, and what waits for the next flush.

    *waiters* are long polls, woken by the next flush.
    """

    __slots__ = (
        "_echo",
        "_named",
        "_pending",
        "_uneven",
        "advanced_s",
        "framing",
        "heartbeat_due_s",
        "readers",
        "sent_seq",
        "sight",
        "waiters",
    )

    def __init__(self, sight: Sight, framing: Framing) -> None:
        self.sight = sight
        self.framing = framing
        self.readers: set[Reader] = set()
        self.waiters: set[asyncio.Future[bool]] = set()
        self._echo: dict[tuple[str | None, str], set[Reader]] = {}
        """Readers who do not want to be told what they caused, by the client and principal that cause it."""
        self._pending: list[FeedEvent] = []
        self._uneven = False
        """Whether what waits is more than events that are for all readers as they are."""
        self._named: set[Reader] = set()
        """Readers for whom some of it is by a label of theirs alone."""
        self.sent_seq = 0
        """Highest id that the live readers were sent, as far as all of them have it."""
        self.heartbeat_due_s = 0.0
        self.advanced_s = 0.0

    @property
    def unused(self) -> bool:
        return not (self.readers or self.waiters)

    @property
    def waiting(self) -> bool:
        """Whether something waits for the next flush."""
        return bool(self._pending)

    def add(self, reader: "Reader") -> None:
        self.readers.add(reader)
        if reader.view.client_id is not None:
            self._echo.setdefault(reader.view.echo, set()).add(reader)

    def discard(self, reader: "Reader") -> None:
        self.readers.discard(reader)
        echo = self._echo.get(reader.view.echo)
        if echo is not None:
            echo.discard(reader)
            if not echo:
                del self._echo[reader.view.echo]

    def note(self, event: FeedEvent, *, named: "Reader | None" = None) -> None:
        """*event* is for this channel, whole or as removed; or, perhaps besides, for one of its readers by name."""
        if not self._pending or self._pending[-1] is not event:
            self._pending.append(event)
        if named is not None:
            self._named.add(named)
        if named is not None or event.removal is not None or event.sample is not None:
            self._uneven = True

    def take(self) -> list[Piece]:
        """What waits, by who gets what, and nothing waits any more. Long polls are woken."""
        pending, uneven = self._pending, self._uneven
        self._pending, self._uneven = [], False
        if self.waiters:
            self.wake()
        if not (uneven or self._echo):  # as nearly always
            return [(list(self.readers), pending)] if self.readers and pending else []
        apart: set[Reader] = set()
        if self._echo:
            apart.update(*(self._echo.get((event.client_id, event.principal), ()) for event in pending))
        common = pending
        if uneven:
            common = [shown for event in pending if (shown := self.sight.shows(event)) is not None]
            apart |= self.readers if any(event.sample is not None for event in common) else self._named & self.readers
            self._named = set()
        pieces = _pieces_apart(apart, pending) if apart else []
        if common:
            pieces.append((list(self.readers - apart if apart else self.readers), common))
        return [(readers, events) for readers, events in pieces if readers and events]

    def wake(self) -> None:
        """Wake the long polls; they look for themselves whether there is something for them."""
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_result(True)
        self.waiters.clear()


def _pieces_apart(readers: Iterable["Reader"], pending: list[FeedEvent]) -> list[Piece]:
    """Pieces for *readers* one by one; those who get the same share one."""
    pieces: dict[tuple[int, ...], Piece] = {}
    for reader in readers:
        events = reader.view.shown(pending)
        pieces.setdefault(tuple(map(id, events)), ([], events))[0].append(reader)
    return list(pieces.values())


class ChannelIndex:
    """The channels of one tenant, found by sight and by event."""

    def __init__(self) -> None:
        self._channels: dict[tuple[Sight, Framing], Channel] = {}
        self._open: Places = {}
        """Of those who may see everything."""
        self._public: Places = {}
        """Of those who see whatever has no audience."""
        self._by_label: dict[str, Places] = {}
        """Of those whom an audience with that label lets see."""
        self._by_grant: dict[str, Places] = {}
        """Of those who are bound to that entity."""
        self._persons: dict[str, set[Reader]] = {}
        """Live readers by labels that are theirs alone, which their channel does not know."""

    def __len__(self) -> int:
        return len(self._channels)

    def __iter__(self) -> Iterator[Channel]:
        """All channels; a copy."""
        return iter(list(self._channels.values()))

    def channel(self, sight: Sight, framing: Framing = SSE) -> Channel:
        """The channel of that sight, made if it is the first."""
        channel = self._channels.get((sight, framing))
        if channel is None:
            channel = self._channels[sight, framing] = Channel(sight, framing)
            for area in self._areas(sight.rights):
                for place in _places(sight.filter):
                    area.setdefault(place, {})[channel] = None
        return channel

    def release(self, channel: Channel) -> None:
        """Forget *channel* if nobody uses it any more."""
        sight, key = channel.sight, (channel.sight, channel.framing)
        if not channel.unused or self._channels.get(key) is not channel:
            return
        del self._channels[key]
        for area in self._areas(sight.rights):
            for place in _places(sight.filter):
                del area[place][channel]
                if not area[place]:
                    del area[place]
        _drop_empty(self._by_label, sight.rights.labels)
        _drop_empty(self._by_grant, sight.rights.bound)

    def join(self, reader: "Reader") -> None:
        """*reader* is live in its channel from here on."""
        reader.channel.add(reader)
        for label in reader.view.sight.rights.personal:
            self._persons.setdefault(label, set()).add(reader)

    def leave(self, reader: "Reader") -> None:
        """The opposite of ``join``."""
        reader.channel.discard(reader)
        for label in reader.view.sight.rights.personal:
            self._persons[label].discard(reader)
        _drop_empty(self._persons, reader.view.sight.rights.personal)

    def matching(self, event: FeedEvent) -> Iterable[Channel]:
        """The channels that *event* is for, whole or as removed, each once."""
        if event.removal is None:
            return self._seeing(event)
        return self._seeing(event) | self._seeing(event.removal)

    def named(self, event: FeedEvent) -> list["Reader"]:
        """Live readers that *event* is for, whole or as removed, by a label of theirs alone."""
        if not self._persons:
            return []
        labels = event.access.audience
        if event.removal is not None:
            labels += event.removal.access.audience
        readers = {reader for label in labels for reader in self._persons.get(label, ())}
        return [reader for reader in readers if reader.view.sight.shows(event) is not None]

    def _seeing(self, event: FeedEvent) -> dict[Channel, None]:
        """The channels that see *event* as it stands."""
        found: dict[Channel, None] = {}
        _collect(self._open, event, found)
        if not (self._public or self._by_label or self._by_grant):
            return found
        access = event.access
        areas = [] if access.audience else [self._public]
        areas += [self._by_label[label] for label in access.audience if label in self._by_label]
        areas += [self._by_grant[grant] for grant in access.grants if grant in self._by_grant]
        within: dict[Channel, None] = {}
        for area in areas:
            _collect(area, event, within)
        # The areas are where to look; whether it may be shown is the rule's to say.
        found.update((channel, None) for channel in within if channel.sight.rights.may_see(access))
        return found

    def _areas(self, rights: Rights) -> Iterator[Places]:
        """Where channels with these rights stand; events are looked up there by what it takes to see them."""
        if rights.permissions is None:
            yield self._open
            return
        for label in rights.labels:
            yield self._by_label.setdefault(label, {})
        for entity in rights.bound:
            yield self._by_grant.setdefault(entity, {})
        if not rights.bound:
            yield self._public


def _places(wanted: Filter) -> Iterable[str]:
    return wanted.tags or wanted.event_types or (EVERYTHING,)


def _collect(area: Places, event: FeedEvent, found: dict[Channel, None]) -> None:
    """Add to *found* the channels of *area* whose filter lets *event* through."""
    if not area:
        return
    event_type = event.event_type
    for place in (EVERYTHING, event_type):
        if place in area:
            found.update(area[place])
    for tag in event.tags:
        for channel in area.get(tag, ()):
            types = channel.sight.filter.event_types
            if not types or event_type in types:
                found[channel] = None


def _drop_empty(areas: dict[str, Any], keys: Iterable[str]) -> None:
    for key in keys:
        if not areas.get(key, True):
            del areas[key]
