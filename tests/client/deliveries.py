"""What the tests of delivery share: one life of it after the other over a cache on disk, without a network."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sync_client import Event, HandlerPolicy
from sync_client.attempts import Attempts, DeliveryCounts
from sync_client.backoff import Backoff
from sync_client.delivery import Delivery
from sync_client.handlers import Handlers
from sync_client.keeper import Keeper, open_keeper
from sync_client.records import Arrival, Batch, Mark
from sync_client.subscriptions import Events, Subscriptions
from tests.streams import eventually

__all__ = ["Life", "arrival", "life", "n_of", "numbers"]

QUICK = HandlerPolicy(retries=2, backoff=Backoff(base_s=0.001, cap_s=0.002))


def arrival(n: int, **more: Any) -> Arrival:
    """A numbered stage change, as the intake stores it."""
    envelope = {"id": f"aaaaaaaa.{n}", "eventType": "stage_change", "data": {"newStage": "x", "n": n}, **more}
    return Arrival(str(envelope["id"]), str(envelope["eventType"]), json.dumps(envelope))


def n_of(event: Event) -> int:
    number: int = event.data["n"]
    return number


def numbers(events: list[Event]) -> list[int]:
    return [n_of(event) for event in events]


@dataclass
class Life:
    """A delivery that runs. *due* is the resync that is on disk, *done* how often it was said to be told."""

    keeper: Keeper
    handlers: Handlers = field(default_factory=Handlers)
    subscriptions: Subscriptions = field(default_factory=Subscriptions)
    attempts: Attempts = field(default_factory=lambda: Attempts(policy=QUICK, rng=lambda: 0.5))
    due: str = ""
    done: int = 0
    resets: int = 0

    def __post_init__(self) -> None:
        self.delivery = Delivery(
            self.keeper, self.handlers, self.subscriptions, attempts=self.attempts, own_client_id="me#1",
            resync_due=lambda: self.due, resync_done=self._resync_done, progressed=lambda: None,
            resets=lambda: self.resets,
        )  # fmt: skip

    async def _resync_done(self, resets: int) -> None:
        self.due = ""
        self.done += 1

    @property
    def counts(self) -> DeliveryCounts:
        return self.attempts.counts

    def events(self) -> Events:
        return self.subscriptions.add()

    async def arrive(self, *arrivals: Arrival) -> None:
        await self.keeper.commit(Batch(arrivals))
        self.delivery.wake()

    async def value(self, key: str) -> Any:
        return await self.keeper.run(self.keeper.cache.get_value, key)

    async def marked(self, mark: Mark) -> list[int]:
        records = await self.keeper.run(self.keeper.cache.events, limit=10_000, mark=mark)
        return [n_of(Event(record)) for record in records]

    async def idle(self) -> None:
        """Until all that has arrived was handed out."""
        await eventually(lambda: self.delivery.idle.is_set() and not self.keeper.backlog)


@asynccontextmanager
async def life(path: Path | None, *, killed: bool = False, **parts: Any) -> AsyncIterator[Life]:
    """From start to close; *killed*: to an end at which nothing more is written."""
    keeper = await open_keeper(path)
    it = Life(keeper, **parts)
    task = asyncio.create_task(it.delivery.run())
    it.delivery.wake()
    try:
        yield it
    finally:
        task.cancel()
        await asyncio.wait([task])
        if killed:
            it.delivery.end()
        else:
            await it.delivery.aclose()
        await keeper.aclose()
