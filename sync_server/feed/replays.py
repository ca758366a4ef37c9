"""Pieces of the past, made once for all readers that come by.

When thousands come back at once, their cursors lie anywhere. The first piece of each ends at the next multiple of
SPAN at the latest, and from there on those who see the same are sent the very same bytes. A piece of which one of
them must not have something that another one must, is no such piece: events for single persons, samples, echoes.
"""

from collections.abc import Iterable
from typing import NamedTuple

from sync_core.labels import PERSON
from sync_server.access.rights import Access
from sync_server.feed.framing import Framing
from sync_server.feed.memory import Kept
from sync_server.feed.view import Sight, View
from sync_server.feed.window import FeedEvent

__all__ = ["SPAN", "Replay", "Replays", "end_of_piece", "is_meeting_place"]

SPAN = 128
"""Events. Pieces that are shared begin and end at multiples of it, if they are not cut by their bytes before."""


class Replay(NamedTuple):
    """So many *deliveries*, ready to be written, up to the seq *last*. *causes* are the clients, with their principals,
    that some of them came from."""

    body: bytes
    deliveries: int
    last: int
    causes: frozenset[tuple[str | None, str]]


class Replays:
    """The pieces of one epoch of one tenant's log, among those of all that are *kept*."""

    def __init__(self, kept: Kept[Replay]) -> None:
        self._kept = kept

    def after(self, cursor: int, *, sight: Sight, framing: Framing, view: View) -> Replay | None:
        """What a reader with that *view*, one of those who share *sight*, is sent next; None if that is not here."""
        replay = self._kept.get((self, sight, framing, cursor))
        if replay is None or (view.client_id is not None and view.echo in replay.causes):
            return None
        return replay

    def keep(
        self,
        cursor: int,
        events: list[FeedEvent],
        body: bytes,
        *,
        deliveries: int,
        sight: Sight,
        framing: Framing,
        view: View,
    ) -> None:
        """Of the *events* behind *cursor* a reader with that *view* is shown so many, as *body*. Kept if that is so
        for all of those who share *sight*."""
        causes = frozenset((event.client_id, event.principal) for event in events if event.client_id is not None)
        if any(_is_uneven(event) for event in events) or (view.client_id is not None and view.echo in causes):
            return
        replay = Replay(body, deliveries, events[-1].seq, causes)
        self._kept.keep((self, sight, framing, cursor), replay, size_bytes=len(body))


def end_of_piece(cursor: int) -> int:
    """The seq with which a piece from *cursor* on ends at the latest."""
    return cursor - cursor % SPAN + SPAN


def is_meeting_place(cursor: int) -> bool:
    """Whether those who come from anywhere before *cursor* meet there."""
    return cursor % SPAN == 0


def _is_uneven(event: FeedEvent) -> bool:
    """Whether of those who share a sight some may be shown it and others not."""
    if event.sample is not None or _is_personal(event.access):
        return True
    return event.removal is not None and _is_personal(event.removal.access)


def _is_personal(access: Access) -> bool:
    labels: Iterable[str] = access.audience
    return any(label.startswith(PERSON) for label in labels)
