"""Sweeps: what time alone changes, made into commands.

An offer that nobody took is to reach everybody; a session that nobody touched is to end. Every process looks, now and
then, for documents whose time has come, and gives the command of each to the log like anybody else's. Two processes
that look at the same moment do no harm: the rule decides in the log's transaction, on the document as it is there,
and where another one has done it already it finds nothing to do and changes nothing.
"""

import asyncio
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import structlog
from pydantic import ValidationError

from sync_core.domain.command import Command, CommandInput
from sync_core.domain.document import Document, Ref
from sync_core.problems import NotFound, Problem
from sync_server.access.caller import Caller
from sync_server.access.rights import OPEN_RIGHTS
from sync_server.commands.dispatch import Call, Dispatch
from sync_server.log.base import Bounds, EventLog, LogError, Selection

__all__ = ["SYSTEM", "Sweep", "Sweeps"]

SYSTEM = "system"
"""The principal of what the server does by itself. Nobody can be it: those of people and keys have a colon."""
PAGE = 100

log = structlog.get_logger("sync_server.sweeps")


@dataclass(frozen=True, slots=True)
class Sweep:
    """Every *every_s* (and up to half less), the documents of *selection*: *due* gives the input of *command* for
    one whose time has come at *now_ms* (Unix time), else None.

    *command* need not have a route. Its rule has to look again whether the time has come, and to do nothing if not.
    """

    name: str
    selection: Selection
    every_s: float
    command: Command
    due: Callable[[Document, int], CommandInput | None]


class Sweeps:
    """Runs *sweeps* over all tenants but the server's own."""

    def __init__(
        self, sweeps: Iterable[Sweep], *, event_log: EventLog, dispatch: Dispatch, wall_ms: Callable[[], int]
    ) -> None:
        self._sweeps = tuple(sweeps)
        self._log = event_log
        self._dispatch = dispatch
        self._wall_ms = wall_ms
        self._empty: dict[tuple[str, str], Bounds] = {}
        """Where a sweep found nothing to wait for: until something is written there is nothing to look for."""

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for sweep in self._sweeps:
                tasks.create_task(self._repeat(sweep))

    async def _repeat(self, sweep: Sweep) -> None:
        while True:
            await asyncio.sleep(sweep.every_s * random.uniform(0.5, 1.0))
            try:
                await self.once(sweep)
            except (LogError, Problem) as exc:
                log.info("sweep_postponed", sweep=sweep.name, error=str(exc))
            except Exception:
                log.exception("sweep_failed", sweep=sweep.name)

    async def once(self, sweep: Sweep) -> None:
        """Look at every tenant. Raises LogError, Problem."""
        tenants = [tenant for tenant in await self._log.tenants() if not tenant.startswith("_")]
        for tenant, bounds in (await self._log.bounds(tenants)).items():
            place = (sweep.name, tenant)
            if self._empty.get(place) == bounds:
                continue
            if await self._look(sweep, tenant):
                self._empty.pop(place, None)
            else:
                self._empty[place] = bounds

    async def _look(self, sweep: Sweep, tenant: str) -> bool:
        """Whether there was any document of the sweep."""
        found = False
        after: Ref | None = None
        while True:
            page = await self._log.documents(tenant, sweep.selection, after=after, limit=PAGE)
            now_ms = self._wall_ms()
            async with asyncio.TaskGroup() as calls:  # together, so that they share transactions
                for stored in page.documents:
                    try:
                        document = self._dispatch.domain.kinds[stored.kind].model_validate_json(stored.body)
                    except ValidationError:  # a newer server wrote it, and will look after it
                        log.info("document_unreadable", kind=stored.kind, id=stored.id)
                        continue
                    given = sweep.due(document, now_ms)
                    if given is not None:
                        calls.create_task(self._call(sweep, tenant, given))
            found = found or bool(page.documents)
            if page.next is None:
                return found
            after = page.next

    async def _call(self, sweep: Sweep, tenant: str, given: CommandInput) -> None:
        try:
            await self._dispatch(Caller(tenant, SYSTEM, OPEN_RIGHTS), Call(sweep.command, given))
        except NotFound:
            pass  # deleted meanwhile
        except (LogError, Problem) as exc:  # the others of the page are not to be cancelled for it
            log.info("sweep_postponed", sweep=sweep.name, tenant=tenant, error=str(exc))
