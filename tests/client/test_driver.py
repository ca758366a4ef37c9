"""The driver between a server that misbehaves and a sink that cannot take what it brings."""

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from sync_client.backoff import Backoff
from sync_client.breaker import Breaker, BreakerState
from sync_client.driver import Driver
from sync_client.errors import BreakerOpen, CacheUnwritable, ServerBusy
from sync_client.limits import Limits
from sync_client.notes import NOTHING, Taken
from sync_client.states import Happening, Machine, Policy, Signal, State
from sync_client.tokens import Tokens
from sync_client.transport import Transport
from sync_core.paths import POLL_PATH
from sync_core.sse import ServerSentEvent
from tests.client.scripted import EPOCH, STREAM_HEAD, Answer, Script, block, connected, plain, served
from tests.streams import eventually

SOON = Limits(first_byte_s=0.1)
"""Of tests whose server says nothing at all; where it answers, a busy machine may take its time."""
GONE = plain(410, {"reason": "epoch", "head": f"{EPOCH}.5"})


class Notebook:
    """See sync_client.notes.Sink; *is_full*: it takes nothing."""

    cursor = f"{EPOCH}.1"
    stall_s = 0.2
    opens_with_headers = False

    def __init__(self, *, is_full: bool = False) -> None:
        self.is_full = is_full
        self.lost = 0

    def stream_begins(self) -> None:
        pass

    async def take(self, events: Sequence[ServerSentEvent], *, last_event_id: str) -> Taken:
        return NOTHING

    async def take_page(self, page: dict[str, Any]) -> Taken:
        return NOTHING

    async def lose_cursor(self, document: dict[str, Any]) -> Taken:
        if self.is_full:
            raise CacheUnwritable("full")
        self.lost += 1
        return NOTHING


@asynccontextmanager
async def driving(
    script: Script,
    sink: Notebook,
    *,
    limits: Limits | None = None,
    request_timeout_s: float = 30.0,
    tokens: Tokens | None = None,
    changed: Callable[[bool], None] = lambda _: None,
    **policy: Any,
) -> AsyncIterator[Driver]:
    """A driver that connects. *changed* is told, while it polls, whether polls fail."""

    def note(_: Machine, after: Machine, __: Happening) -> None:
        if after.state is State.POLLING:
            changed(after.poll_failures > 0)

    async with served(script) as url:
        transport = Transport(url, trust_env=False, request_timeout_s=request_timeout_s)
        driver = Driver(
            transport, sink, tokens=tokens or Tokens(None), policy=Policy(**policy),
            limits=limits or Limits(first_byte_s=10.0),
            breaker=Breaker(clock=asyncio.get_running_loop().time, rng=random.random), params={}, rng=lambda: 0.05,
            changed=note,
        )  # fmt: skip
        driver.start()
        driver.signal(Signal.CONNECT)
        try:
            yield driver
        finally:
            await driver.aclose()
            await transport.aclose()


def says(*pieces: bytes, every_s: float = 60.0) -> Answer:
    """The pieces, the last one again every so often."""

    async def answer(_: int, writer: asyncio.StreamWriter) -> None:
        writer.write(b"".join(pieces))
        while True:
            await writer.drain()
            await asyncio.sleep(every_s)
            writer.write(pieces[-1])

    return answer


async def broken(_: int, writer: asyncio.StreamWriter) -> None:
    writer.write(plain(500, b""))


@pytest.mark.parametrize("kind", ["stream", "poll"])
async def test_a_cursor_that_is_lost_while_the_disk_is_full_holds_the_client_up_and_does_not_stop_it(kind: str) -> None:
    async def gone(_: int, writer: asyncio.StreamWriter) -> None:
        writer.write(GONE)

    script = Script(gone, gone) if kind == "stream" else Script(broken, gone)
    sink = Notebook(is_full=True)
    async with driving(script, sink, max_reconnect_attempts=1) as driver:
        await eventually(lambda: driver.machine.held)
        assert driver.machine.reason == "cache_unwritable"
        sink.is_full = False
        driver.signal(Signal.CONSUMER_READY)
        await eventually(lambda: sink.lost > 0)


