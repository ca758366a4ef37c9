"""How often the client asks, whatever it is told. All servers misbehave at the same time, once, for all tests here.

Backoff is ten times as quick as by default, and the servers answer slowly enough for the loop guard not to notice:
what slows the client down has to be the rule for that very answer.
"""

import asyncio
import gzip
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pytest

from sync_client import Backoff, Event, Resync, SyncClient
from sync_client.states import Policy
from tests.client.scripted import (
    EPOCH,
    OTHER,
    STREAM_HEAD,
    Answer,
    Script,
    block,
    connected,
    event,
    plain,
    reset,
    served,
)
from tests.streams import eventually

pytestmark = pytest.mark.alone

RUN_S = 2.2
ANSWER_S = 0.13
"""Four of these and a half of another are more than the half second of the guard's five requests."""
QUICK = Backoff(base_s=0.1, cap_s=3.0)
STREAMING = Policy(backoff=QUICK, probe_first_s=60.0)
TRUSTING = Policy(backoff=QUICK, probe_first_s=60.0, brief_goodbyes=1000)
POLLING = Policy(backoff=QUICK, probe_first_s=60.0, max_reconnect_attempts=1)
BOTH = Policy(backoff=QUICK, probe_first_s=0.2, max_reconnect_attempts=1, opening_s=0.1)
COMMENTS = Policy(backoff=QUICK, opening_s=0.2, max_reconnect_attempts=100)
GONE = {"reason": "epoch", "head": f"{OTHER}.5", "floor": f"{OTHER}.0"}


