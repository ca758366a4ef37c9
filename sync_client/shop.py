"""The shop's state as a client with ``replica=True`` has it: the documents, and whatever keeps them up to date.

Made with the client, so that programs can name what they want before the start; ``load`` it from the cache, ``build``
it around the connection, then ``begin``. Nothing of it, nor of the domain, is imported by a client without.
"""

import time
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any

from sync_client.backoff import Rng
from sync_client.collections import Collection, Owner, Watches
from sync_client.driver import Driver
from sync_client.intake import Intake
from sync_client.keeper import Keeper
from sync_client.outbox_keeper import Seen
from sync_client.pending import PendingCommand
from sync_client.records import Arrival, Batch, Saved, StoredDocument
from sync_client.replica import Replica
from sync_client.snapshot import Snapshots
from sync_client.states import State
from sync_client.wire import cursor_of
from sync_core.domain.catalog import DOMAIN
from sync_core.domain.document import Document, Ref
from sync_core.filters import Filter

__all__ = ["Shop"]

STANDS = frozenset({State.CONNECTED, State.POLLING})
"""The states in which plain requests have a chance."""


class Shop:
    """See the module. *owner* is the client, for what its collections need of it."""

    _keeper: Keeper
    _intake: Intake
    _snapshots: Snapshots

    def __init__(self, owner: Owner, *, view: Filter, rng: Rng) -> None:
        self._view = view
        self._rng = rng
        self.domain = DOMAIN
        self.replica = Replica(DOMAIN, view=view)
        self.watches = Watches(self.replica)
        self.collections: Mapping[str, Collection[Document]] = {
            kind.plural: Collection(kind, self.replica, self.watches, owner, DOMAIN.of(kind))
            for kind in DOMAIN.kinds.values()
        }

    # -- life -------------------------------------------------------------------------------------------

    def load(self, saved: Saved, documents: Sequence[StoredDocument]) -> None:
        """What an earlier run has left."""
        self.replica.load(documents, complete_to=cursor_of(saved.complete_to), due=saved.snapshot_due)

    def build(self, keeper: Keeper, intake: Intake, driver: Driver) -> None:
        """Around the connection."""
        self._keeper = keeper
        self._intake = intake
        self._snapshots = Snapshots(
            self.replica,
            keeper,
            intake,
            fetch=driver.request,
            may_fetch=lambda: driver.machine.state in STANDS,
            params={key: ",".join(values) for key, values in Filter(tags=self._view.tags).document().items()},
            rng=self._rng,
        )
        notify = self.replica.changed

        def changed() -> None:
            notify()
            if self.replica.due:
                self._snapshots.wake()

        self.replica.changed = changed

    def begin(self) -> dict[str, Coroutine[Any, Any, None]]:
        """What has to run beside the connection, by name."""
        self.watches.begin()
        return {"snapshot": self._snapshots.run()}

    def stir(self) -> None:
        """The connection is in another state, or stands somewhere else."""
        self._snapshots.wake()

    def end(self) -> None:
        """Nothing more will come."""
        self.watches.end()

    # -- the picture (outbox_keeper.Picture) ------------------------------------------------------------

    def set_pending(self, commands: Sequence[PendingCommand]) -> None:
        """These commands wait for their answers, in this order."""
        self.replica.set_pending(commands)

    def seen(self, ref: Ref) -> Seen:
        """A document as the screen shows it."""
        known, leans = self.replica.seen(ref)
        return Seen(known.document, known.version, leans)

    async def take_answer(
        self, documents: Mapping[str, Any], *, pending: Sequence[PendingCommand], arrivals: Sequence[Arrival] = ()
    ) -> None:
        """Commit the *documents* of an answer or of a refusal, and *arrivals*; then show them, with *pending*.

        Raises CacheUnwritable with nothing changed.
        """
        await self._intake.apart(lambda: self._take_answer(documents, pending, arrivals))

    async def _take_answer(
        self, documents: Mapping[str, Any], pending: Sequence[PendingCommand], arrivals: Sequence[Arrival]
    ) -> None:
        replica = self.replica
        if "cursor" in documents:
            found = replica.of_answer(documents, at=cursor_of(self._intake.received))
        else:
            found = replica.of_refusal(documents)
        news = replica.newer(found)
        if news or arrivals:
            received_at_ms = time.time_ns() // 1_000_000
            await self._keeper.commit(Batch(arrivals, source="local", received_at_ms=received_at_ms, documents=news))
        replica.apply(news, pending=pending)
