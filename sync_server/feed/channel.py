"""Channels: readers who want and may see the same, and are therefore sent the very same bytes.

The index finds an event's channels by its tags and type, so 10,000 readers of 10,000 orders are not 10,000
filter tests per event: cost follows matches.
"""

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING

from sync_core.filters import Filter
from sync_server.feed.window import FeedEvent

if TYPE_CHECKING:
    from sync_server.feed.reader import Reader

__all__ = ["Channel", "ChannelIndex"]


class Channel:
    """One filter, its live readers, and what waits for the next flush.

    *readers* get every flush as it is; *echo* are those who gave a client id and must not see their own
    events. *waiters* are long polls, woken by the next flush.
    """

    __slots__ = (
        "advanced_s",
        "echo",
        "filter",
        "heartbeat_due_s",
        "pending",
        "readers",
        "sent_seq",
        "waiters",
    )

    def __init__(self, wanted: Filter) -> None:
        self.filter = wanted
        self.readers: set[Reader] = set()
        self.echo: set[Reader] = set()
        self.waiters: set[asyncio.Future[None]] = set()
        self.pending: list[FeedEvent] = []
        self.sent_seq = 0
        """Highest id that the live readers were sent, as far as all of them have it."""
        self.heartbeat_due_s = 0.0
        self.advanced_s = 0.0

    @property
    def unused(self) -> bool:
        return not (self.readers or self.echo or self.waiters)

    def __iter__(self) -> Iterator["Reader"]:
        """All live readers; a copy, since writing to one may remove it."""
        return iter([*self.readers, *self.echo])

    def add(self, reader: "Reader") -> None:
        (self.echo if reader.hides_echo else self.readers).add(reader)

    def discard(self, reader: "Reader") -> None:
        (self.echo if reader.hides_echo else self.readers).discard(reader)

    def take_pending(self) -> list[FeedEvent]:
        """What waits, and nothing waits any more. Long polls are woken."""
        events, self.pending = self.pending, []
        self.take_waiters()
        return events

    def take_waiters(self) -> None:
        """Wake the long polls; they look for themselves whether there is something for them."""
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_result(None)
        self.waiters.clear()

    def visible_to(self, reader: "Reader", pending: list[FeedEvent]) -> list[FeedEvent]:
        """*pending* itself, unless some of it is the reader's own, which it asked not to be told again."""
        visible = [event for event in pending if not reader.view.caused(event)]
        return visible if len(visible) < len(pending) else pending


class ChannelIndex:
    """The channels of one tenant, found by filter and by event."""

    def __init__(self) -> None:
        self._channels: dict[Filter, Channel] = {}
        self._by_tag: dict[str, list[Channel]] = {}
        self._by_type: dict[str, list[Channel]] = {}
        self._everything: list[Channel] = []

    def __len__(self) -> int:
        return len(self._channels)

    def __iter__(self) -> Iterator[Channel]:
        """All channels; a copy."""
        return iter(list(self._channels.values()))

    def channel(self, wanted: Filter) -> Channel:
        """The channel of that filter, made if it is the first."""
        channel = self._channels.get(wanted)
        if channel is None:
            channel = self._channels[wanted] = Channel(wanted)
            for places in self._places(wanted):
                places.append(channel)
        return channel

    def release(self, channel: Channel) -> None:
        """Forget *channel* if nobody uses it any more."""
        if not channel.unused or self._channels.get(channel.filter) is not channel:
            return
        del self._channels[channel.filter]
        for places in self._places(channel.filter):
            places.remove(channel)
        for tag in channel.filter.tags:
            if not self._by_tag[tag]:
                del self._by_tag[tag]
        for event_type in channel.filter.event_types:
            if not self._by_type.get(event_type, True):
                del self._by_type[event_type]

    def matching(self, event: FeedEvent) -> list[Channel]:
        """The channels whose filter lets *event* through, each once."""
        found = [*self._everything, *self._by_type.get(event.event_type, ())]
        if self._by_tag:
            tagged: dict[Channel, None] = {}
            for tag in event.tags:
                for channel in self._by_tag.get(tag, ()):
                    if not channel.filter.event_types or event.event_type in channel.filter.event_types:
                        tagged[channel] = None
            found += tagged
        return found

    def _places(self, wanted: Filter) -> Iterator[list[Channel]]:
        """The lists that a channel of that filter stands in."""
        if wanted.tags:
            for tag in wanted.tags:
                yield self._by_tag.setdefault(tag, [])
        elif wanted.event_types:
            for event_type in wanted.event_types:
                yield self._by_type.setdefault(event_type, [])
        else:
            yield self._everything
