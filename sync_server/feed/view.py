"""What a reader is shown of the log: what it asks for, within what it may see.

The live feed, replay and poll all come down to ``shows``: an event whole, as removed, or not at all.
"""

from dataclasses import dataclass
from hashlib import blake2b

from sync_core.filters import Filter
from sync_server.access.caller import Caller
from sync_server.access.rights import Rights
from sync_server.feed.window import FeedEvent

__all__ = ["Sight", "View"]

_SAMPLE_KEY = b"order-sync sample"
"""Not secret, since a sample gives no access: it keeps these draws apart from other hashes of the same text."""


@dataclass(frozen=True, slots=True)
class Sight:
    """A filter within rights. Readers with equal ones share a channel."""

    filter: Filter
    rights: Rights

    @property
    def unlimited(self) -> bool:
        """Whether simply everything is in sight."""
        return self.rights.permissions is None and self.filter == Filter()

    @property
    def shared(self) -> "Sight":
        """The same without what is for one person alone."""
        rights = self.rights.shared
        return self if rights is self.rights else Sight(self.filter, rights)

    def sees(self, event: FeedEvent) -> bool:
        """Whether *event* as it stands is in sight."""
        return self.filter.matches(event.event_type, event.tags) and self.rights.may_see(event.access)

    def shows(self, event: FeedEvent) -> FeedEvent | None:
        """*event*, its removal where it has only just gone out of sight, or None."""
        if self.sees(event):
            return event
        removal = event.removal
        return removal if removal is not None and self.sees(removal) else None


@dataclass(frozen=True, slots=True)
class View:
    """What one reader is shown. *client_id* asks for echo suppression: what it caused as this caller is hidden."""

    sight: Sight
    client_id: str | None
    caller: Caller

    def within(self, sight: Sight) -> "View":
        """The same with *sight*, or its filter, in place of an equal one: thousands of readers share theirs."""
        own = self.sight
        if own != sight:
            sight = Sight(sight.filter if own.filter == sight.filter else own.filter, own.rights)
        return View(sight, self.client_id, self.caller)

    def shows(self, event: FeedEvent) -> FeedEvent | None:
        """What of *event* this reader is sent: itself, its removal, or None."""
        if self.client_id is not None and (event.client_id, event.principal) == self.echo:
            return None
        shown = self.sight.shows(event)
        rights = self.sight.rights
        if shown is None or shown.sample is None or rights.permissions is None or shown.spares in rights.permissions:
            return shown
        if _draw(shown.event_id, self.caller.principal) < shown.sample:
            return shown
        # Who saw it as it was is told in any case: a copy of it would grow old unseen.
        return shown if shown.removal is not None and self.sight.sees(shown.removal) else None

    def shown(self, events: list[FeedEvent]) -> list[FeedEvent]:
        """What of *events* this reader is sent, in their order."""
        if self.client_id is None and self.sight.unlimited:
            return events
        return [one for event in events if (one := self.shows(event)) is not None]

    @property
    def echo(self) -> tuple[str | None, str]:
        """Client and principal of the events that are hidden from who gave a client id."""
        return self.client_id, self.caller.principal


def _draw(event_id: bytes, principal: str) -> float:
    """A number from 0 up to 1, the same in every process and at every replay."""
    digest = blake2b(event_id + b"\0" + principal.encode(), digest_size=8, key=_SAMPLE_KEY).digest()
    return int.from_bytes(digest, "big") / 2**64