def says(make: Callable[[int], bytes]) -> Answer:
    async def answer(n: int, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(ANSWER_S)
        writer.write(make(n))

    return answer


def good_page(n: int, **more: Any) -> bytes:
    return plain(200, {"events": [], "cursor": f"{EPOCH}.5", "head": f"{EPOCH}.5", "upToDate": True, **more})


def goodbye(reason: str = "max_age") -> bytes:
    return block("goodbye", {"reason": reason}, f"{EPOCH}.5")


async def comments(_: int, writer: asyncio.StreamWriter) -> None:
    writer.write(STREAM_HEAD)
    while True:
        writer.write(b": still here\n\n")
        await writer.drain()
        await asyncio.sleep(0.02)


async def too_large(_: int, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(ANSWER_S)
    writer.write(connected(f"{EPOCH}.5") + b"id: aaaaaaaa.6\ndata: ")
    while True:
        writer.write(b"x" * 262_144)
        await writer.drain()


async def endless(_: int, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(ANSWER_S)
    writer.write(b"HTTP/1.1 200 x\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n[")
    while True:
        writer.write(b" " * 65536)
        await writer.drain()


@cache
def bomb() -> bytes:
    return plain(200, gzip.compress(b" " * 32_000_000, compresslevel=1), "Content-Encoding: gzip")


BROKEN = says(lambda _: plain(500, b""))


@dataclass
class Case:
    """What a server does, and what that may cost: requests in RUN_S seconds, calls of resync handlers."""

    most: int
    stream: Answer
    poll: Answer = BROKEN
    most_told: int = 0
    options: dict[str, Any] = field(default_factory=dict)


def polled(most: int, answer: Answer, *, most_told: int = 0) -> Case:
    return Case(most, BROKEN, answer, most_told, {"policy": POLLING})


CASES = {
    "reset and end": Case(9, says(lambda _: reset(f"{OTHER}.5")), most_told=1),
    "reset and end, at head": Case(
        8, says(lambda _: reset(f"{OTHER}.5")), most_told=1, options={"on_reset": Resync.NOW}
    ),
    "reset to a moving head": Case(9, says(lambda n: reset(f"{OTHER}.{n}")), most_told=6),
    "reset and goodbye": Case(
        9, says(lambda _: reset(f"{OTHER}.5") + goodbye()), most_told=1, options={"policy": TRUSTING}
    ),
    "good, then reset": Case(
        6,
        says(lambda _: connected(f"{EPOCH}.5") + block("caught_up", {}, f"{EPOCH}.5") + block("reset", GONE, "x")),
        most_told=1,
    ),
    "a new event, then reset": Case(
        6, says(lambda n: connected(f"{EPOCH}.{n}") + event(n + 1) + block("reset", GONE, "x")), most_told=1
    ),
    "410 on every poll": polled(7, says(lambda _: plain(410, GONE)), most_told=1),
    "410 to a moving head": polled(7, says(lambda n: plain(410, {**GONE, "head": f"{OTHER}.{n}"})), most_told=7),
    "410 and a good page in turn": polled(5, says(lambda n: good_page(n) if n % 2 else plain(410, GONE)), most_told=1),
    "410 and resets in turn": Case(
        12,
        says(lambda n: reset(f"{OTHER}.5") if n else plain(500, b"")),
        says(lambda _: plain(410, GONE)),
        most_told=1,
        options={"policy": BOTH},
    ),
    "410 on the stream itself": Case(6, says(lambda _: plain(410, GONE)), most_told=1),
    "other rights each time": Case(9, says(lambda n: connected(f"{EPOCH}.5", access=str(n))), most_told=5),
    "comments for ever": Case(5, comments, options={"policy": COMMENTS}),
    "comments for ever beside good polls": Case(7, comments, says(good_page), options={"policy": BOTH}),
    "goodbye at once": Case(6, says(lambda _: connected(f"{EPOCH}.5") + goodbye())),
    # Tokens may be good for a second: one stream a second with a new token each, and no longer pauses.
    "token expired at once": Case(11, says(lambda _: connected(f"{EPOCH}.5") + goodbye("token_expired"))),
    "cut in the middle of an event": Case(8, says(lambda _: connected(f"{EPOCH}.5") + b"id: aaaaaaaa.6\ndata: {")),
    "an event without an end": Case(8, too_large),
    "a page that has more and moves nothing": polled(4, says(lambda n: good_page(n, hasMore=True, pollAfterMs=2000))),
    "pages of nonsense": polled(6, says(lambda _: plain(200, {"events": 5}))),
    "pages without an end": polled(6, endless),
    "pages that unpack to a lot": polled(6, says(lambda _: bomb())),
    "pages packed as we did not ask": polled(6, says(lambda _: plain(200, b"{}", "Content-Encoding: br"))),
    "nothing at all": Case(6, says(lambda _: b"")),
}


@dataclass
class Outcome:
    """What came of a case. *tokens*: how often the provider was asked."""

    requests: int
    told: list[str]
    errors: list[str]
    tokens: int


async def run(case: Case) -> Outcome:
    """The client against the server of *case*, for RUN_S."""
    told: list[str] = []
    tokens: list[int] = []

    def provider() -> str:
        tokens.append(1)
        return f"token-{len(tokens)}"

    script = Script(case.stream, case.poll)
    async with served(script) as url:
        options: dict[str, Any] = {"policy": STREAMING, "start": f"{EPOCH}.0", **case.options}
        client = SyncClient(url, cache=False, trust_env=False, token=provider, rng=lambda: 0.999, **options)
        client.on_resync(told.append)
        client.on()(ignore)
        async with client:
            await asyncio.sleep(RUN_S)
            with suppress(AssertionError):  # a busy machine gets more time, not more requests; its own test says so
                await eventually(lambda: script.requests >= 2 and len(told) >= min(case.most_told, 1))
            return Outcome(script.requests, told, [text for _, text in client.errors], len(tokens))


def ignore(_: Event) -> None:
    pass


@pytest.fixture(scope="module")
def outcomes() -> dict[str, Outcome]:
    async def all_of_them() -> list[Outcome]:
        return await asyncio.gather(*(run(case) for case in CASES.values()))

    return dict(zip(CASES, asyncio.run(all_of_them()), strict=True))


@pytest.mark.parametrize("name", CASES)
def test_the_client_asks_a_bounded_number_of_times(outcomes: dict[str, Outcome], name: str) -> None:
    case, outcome = CASES[name], outcomes[name]
    assert 2 <= outcome.requests <= case.most, outcome
    assert outcome.tokens <= case.most, outcome
    assert min(case.most_told, 1) <= len(outcome.told) <= case.most_told, outcome
    assert not [text for text in outcome.errors if text.startswith("the same request")], "left to the loop guard"