async def test_a_410_to_a_request_without_a_cursor_loses_none() -> None:
    async def silent(_: int, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(60)

    async def gone(_: int, writer: asyncio.StreamWriter) -> None:
        writer.write(GONE)

    script, sink = Script(silent, gone), Notebook()
    async with driving(script, sink, limits=SOON, buffered_attempts=100, max_reconnect_attempts=100) as driver:
        await eventually(lambda: script.polls >= 2)
        assert sink.lost == 0
        assert driver.machine.failures >= 1


@pytest.mark.alone
async def test_an_open_breaker_keeps_polls_back_and_no_probe() -> None:
    async def stream(n: int, writer: asyncio.StreamWriter) -> None:
        writer.write(connected(f"{EPOCH}.1") if n else plain(500, b""))
        await writer.drain()
        await asyncio.sleep(60)

    script = Script(stream, broken)
    policy = {"max_reconnect_attempts": 1, "probe_first_s": 0.5, "backoff": Backoff(base_s=0.01)}
    async with driving(script, Notebook(), **policy) as driver:
        await eventually(lambda: driver.breaker.state is BreakerState.OPEN)
        assert script.polls == 5
        await eventually(lambda: driver.machine.state is State.CONNECTED)
        assert (driver.breaker.state, script.polls) == (BreakerState.HALF_OPEN, 5), "the stream is a sign of life"
        assert driver.counts.failed_polls == 5  # it waits for the breaker, instead of asking it


async def test_an_open_breaker_keeps_no_stream_back() -> None:
    async def silent(_: int, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(60)

    script = Script(silent, broken)
    async with driving(script, Notebook(), limits=SOON, max_reconnect_attempts=100) as driver:
        for _ in range(5):  # the program's own requests; the driver may have asked before, why no byte comes
            with pytest.raises((ServerBusy, BreakerOpen)):
                await driver.request(POLL_PATH, {})
        await eventually(lambda: driver.breaker.state is BreakerState.OPEN)
        streams = script.streams
        await eventually(lambda: script.streams > streams)  # what was asked before it opened is answered by now
        polls, streams = script.polls, script.streams
        await eventually(lambda: script.streams >= streams + 2)  # and no plain request could tell why
        assert (driver.breaker.state, script.polls) == (BreakerState.OPEN, polls)


async def test_a_poll_that_waits_for_news_at_the_server_is_given_the_time() -> None:
    async def quiet(_: int, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.3)
        writer.write(plain(200, {"events": [], "cursor": f"{EPOCH}.1", "pollAfterMs": 0}))

    script = Script(broken, quiet)
    limits = Limits(poll_wait_s=10.0)
    async with driving(script, Notebook(), limits=limits, request_timeout_s=0.15, max_reconnect_attempts=1) as driver:
        await eventually(lambda: script.polls >= 2)
        assert driver.counts.failed_polls == 0


async def test_polls_that_begin_to_fail_and_work_again_are_told() -> None:
    async def poll(n: int, writer: asyncio.StreamWriter) -> None:
        writer.write(plain(500, b"") if n in (1, 2) else plain(200, {"pollAfterMs": 0}))

    told: list[bool] = []
    async with driving(Script(broken, poll), Notebook(), max_reconnect_attempts=1, changed=told.append) as driver:
        await eventually(lambda: len(told) == 3)
        assert told == [False, True, False]  # polling, offline, polling again
        assert driver.machine.state is State.POLLING


@pytest.mark.parametrize("comment", [b": here\n\n", b":", b"retry: 5\n\n", b"id: aaaaaaaa.9\n\n", b"\n"])
async def test_a_body_that_never_says_connected_ends_in_time(comment: bytes) -> None:
    script = Script(says(STREAM_HEAD, comment, every_s=0.01), broken)
    async with driving(script, Notebook(), opening_s=0.15, backoff=Backoff(base_s=4.0)) as driver:
        await eventually(lambda: driver.machine.state is State.ERROR)
        assert "no `connected`" in driver.machine.reason
        assert driver.counts.failed_attempts == 1
        await eventually(lambda: script.streams >= 2)


async def test_a_body_that_says_connected_late_but_in_time_is_a_stream() -> None:
    class Patient(Notebook):
        async def take(self, events: Sequence[ServerSentEvent], *, last_event_id: str) -> Taken:
            self.stall_s = 60.0
            return NOTHING

    async def late(_: int, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM_HEAD + b": soon\n\n")
        await writer.drain()
        await asyncio.sleep(0.3)  # longer than the silence that an open stream may keep
        writer.write(connected(f"{EPOCH}.1")[len(STREAM_HEAD) :])
        await writer.drain()
        await asyncio.sleep(60)

    script = Script(late, broken)
    async with driving(script, Patient()) as driver:
        await eventually(lambda: driver.machine.state is State.CONNECTED)
        assert script.requests == 1


async def test_a_token_that_has_expired_is_not_shown_again_however_short_it_lives() -> None:
    class Told(Notebook):
        stall_s = 60.0

        async def take(self, events: Sequence[ServerSentEvent], *, last_event_id: str) -> Taken:
            return Taken(goodbye="token_expired") if events[-1].event == "goodbye" else NOTHING

    async def expired(_: int, writer: asyncio.StreamWriter) -> None:
        writer.write(connected(Notebook.cursor))
        await writer.drain()
        await asyncio.sleep(0.15)  # of a life of its own, or the guard against spinning would speak
        writer.write(block("goodbye", {"reason": "token_expired"}, Notebook.cursor))

    shown = itertools.count()
    script = Script(expired, broken)
    tokens = Tokens(lambda: f"token-{next(shown)}")
    async with driving(script, Told(), tokens=tokens, brief_life_s=60.0) as driver:
        await eventually(lambda: script.streams >= 6)
        assert driver.machine.brief >= 4
        assert driver.counts.spins == 0
    seen = [head.partition("Bearer ")[2].partition("\r")[0] for head in script.heads]
    assert seen[:6] == [f"token-{n}" for n in range(6)]
