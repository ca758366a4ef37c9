"""The appender: group-commits what waits, one transaction at a time per tenant.

A submission that finds its tenant idle is committed at once; what arrives meanwhile is the next group. There
is no timer: a linger before the group only added latency (eventlog-evidence.md). The lane that commits is a
task of its own, so a request that is cancelled never takes a transaction down with it.

What goes wrong, and what then:
- transient failure: the whole group is repeated with full jitter until its deadline, then 503;
- the commit's result cannot be found out: ``outcome-unknown``, the caller re-sends with its key;
- any other error, twice: the members go one by one, so that a poisoned one fails alone.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_random_exponential

from sync_core.problems import OutcomeUnknown, Problem, SyncError, Unavailable
from sync_server.log.base import CommitUnknown, EventLog, LogError, WriteConflict
from sync_server.log.group import Committed, Group, Write
from sync_server.metrics import Metrics

__all__ = [
    "DEADLINE_S", "MAX_GROUP_BYTES", "MAX_GROUP_EVENTS", "MAX_WAITING_BYTES", "RETRY_AFTER_S", "AppendFailed",
    "Appender",
]  # fmt: skip

MAX_GROUP_EVENTS = 500
MAX_GROUP_BYTES = 4 * 1024 * 1024
"""Oversized transactions against a short transaction lifetime hung a tenant for over 35 s."""
DEADLINE_S = 5.0
GRACE_S = 1.0
MAX_WAITING_BYTES = 64 * 1024 * 1024
"""Per process. Beyond it submissions are refused at once, since they could not be committed in time."""
RETRY_AFTER_S = 2
# Addresses and the driver's words are for our log; callers are told what to do.
UNAVAILABLE_DETAIL = "The event log does not answer. Nothing was written; send again later."
UNKNOWN_DETAIL = "The event log did not say whether this was written. Send it again with the same keys."

T = TypeVar("T")

log = structlog.get_logger("sync_server.appender")

_conflict_wait = wait_random_exponential(multiplier=0.001, max=0.004, min=0.0005)
_transient_wait = wait_random_exponential(multiplier=0.02, max=0.5, min=0.01)


class AppendFailed(SyncError):
    """The store refused this submission for a reason that repeating does not change: a fault of ours."""


class _Waiting:
    """A submission, its answer to be, and until when it may wait (monotonic)."""

    __slots__ = ("deadline_s", "future", "taken", "write")

    def __init__(self, write: Write[Any], future: "asyncio.Future[Any]", deadline_s: float) -> None:
        self.write = write
        self.future = future
        self.deadline_s = deadline_s
        self.taken = False


class _Lane:
    """What waits for one tenant, and the group that is being committed."""

    __slots__ = ("group", "queue")

    def __init__(self) -> None:
        self.queue: deque[_Waiting] = deque()
        self.group: list[_Waiting] = []

    def expire(self, due_s: float) -> float | None:
        """Tell those whose deadline was by *due_s*; the transaction goes on. The first deadline of the others."""
        for waiting in (*self.group, *self.queue):  # in the order of arrival, which is that of deadlines
            if waiting.future.done():
                continue
            if waiting.deadline_s > due_s:
                return waiting.deadline_s
            error = OutcomeUnknown if waiting.taken else Unavailable
            _fail(waiting, error("The event log did not answer.", retry_after_s=RETRY_AFTER_S))
        return None


class Appender:
    """Commits submissions to *event_log* and tells *on_commit* (tenant, committed) of every group.

    ``on_commit`` runs in the event loop directly after the commit, in commit order per tenant.
    """

    def __init__(
        self,
        event_log: EventLog,
        *,
        on_commit: Callable[[str, Committed], None],
        metrics: Metrics,
        wall_ms: Callable[[], int],
        deadline_s: float = DEADLINE_S,
    ) -> None:
        self._log = event_log
        self._on_commit = on_commit
        self._metrics = metrics
        self.wall_ms = wall_ms
        self._deadline_s = deadline_s
        self._lanes: dict[str, _Lane] = {}
        self._clock: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting_bytes = 0
        self._closed = False

    async def append(self, tenant: str, write: Write[T]) -> T:
        """The answer to *write*, once it is durable. Raises its refusal, Unavailable or OutcomeUnknown."""
        if self._closed:
            raise Unavailable("The server is shutting down.", retry_after_s=RETRY_AFTER_S)
        if self._waiting_bytes + write.size_bytes > MAX_WAITING_BYTES:
            raise Unavailable("Too much is waiting to be written.", retry_after_s=RETRY_AFTER_S)
        loop = asyncio.get_running_loop()
        started = loop.time()
        waiting = _Waiting(write, loop.create_future(), started + self._deadline_s)
        self._lane(tenant, loop).queue.append(waiting)
        if self._clock is None:
            self._clock = loop.call_at(waiting.deadline_s + GRACE_S, self._expire)
        self._waiting_bytes += write.size_bytes
        try:
            answer: T = await waiting.future
            return answer
        finally:
            self._waiting_bytes -= write.size_bytes
            self._metrics.append_seconds.observe(loop.time() - started)

    def _lane(self, tenant: str, loop: asyncio.AbstractEventLoop) -> "_Lane":
        lane = self._lanes.get(tenant)
        if lane is None:
            lane = self._lanes[tenant] = _Lane()
            task = loop.create_task(self._run(tenant, lane), name=f"appender-{tenant}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return lane

    def _expire(self) -> None:
        """Look after those that wait too long. The lanes answer in time by themselves; this is for a store that hangs.

        One timer for all, left to run where nobody waits any more: it is made every six seconds, not for each append.
        """
        loop = asyncio.get_running_loop()
        due_s = loop.time() - GRACE_S
        left = [deadline_s for lane in self._lanes.values() if (deadline_s := lane.expire(due_s)) is not None]
        self._clock = loop.call_at(min(left) + GRACE_S, self._expire) if left else None

    async def aclose(self) -> None:
        """Accept nothing more and finish what waits; bounded by the deadline. Idempotent."""
        self._closed = True
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self._deadline_s + GRACE_S)
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=GRACE_S)
        if self._clock is not None:
            self._clock.cancel()

    async def _run(self, tenant: str, lane: "_Lane") -> None:
        """Commit group after group until the lane is empty; ends with it, so idle tenants cost nothing."""
        try:
            while lane.queue:
                group = lane.group = _take_group(lane.queue, now=asyncio.get_running_loop().time())
                try:
                    await self._commit(tenant, group)
                except BaseException:  # cancelled: the time to finish is over
                    self._fail_all(group, OutcomeUnknown("The server is shutting down.", retry_after_s=RETRY_AFTER_S))
                    raise
        finally:
            # Without an await since the loop saw the lane empty: nothing can have been added meanwhile.
            del self._lanes[tenant]
            for left in lane.queue:
                _fail(left, Unavailable("The server is shutting down.", retry_after_s=RETRY_AFTER_S))

    async def _commit(self, tenant: str, group: list[_Waiting]) -> None:
        if not group:
            return
        try:
            committed = await self._attempt(tenant, group)
        except CommitUnknown as exc:
            log.info("append_unknown", tenant=tenant, error=str(exc))
            self._fail_all(group, OutcomeUnknown(UNKNOWN_DETAIL, retry_after_s=RETRY_AFTER_S))
        except LogError as exc:
            log.info("append_unavailable", tenant=tenant, error=str(exc))
            self._fail_all(group, Unavailable(UNAVAILABLE_DETAIL, retry_after_s=RETRY_AFTER_S))
        except Exception as exc:  # noqa: BLE001 - whatever a poisoned member provokes in a driver
            if len(group) == 1:
                log.error("append_failed", tenant=tenant, error=repr(exc))
                self._fail_all(group, AppendFailed("The event log did not accept this submission."))
            else:
                log.warning("append_split", tenant=tenant, members=len(group), error=repr(exc))
                for member in group:
                    if not member.future.done():  # its caller may have left, or been told that it takes too long
                        await self._commit(tenant, [member])
        else:
            for waiting, result in zip(group, committed.results, strict=True):
                if isinstance(result, Problem):
                    _fail(waiting, result)
                elif not waiting.future.done():
                    waiting.future.set_result(result)
            # The answers are only scheduled: readers and callers hear of it in the same pass of the loop.
            try:
                self._on_commit(tenant, committed)
            except Exception:
                log.exception("on_commit_failed", tenant=tenant)
            self._metrics.append_group_events.observe(len(committed.events))

    async def _attempt(self, tenant: str, waiting: list[_Waiting]) -> Committed:
        """Commit a group, repeating what failed for the moment until its oldest member's time is over."""
        # A member that waited long behind others still gets one honest try, within its caller's grace.
        deadline_s = max(min(w.deadline_s for w in waiting), asyncio.get_running_loop().time() + GRACE_S / 2)
        group = Group([w.write for w in waiting])
        try:
            return await self._try(tenant, group, deadline_s)
        except Exception as exc:  # noqa: BLE001 - what is to be repeated is decided there
            # Only now are the means for it made: they cost more than all else that is done here for a group.
            return await self._repeat(tenant, group, deadline_s, first_failure=exc)

    async def _repeat(self, tenant: str, group: Group, deadline_s: float, *, first_failure: Exception) -> Committed:
        loop = asyncio.get_running_loop()
        failures = [first_failure]
        other_errors = 0

        async def attempt() -> Committed:
            if failures:
                raise failures.pop()
            return await self._try(tenant, group, deadline_s)

        def passing(error: BaseException) -> bool:
            nonlocal other_errors
            other_errors += not isinstance(error, LogError) and isinstance(error, Exception)
            return isinstance(error, LogError) or (isinstance(error, Exception) and other_errors < 2)

        retrying = AsyncRetrying(
            retry=retry_if_exception(passing),
            wait=_wait,
            # Not after the pause: its caller would have been told by then that nobody knows.
            stop=lambda state: loop.time() + state.upcoming_sleep >= deadline_s,
            reraise=True,
        )
        try:
            return await retrying(attempt)
        except Exception as exc:
            if group.doubtful is not None:
                raise CommitUnknown(f"Whether it was written could not be found out: {exc}") from exc
            raise

    async def _try(self, tenant: str, group: Group, deadline_s: float) -> Committed:
        return await self._log.transact(tenant, group, now_ms=self.wall_ms(), deadline_s=deadline_s)

    def _fail_all(self, group: list[_Waiting], error: Exception) -> None:
        for waiting in group:
            _fail(waiting, error)


def _wait(state: RetryCallState) -> float:
    outcome = state.outcome
    conflict = outcome is not None and isinstance(outcome.exception(), WriteConflict)
    return (_conflict_wait if conflict else _transient_wait)(state)


def _take_group(lane: deque[_Waiting], *, now: float) -> list[_Waiting]:
    """The next group off *lane*: what fits the bounds; a larger submission is a group of its own."""
    group: list[_Waiting] = []
    events = size = 0
    while lane:
        waiting = lane[0]
        if waiting.future.done() or waiting.deadline_s <= now:
            lane.popleft()
            _fail(waiting, Unavailable("The event log is too slow now.", retry_after_s=RETRY_AFTER_S))
            continue
        events += waiting.write.reserve
        size += waiting.write.size_bytes
        if group and (events > MAX_GROUP_EVENTS or size > MAX_GROUP_BYTES):
            break
        waiting.taken = True
        group.append(lane.popleft())
    return group


def _fail(waiting: _Waiting, error: Exception) -> None:
    if not waiting.future.done():
        waiting.future.set_exception(error)
