"""Does what the machine decides: one task per activity, one timer per timer, and a signal when one ends.

A signal is handled to its end without an await: the machine steps, the effects are done, listeners are told.
What a stopped activity still has to say is dropped, because it is no longer the one in ``_running``.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any

from sync_client.backoff import Rng
from sync_client.breaker import Breaker
from sync_client.clock import now_s, suspended_s
from sync_client.errors import (
    BreakerOpen,
    CacheUnwritable,
    CursorLost,
    NetworkFailed,
    RequestFailed,
)
from sync_client.failures import FAILED, signal_of
from sync_client.guard import LoopGuard, SleepDetector
from sync_client.limits import DriverCounts, Limits
from sync_client.logs import get_logger
from sync_client.machine import step
from sync_client.messages import MessageDecoder
from sync_client.notes import Sink, Taken
from sync_client.plain import PlainRequests
from sync_client.states import Activity, Do, Effect, Happening, Machine, Policy, Signal, State
from sync_client.tokens import Tokens
from sync_client.transport import Stream, Transport
from sync_client.websocket import MessageStream, SocketTransport
from sync_core.paths import POLL_PATH, STREAM_PATH
from sync_core.sse import SSEDecoder, SSEEventTooLarge

__all__ = ["Driver"]

log = get_logger()

CACHE_RETRY_S = 5.0
"""How long nothing is fetched after the cache could not be written."""

_DUE: dict[Activity, Signal] = {
    Activity.RETRY_TIMER: Signal.RETRY_DUE,
    Activity.HEALTHY_TIMER: Signal.HEALTHY_DUE,
    Activity.PATIENCE_TIMER: Signal.PATIENCE_DUE,
    Activity.OPENING_TIMER: Signal.OPENING_DUE,
    Activity.POLL_TIMER: Signal.POLL_DUE,
    Activity.PROBE_TIMER: Signal.PROBE_DUE,
    Activity.UNATTENDED_TIMER: Signal.UNATTENDED_DUE,
}


class Driver:
    """The connection of one client. *changed* is called after each change of state, with the machine before. With
    *sockets* its streams are WebSockets."""

    def __init__(
        self,
        transport: Transport,
        sink: Sink,
        *,
        tokens: Tokens,
        policy: Policy,
        limits: Limits,
        breaker: Breaker,
        params: Mapping[str, str],
        stream_path: str = STREAM_PATH,
        stream_method: str = "GET",
        stream_body: bytes | None = None,
        decoder: SSEDecoder | None = None,
        sockets: SocketTransport | None = None,
        rng: Rng = random.random,
        changed: Callable[[Machine, Machine, Happening], None] = lambda *_: None,
        honours_retry: bool = False,
        is_behind: Callable[[], bool] = lambda: False,
    ) -> None:
        self._transport = transport
        self._sink = sink
        self._tokens = tokens
        self._policy = policy
        self._limits = limits
        self.breaker = breaker
        self.plain = PlainRequests(transport, tokens=tokens, breaker=breaker, token_s=limits.token_s)
        self._params = dict(params)
        self._stream_path = stream_path
        self._stream_method = stream_method
        self._stream_body = stream_body
        self._own_decoder = decoder
        self._sockets = sockets
        self._rng = rng
        self._changed = changed
        self._honours_retry = honours_retry
        self._is_behind = is_behind
        self._guard = LoopGuard()
        self._sleep = SleepDetector()
        self._running: dict[Activity, asyncio.Task[None] | asyncio.TimerHandle] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._queue: list[Happening] = []
        self._stepping = False
        self._refusal = "not let in"
        self._held_until_s = 0.0
        self._ticker: asyncio.Task[None] | None = None
        self.machine = Machine()
        self.counts = DriverCounts()
        self._stream_byte_s: float | None = None
        self.last_error = ""
        self.errors: list[tuple[float, str]] = []

    @property
    def last_byte_s(self) -> float | None:
        """When the server was last heard (monotonic)."""
        heard_s = [at_s for at_s in (self._stream_byte_s, self.plain.answered_s) if at_s is not None]
        return max(heard_s, default=None)

    # -- signals ----------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to watch the clock."""
        if self._ticker is None:
            self._sleep.tick(now_s=now_s(), suspended_s=suspended_s())
            self._ticker = asyncio.get_running_loop().create_task(self._tick(), name="sync-client-tick")

    def signal(
        self, signal: Signal, *, source: Activity | None = None, delay_s: float | None = None, reason: str = ""
    ) -> None:
        """Something happened: step the machine and do what it says."""
        self._queue.append(Happening(signal, now_s(), source=source, delay_s=delay_s, reason=reason))
        if self._stepping:
            return  # an effect or a listener of the step before; in its turn
        self._stepping = True
        try:
            while self._queue:
                self._step(self._queue.pop(0))
        finally:
            self._stepping = False

    def _step(self, happening: Happening) -> None:
        before = self.machine
        self.machine, effects = step(before, happening, policy=self._policy, rng=self._rng)
        for effect in effects:
            self._do(effect)
        if self.machine.state is State.CONNECTED and before.state is not State.CONNECTED:
            self.breaker.give_a_chance()
        if _look(self.machine) != _look(before):
            self._changed(before, self.machine, happening)

    def _do(self, effect: Effect) -> None:
        activity = effect.activity
        if effect.do is Do.REPORT:
            self.counts.spins += 1
            self.note_error(effect.reason)
            log.error("spinning", reason=effect.reason)
        elif activity is None:
            raise AssertionError(effect)
        elif effect.do is Do.ADOPT:
            self._running[Activity.STREAM] = self._running.pop(Activity.PROBE)
        elif effect.do is Do.STOP:
            self._stop(activity)
        elif activity in _DUE:
            loop = asyncio.get_running_loop()
            self._running[activity] = loop.call_later(effect.delay_s or 0.0, self._due, activity)
        else:
            work = self._work(activity)
            task = asyncio.get_running_loop().create_task(work, name=f"sync-client-{activity.value}")
            self._running[activity] = task

    def _due(self, activity: Activity) -> None:
        self._running.pop(activity, None)
        self._check_sleep()  # a timer may be first to see the other side of a suspend
        if activity is Activity.OPENING_TIMER and activity in self.machine.active:
            self.counts.failed_attempts += Activity.STREAM in self.machine.active
            self.note_error("stream: bytes, but no `connected`")
        self.signal(_DUE[activity])

    def _stop(self, activity: Activity) -> None:
        running = self._running.pop(activity, None)
        if running is None:
            return
        if isinstance(running, asyncio.Task):
            # One that stops itself (by the signal it has just sent) ends by itself.
            if running is not asyncio.current_task():
                running.cancel()
            self._ending.add(running)
            running.add_done_callback(self._ending.discard)
        else:
            running.cancel()

    def _is_current(self, activity: Activity) -> bool:
        return self._running.get(activity) is asyncio.current_task()

    async def aclose(self) -> None:
        """End everything; bounded by half a second. Idempotent."""
        self.signal(Signal.CLOSE)
        tasks = set(self._ending)
        if self._ticker is not None:
            self._ticker.cancel()
            tasks.add(self._ticker)
            self._ticker = None
        current = asyncio.current_task()
        tasks = {task for task in tasks if task is not current}
        if tasks:
            await asyncio.wait(tasks, timeout=0.5)

    # -- activities -------------------------------------------------------------------------------------

    async def _work(self, activity: Activity) -> None:
        """One activity from its start to its signal."""
        works: dict[Activity, Callable[[], Awaitable[None]]] = {
            Activity.STREAM: lambda: self._stream(Activity.STREAM),
            Activity.PROBE: lambda: self._stream(Activity.PROBE),
            Activity.POLL: self._poll,
            Activity.PLAIN: self._plain,
            Activity.TOKEN: self._renew,
        }
        try:
            await works[activity]()
        except RequestFailed as exc:
            self._report_failure(self._role(activity), exc)
        except CacheUnwritable as exc:
            self.note_error(str(exc))
            self._held_until_s = now_s() + CACHE_RETRY_S
            self._report(self._role(activity), Signal.CONSUMER_BEHIND, reason="cache_unwritable")
        except Exception as exc:
            # Ours or the program's: it must neither end the client in silence nor repeat without a pause.
            log.exception("activity_failed", activity=activity.value)
            role = self._role(activity)
            self.note_error(f"{type(exc).__name__} in {role.value}")
            self._report(role, FAILED[role], reason=type(exc).__name__)

    def _role(self, activity: Activity) -> Activity:
        """A probe may have become the stream meanwhile."""
        if activity is Activity.PROBE and self._is_current(Activity.STREAM):
            return Activity.STREAM
        return activity

    def _report(self, activity: Activity, signal: Signal, *, delay_s: float | None = None, reason: str = "") -> None:
        """The last word of an activity, if it is still wanted."""
        if self._is_current(activity):
            if signal is not Signal.CONSUMER_BEHIND:
                self._running.pop(activity)
                task = asyncio.current_task()
                assert task is not None
                self._ending.add(task)
                task.add_done_callback(self._ending.discard)
            self.signal(signal, source=activity, delay_s=delay_s, reason=reason)

    def _report_failure(self, activity: Activity, exc: RequestFailed) -> None:
        """An error's signal."""
        reason = str(exc)
        self.note_error(f"{activity.value}: {reason}")
        signal = signal_of(activity, exc, is_open=self.machine.state is State.CONNECTED)
        if signal is Signal.UNAUTHORIZED:
            self._refusal = reason
        if signal is Signal.ATTEMPT_FAILED:
            self.counts.failed_attempts += 1
        elif signal is Signal.POLL_FAILED:
            self.counts.failed_polls += 1
        # What the breaker says is about plain requests only; the server's own Retry-After is about all of them.
        delay_s = None if isinstance(exc, BreakerOpen) else exc.retry_after_s
        self._report(activity, signal, delay_s=delay_s, reason=reason)

    def note_error(self, text: str) -> None:
        """Keep it for ``health`` and ``errors``."""
        self.last_error = text
        self.errors = [*self.errors[-19:], (now_s(), text)]

    async def _stream(self, activity: Activity) -> None:
        """One stream, from the request to its end."""
        if activity is Activity.PROBE:
            self.counts.probes += 1
        else:
            self.counts.attempts += 1
        if not self._guard.allows(self._sink.cursor, now_s=now_s()):
            self._report(activity, Signal.SPINNING)
            return
        await self.plain.ensure_token()
        loop = asyncio.get_running_loop()
        first_byte_s = self._first_byte_s()
        try:
            async with asyncio.timeout(first_byte_s) as deadline, self._open() as stream:
                await self._read(activity, stream, deadline, loop)
        except CursorLost as exc:
            await self._sink.lose_cursor(exc.document)
            raise
        except TimeoutError:
            activity = self._role(activity)
            self._check_sleep()
            if self.machine.state is State.CONNECTED and activity is Activity.STREAM:
                self.counts.stalls += 1
                self.note_error("the stream fell silent")
                self._report(activity, Signal.LOST, reason="silence")
            elif activity is Activity.PROBE:
                self._report(activity, Signal.PROBE_FAILED, reason="no first byte")
            else:
                self.counts.failed_attempts += 1
                self.note_error("stream: no first byte")
                self._report(activity, Signal.FIRST_BYTE_MISSED)

    def _open(self) -> Any:
        if self._sockets is not None:
            return self._sockets.stream(
                params=self._params, last_event_id=self._sink.cursor, token=self._tokens.current
            )  # fmt: skip
        return self._transport.stream(
            self._stream_path,
            params=self._params,
            last_event_id=self._sink.cursor,
            token=self._tokens.current,
            method=self._stream_method,
            body=self._stream_body,
        )

    def _first_byte_s(self) -> float | None:
        if self._limits.first_byte_s is None:
            return None
        return self._limits.first_byte_s + self._limits.first_byte_round_trips * self.plain.round_trip_s

    async def _read(
        self,
        activity: Activity,
        stream: Stream | MessageStream,
        deadline: asyncio.Timeout,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        sink = self._sink
        decoder = self._own_decoder or self._new_decoder()
        decoder.start_stream()
        sink.stream_begins()
        begun = opened = sink.opens_with_headers and self._opened(activity)
        if opened:
            stall_s = sink.stall_s
            deadline.reschedule(None if stall_s is None else loop.time() + stall_s)
        try:
            async with aclosing(stream.chunks()) as chunks:
                async for chunk in chunks:
                    self._stream_byte_s = loop.time()
                    events = decoder.feed(chunk)
                    if events or decoder.last_event_id != sink.cursor:
                        deadline.reschedule(None)  # what the cache takes is not the server's silence
                        if events and not opened:
                            opened = self._opened(activity)
                        taken = await sink.take(events, last_event_id=decoder.last_event_id)
                        if self._ended(activity, taken, decoder.retry_ms):
                            return
                    if not begun:
                        begun = True
                        if not opened and self._is_current(activity):
                            self.signal(Signal.FIRST_BYTE, source=activity)
                    # How long it may take to open, whatever it says, is the machine's to say.
                    stall_s = sink.stall_s if opened else None
                    deadline.reschedule(None if stall_s is None else loop.time() + stall_s)
            decoder.feed(b"")
            reason = "end of stream"
        except SSEEventTooLarge as exc:
            reason = str(exc)
        except NetworkFailed as exc:
            if not self._honours_retry or decoder.retry_ms is None:
                raise
            reason = str(exc)  # `retry` counts for a stream that is cut off as for one that ends
        self._ran_out(activity, decoder, opened=opened, reason=reason)

    def _new_decoder(self) -> SSEDecoder | MessageDecoder:
        if self._sockets is not None:
            return MessageDecoder(last_event_id=self._sink.cursor)
        return SSEDecoder(max_event_bytes=self._limits.max_event_bytes, last_event_id=self._sink.cursor)

    def _ran_out(self, activity: Activity, decoder: SSEDecoder | MessageDecoder, *, opened: bool, reason: str) -> None:
        """The body is at its end, without a goodbye."""
        self.note_error(reason)
        activity = self._role(activity)
        retry_ms = decoder.retry_ms if self._honours_retry else None
        pause_s = None if retry_ms is None else retry_ms / 1000
        if activity is Activity.PROBE:
            self._report(activity, Signal.PROBE_FAILED, reason=reason)
        elif pause_s is not None:
            self._report(activity, Signal.GOODBYE, reason=reason, delay_s=pause_s)
        elif opened:
            self._report(activity, Signal.LOST, reason=reason)
        else:
            self.counts.failed_attempts += 1
            self._report(activity, Signal.ATTEMPT_FAILED, reason=reason)

    def _opened(self, activity: Activity) -> bool:
        """The stream delivers; a probe becomes the stream in this very step."""
        self.counts.connections += 1
        if self._is_current(activity):
            self.signal(Signal.OPENED if activity is Activity.STREAM else Signal.PROBE_OPENED, source=activity)
        return True

    def _ended(self, activity: Activity, taken: Taken, retry_ms: int | None) -> bool:
        """Whether the stream is over after what it brought."""
        activity = self._role(activity)
        if taken.goodbye is not None:
            if taken.goodbye == "token_expired":
                self._tokens.expire()
            delay_s = None if retry_ms is None else min(retry_ms / 1000, 60.0)
            ended = Signal.LOST if taken.contradicted else Signal.GOODBYE
            self._report(activity, ended, reason=taken.goodbye, delay_s=delay_s)
        elif taken.reopen is not None:
            self._report(activity, Signal.RESET, reason=taken.reopen)
        elif taken.behind:
            self._hold(activity)
        return not self._is_current(activity)

    def _hold(self, activity: Activity) -> None:
        if self._is_current(activity):
            self.signal(Signal.CONSUMER_BEHIND, source=activity)

    async def _poll(self) -> None:
        """One page."""
        if self.breaker.retry_in_s:
            # Waited for here: it is our own caution with plain requests, and no reason to keep streams waiting.
            await asyncio.sleep(self.breaker.retry_in_s)
        cursor = self._sink.cursor
        if not self._guard.allows(f"poll {cursor}", now_s=now_s()):
            self._report(Activity.POLL, Signal.SPINNING)
            return
        self.counts.polls += 1
        wait_s = self._limits.poll_wait_s
        params = {**self._params, "limit": str(self._limits.poll_limit)}
        if cursor:
            params["after"] = cursor
        if wait_s:
            params["wait"] = f"{wait_s:.3f}"
        try:
            page = await self.plain.get(POLL_PATH, params)
        except CursorLost as exc:
            await self._sink.lose_cursor(exc.document)
            self.note_error(f"poll: {exc}")
            self._report(Activity.POLL, Signal.RESET, reason=str(exc))
            return
        taken = await self._sink.take_page(page)
        if taken.behind:
            self._hold(Activity.POLL)
            return
        pause_ms = page.get("pollAfterMs")
        # More, and still nothing: a server that contradicts itself is not asked again at once.
        has_more = page.get("hasMore") is True and self._sink.cursor != cursor
        pause_s = pause_ms / 1000 if isinstance(pause_ms, int | float) and 0 <= pause_ms <= 600_000 else 2.0
        self._report(Activity.POLL, Signal.POLLED, delay_s=0.0 if has_more else max(pause_s, 0.1))

    async def _plain(self) -> None:
        """A request that no proxy has a reason to hold back, beside a stream that stays silent."""
        await self.plain.get(POLL_PATH, {"limit": "1"})
        self._report(Activity.PLAIN, Signal.PLAIN_ANSWERED)

    async def _renew(self) -> None:
        """Another token."""
        try:
            async with asyncio.timeout(self._limits.token_s):
                renewed = await self._tokens.renew()
        except Exception as exc:  # noqa: BLE001 - the program's own code; told, and tried again later
            self.note_error(f"token provider: {type(exc).__name__}")
            self._report(Activity.TOKEN, Signal.TOKEN_FAILED, reason=f"token provider: {type(exc).__name__}")
            return
        if renewed:
            self._report(Activity.TOKEN, Signal.TOKEN_READY)
        else:
            self._report(Activity.TOKEN, Signal.TOKEN_MISSING, reason=self._refusal)

    async def request(self, path: str, params: Mapping[str, str]) -> dict[str, Any]:
        """For the program: a plain GET through the same breaker. Raises RequestFailed."""
        try:
            return await self.plain.get(path, params)
        except BreakerOpen:
            raise
        except RequestFailed as exc:
            self.note_error(str(exc))
            raise

    # -- the clock --------------------------------------------------------------------------------------

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(self._sleep.tick_s)
            self._check_sleep()
            if self.machine.held and now_s() >= self._held_until_s and not self._is_behind():
                self.signal(Signal.CONSUMER_READY)

    def _check_sleep(self) -> None:
        slept_s = self._sleep.tick(now_s=now_s(), suspended_s=suspended_s())
        if slept_s:
            log.warning("woke_up", slept_s=round(slept_s, 1))
            self.signal(Signal.WOKE, reason=f"slept {slept_s:.0f} s")


def _look(machine: Machine) -> tuple[State, bool, bool]:
    """What others are told changes of."""
    return machine.state, machine.held, bool(machine.poll_failures)
