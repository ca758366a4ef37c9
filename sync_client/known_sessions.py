"""What the replica tells of a person's sessions: the one to go on with."""

from sync_client.cart import Items, beyond
from sync_client.replica import Replica
from sync_client.saves import Saves
from sync_core.domain.document import Ref
from sync_core.domain.sessions import OrderSession, SessionSlot

__all__ = ["KnownSessions"]


class KnownSessions:
    """Of the person whose *saves* those are. Sessions that are being left count as left."""

    def __init__(self, replica: Replica, saves: Saves) -> None:
        self._replica = replica
        self._saves = saves

    def current(self) -> OrderSession | None:
        """The person's active session, else the one that this cart is of, if it can be gone on with."""
        slot = self._replica.truth(Ref(SessionSlot.kind, self._saves.user))
        active = self._open(slot.sessionID) if isinstance(slot, SessionSlot) else None
        return active or self._open(self._saves.session_id)

    def left(self) -> OrderSession | None:
        """The newest session that the person has left for later."""
        known = (self._open(ref.id) for ref in self._replica.refs(OrderSession.kind))
        left = [one for one in known if one is not None and one.userId == self._saves.user]
        return max(left, key=lambda one: one.updatedAt, default=None)

    def elsewhere(self) -> OrderSession | None:
        """What a refused save of this cart is up against; None if there is nothing that could be gone on with."""
        known, failure = self.current(), self._saves.failure
        told = None if failure is None else failure.theirs
        if known is None or (told is not None and told.sessionID == known.sessionID and told.version > known.version):
            known = told
        return known if known is not None and known.is_open else None

    def own(self) -> OrderSession | None:
        """The session that this cart is of as the server has it, finished or not; None if it is gone."""
        found = self._replica.truth(Ref(OrderSession.kind, self._saves.session_id or ""))
        own = found if isinstance(found, OrderSession) else None
        told = None if self._saves.failure is None else self._saves.failure.theirs
        if (
            told is not None
            and told.sessionID == self._saves.session_id
            and (own is None or told.version > own.version)
        ):
            return told
        return own

    def kept_nowhere_else(self, items: Items) -> Items:
        """What of the cart's *items* is to be gone on with where its own session is not what is gone on with: that one
        keeps the lines that it has, as sold, on a tab, or left for later."""
        own, there = self.own(), self.elsewhere()
        if own is None or (there is not None and there.sessionID == own.sessionID):
            return items
        return beyond(own.items, items)

    def _open(self, session_id: str | None) -> OrderSession | None:
        if session_id is None or session_id in self._saves.being_left():
            return None
        found = self._replica.truth(Ref(OrderSession.kind, session_id))
        return found if isinstance(found, OrderSession) and found.is_open else None
