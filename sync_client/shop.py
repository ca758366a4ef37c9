"""The shop's state as a client with ``replica=True`` has it: documents, commands, and what looks after both.

Made with the client, so that programs can name what they want before the start; ``open`` it from the disk, ``build``
it around the connection, then ``begin``. Nothing of it, nor of the domain, is imported by a client without.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sync_client.backoff import Rng
from sync_client.collections import Collection, Watches
from sync_client.courier import Courier
from sync_client.documents import time_ms
from sync_client.driver import Driver
from sync_client.errors import ClientError, ConfigurationError
from sync_client.intake import Intake
from sync_client.keeper import Keeper
from sync_client.outbox_keeper import Seen
from sync_client.pending import PendingCommand
from sync_client.records import Arrival, Batch, Saved, StoredDocument
from sync_client.replica import Replica
from sync_client.sent import Sent
from sync_client.session import SESSION_KINDS, Session
from sync_client.snapshot import Snapshots
from sync_client.states import State
from sync_client.upkeep import HEARD_KEY
from sync_client.wire import cursor_of
from sync_core.domain.catalog import DOMAIN, SHOP
from sync_core.domain.command import Command, CommandInput, Domain
from sync_core.domain.document import Document, Ref
from sync_core.filters import Filter

__all__ = ["Shop"]

STANDS = frozenset({State.CONNECTED, State.POLLING})
"""The states in which plain requests have a chance."""


LOOK_S = 0.02


class Shop:
    """See the module. *age_s* tells how long ago the server last said how things stand; None before it did."""

    _keeper: Keeper
    _intake: Intake
    _driver: Driver
    _snapshots: Snapshots

    def __init__(
        self,
        chosen: bool | Iterable[str],
        *,
        view: Filter,
        client_id: str,
        rng: Rng,
        age_s: Callable[[], float | None],
        user: str = "",
    ) -> None:
        """*chosen* are the kinds to be kept, by plural name; True: those of the shop. Raises ConfigurationError."""
        self.chosen: Sequence[str] = () if isinstance(chosen, bool) else tuple(chosen)
        """Their names, where they were named."""
        domain = _domain_of(self.chosen) if self.chosen else SHOP
        self._view = view
        self._rng = rng
        self._age_s = age_s
        self._heard_ms = 0
        self.replica = Replica(domain, view=view)
        self.watches = Watches(self.replica, fresh=lambda: self.fresh)
        self.courier = Courier(DOMAIN, self, rng=rng)
        self.replica.client_id = client_id
        self.replica.in_flight = lambda: self.courier.in_flight
        self.collections: Mapping[str, Collection[Document]] = {
            kind.plural: Collection(kind, self.replica, self.watches, self, domain.of(kind))
            for kind in domain.kinds.values()
        }
        self.session: Session | None = None
        if set(SESSION_KINDS) <= {kind.plural for kind in domain.kinds.values()}:
            self.session = Session(
                self.replica, self.courier.keeper, check=self.check, caught_up=self._caught_up, user=user
            )  # fmt: skip
        self.feed_filter = _feed_filter(domain, view)
        """What is asked of the feed."""

    # -- life -------------------------------------------------------------------------------------------

    async def open(self, saved: Saved, documents: Sequence[StoredDocument], *, outbox: Path | None) -> None:
        """What an earlier run has left, in the cache and at *outbox* (None: only in memory)."""
        self._heard_ms = time_ms(saved.meta.get(HEARD_KEY))
        self.replica.load(documents, complete_to=cursor_of(saved.complete_to), due=saved.snapshot_due)
        await self.courier.open(outbox)

    def build(self, keeper: Keeper, intake: Intake, driver: Driver, *, news: Callable[[], None]) -> None:
        """Around the connection. *news* is called when there are events of our own to be handed out."""
        self._news = news
        self._keeper = keeper
        self._intake = intake
        self._driver = driver
        self.courier.build(driver)
        self._snapshots = Snapshots(
            self.replica,
            keeper,
            intake,
            fetch=driver.request,
            may_fetch=lambda: driver.machine.state in STANDS,
            params=self._snapshot_parameters(),
            rng=self._rng,
        )
        notify = self.replica.changed

        def changed() -> None:
            notify()
            if self.session is not None:
                self.session.stir()
            if self.replica.due:
                self._snapshots.wake()

        self.replica.changed = changed

    def _snapshot_parameters(self) -> dict[str, str]:
        plurals = [kind.plural for kind in self.replica.domain.kinds.values()]
        asked = {"kinds": plurals, **Filter(tags=self._view.tags).document()}
        return {name: ",".join(values) for name, values in asked.items()}

    def begin(self) -> dict[str, Coroutine[Any, Any, None]]:
        """What has to run beside the connection, by name."""
        self.watches.begin()
        works = {"snapshot": self._snapshots.run(), "outbox": self.courier.run()}
        return works if self.session is None else works | {"session": self.session.run()}

    def stir(self) -> None:
        """The connection may be in another state."""
        self._snapshots.wake()
        self.courier.stir(self._driver.machine.state)

    def end(self) -> None:
        """Nothing more will be shown."""
        self.watches.end()
        if self.session is not None:
            self.session.end()

    async def aclose(self) -> None:
        """Let go of the outbox, after what has begun was cancelled. Idempotent."""
        if self.session is not None:
            await self.session.aclose()
        await self.courier.aclose()

    # -- what collections ask (collections.Owner) ---------------------------------------------------------

    @property
    def fresh(self) -> bool:
        return self.replica.fresh and not self.courier.unsettled

    @property
    def age_s(self) -> float | None:
        age_s = self._age_s()
        if age_s is not None or not self._heard_ms:
            return age_s
        # Of an earlier run's knowledge only the wall clock knows.
        return max(time.time_ns() // 1_000_000 - self._heard_ms, 0) / 1000

    def check(self) -> None:
        if not self.watches.has_begun:
            raise ClientError("the client has not been started: use `async with`, or await start()")

    async def submit(self, command: Command, given: CommandInput, *, if_match: int | None) -> Sent:
        self.check()
        return await self.courier.submit(command, given, if_match=if_match)

    async def _caught_up(self) -> None:
        """Return once everything is in here that the server had told when this was asked."""
        while self.replica.due or not self._intake.facts.caught_up:  # noqa: ASYNC110 - at an opening; nobody is told
            await asyncio.sleep(LOOK_S)

        async def nothing() -> None: ...

        await self._intake.apart(nothing)  # behind what is being taken in

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
        arrivals = [arrival for arrival in arrivals if self._intake.is_asked_for(arrival.event_type)]
        if "cursor" in documents:
            found = replica.of_answer(documents, at=cursor_of(self._intake.received))
        else:
            found = replica.of_refusal(documents)
        news = replica.newer(found)
        if news or arrivals:
            received_at_ms = time.time_ns() // 1_000_000
            await self._keeper.commit(Batch(arrivals, source="local", received_at_ms=received_at_ms, documents=news))
        replica.apply(news, pending=pending)
        if arrivals:
            self._news()


def _domain_of(plurals: Iterable[str]) -> Domain:
    try:
        return DOMAIN.only(plurals)
    except KeyError as exc:
        known = ", ".join(kind.plural for kind in DOMAIN.kinds.values())
        raise ConfigurationError(f"replica: there are no {exc.args[0]!r}; there are {known}") from None


def _feed_filter(domain: Domain, view: Filter) -> Filter:
    """*view*, and if it names types, those that carry documents of *domain* with them."""
    carrying = {event_type.name for event_type in domain.event_types if event_type.document in domain.kinds}
    return Filter(view.event_types | carrying if view.event_types else frozenset(), view.tags)
