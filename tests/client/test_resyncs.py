"""Who is told of a resync, and when it is done with."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from sync_client import Backoff, Event, HandlerPolicy, SyncClient
from sync_client.attempts import Attempts
from sync_client.backoff import Rng
from sync_client.errors import CacheUnwritable
from sync_client.handlers import Handlers
from sync_client.resyncs import Resyncs
from sync_client.states import Policy
from tests.client.scripted import EPOCH, OTHER, Script, connected, event, plain, reset, served
from tests.streams import eventually

QUICK = HandlerPolicy(retries=1, backoff=Backoff(base_s=0.001, cap_s=0.001))


class Due:
    """A resync as the intake keeps it, and the one who tells of it."""

    def __init__(self, *, rng: Rng = lambda: 0.5) -> None:
        self.reason = "expired"
        self.number = 0
        self.unwritable = 0
        self.woken = asyncio.Event()
        self.handlers = Handlers()
        self.resyncs = Resyncs(
            self.handlers,
            Attempts(policy=QUICK, rng=lambda: 0.5),
            due=lambda: self.reason,
            number=lambda: self.number,
            done=self.done,
            wake=self.woken.set,
            rng=rng,
            again=Backoff(base_s=0.02),
        )

    async def done(self, number: int) -> None:
        if self.unwritable:
            self.unwritable -= 1
            raise CacheUnwritable("full")
        if number == self.number:
            self.reason = ""

    def come(self, reason: str) -> None:
        self.number += 1
        self.reason = reason


async def test_it_is_done_when_everybody_was_told() -> None:
    due, told = Due(), []
    due.handlers.on_resync(lambda reason: told.append(("a", reason)))
    due.handlers.on_resync(lambda reason: told.append(("b", reason)))
    await due.resyncs.tell()
    await due.resyncs.tell()
    assert (told, due.reason) == ([("a", "expired"), ("b", "expired")], "")


async def test_it_waits_for_somebody_to_tell() -> None:
    due, told = Due(), []
    await due.resyncs.tell()
    assert due.reason == "expired"
    due.handlers.on_resync(told.append)
    await due.resyncs.tell()
    assert (told, due.reason) == (["expired"], "")


async def test_a_dashboard_is_somebody() -> None:
    due, refreshed = Due(), asyncio.Event()
    due.handlers.on_dashboard_change(debounce_s=0)(refreshed.set)
    await due.resyncs.tell()
    assert due.reason == ""
    await asyncio.wait_for(refreshed.wait(), 5)


async def test_a_handler_that_keeps_raising_leaves_it_due_and_is_called_again_later_and_the_others_are_not() -> None:
    due, told = Due(), []

    @due.handlers.on_resync
    def broken(reason: str) -> None:
        told.append("broken")
        if told.count("broken") < 5:
            raise ValueError

    due.handlers.on_resync(lambda reason: told.append("good"))
    await due.resyncs.tell()
    assert (told, due.reason) == (["broken", "broken", "good"], "expired")
    await due.resyncs.tell()
    assert told == ["broken", "broken", "good"], "not before its time"
    for _ in range(2):
        await asyncio.wait_for(due.woken.wait(), 5)
        due.woken.clear()
        await due.resyncs.tell()
    assert (told, due.reason) == (["broken", "broken", "good", "broken", "broken", "broken"], "")


async def test_whatever_is_drawn_it_is_not_called_again_at_once() -> None:
    due = Due(rng=lambda: 0.0)

    @due.handlers.on_resync
    def broken(reason: str) -> None:
        raise ValueError

    await due.resyncs.tell()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not due.woken.is_set()
    await asyncio.wait_for(due.woken.wait(), 5)


async def test_one_that_comes_late_is_told_though_another_keeps_raising() -> None:
    due, told = Due(), []

    @due.handlers.on_resync
    def broken(reason: str) -> None:
        raise ValueError

    await due.resyncs.tell()
    due.handlers.on_resync(told.append)
    await due.resyncs.tell()
    due.resyncs.stop()
    assert (told, due.reason) == (["expired"], "expired")


async def test_another_one_while_handlers_are_told_is_told_after_it() -> None:
    due, told = Due(), []

    @due.handlers.on_resync
    async def slow(reason: str) -> None:
        told.append(reason)
        if reason == "expired":
            due.come("epoch")

    await due.resyncs.tell()
    assert (told, due.reason) == (["expired", "epoch"], "")


async def test_handlers_are_not_told_twice_because_the_disk_is_full() -> None:
    due, told = Due(), []
    due.unwritable = 1
    due.handlers.on_resync(told.append)
    await due.resyncs.tell()
    assert due.reason == "expired"
    await due.resyncs.tell()
    due.resyncs.stop()
    assert (told, due.reason) == (["expired"], "")


# -- with everything around it -----------------------------------------------------------------------------


async def silence(_: int, writer: asyncio.StreamWriter) -> None:
    writer.write(plain(500, b""))


def streams(*answers: bytes) -> Script:
    """Streams that say one of *answers* each, and then stay open."""

    async def answer(n: int, writer: asyncio.StreamWriter) -> None:
        writer.write(answers[min(n, len(answers) - 1)])
        await writer.drain()
        await asyncio.sleep(60)

    return Script(answer, silence)


def client_of(url: str, **options: Any) -> SyncClient:
    given: dict[str, Any] = {
        "start": f"{EPOCH}.1", "cache": False, "handler_policy": QUICK, "rng": lambda: 0.05,
        "policy": Policy(backoff=Backoff(base_s=0.1)),
    }  # fmt: skip
    return SyncClient(url, trust_env=False, **{**given, **options})


RESET = reset(f"{OTHER}.5")
ANEW = connected(f"{OTHER}.0", resume="start") + event(1, epoch=OTHER)


async def test_a_second_reset_while_handlers_are_told_of_the_first_is_told_before_its_events() -> None:
    third = "cccccccc"
    again = ANEW + RESET[RESET.index(b"event: reset") :].replace(OTHER.encode(), third.encode())
    script = streams(RESET, again, connected(f"{third}.0", resume="start") + event(1, epoch=third))
    course: list[Any] = []
    go_on = asyncio.Event()
    async with served(script) as url:
        client = client_of(url)

        @client.on_resync
        async def note(reason: str) -> None:
            course.append("told")
            await go_on.wait()
            course.append("knows")

        client.on("stage_change")(lambda e: course.append(e.id))
        async with client:
            await eventually(lambda: client.cursor == f"{third}.1")
            assert course == ["told"]
            go_on.set()
            await eventually(lambda: f"{third}.1" in course)
    assert course == ["told", "knows", "told", "knows", f"{OTHER}.1", f"{third}.1"]


async def test_a_handler_that_registers_late_is_told_what_is_due() -> None:
    async with served(streams(RESET, ANEW)) as url, client_of(url) as client:
        got: list[Event] = []
        client.on()(got.append)
        await eventually(lambda: got)  # nobody who would have to know holds it up
        assert client.health.resync == "epoch"
        told: list[str] = []
        client.on_resync(told.append)
        await eventually(lambda: client.health.resync == "")
        assert told == ["epoch"]
        later: list[str] = []
        client.on_resync(later.append)
        await eventually(lambda: client.idle)
        assert later == []


async def fails_for_good(url: str, directory: Path, *, then: Callable[[SyncClient], Awaitable[None]]) -> list[str]:
    client = client_of(url, cache=True, cache_dir=directory)
    told: list[str] = []

    @client.on_resync
    def broken(reason: str) -> None:
        told.append(reason)
        raise ValueError

    got: list[Event] = []
    client.on()(got.append)
    async with client:
        await eventually(lambda: got)
        await then(client)
    return told


async def test_a_handler_that_keeps_raising_holds_up_no_events_and_is_told_again_in_the_next_life(
    tmp_path: Path,
) -> None:
    async def seen(client: SyncClient) -> None:
        assert (client.health.resync, client.metrics.handler_errors) == ("epoch", 2)

    async with served(streams(RESET, ANEW, connected(f"{OTHER}.1"))) as url:
        assert await fails_for_good(url, tmp_path, then=seen) == ["epoch", "epoch"]
        again = client_of(url, cache=True, cache_dir=tmp_path)
        told: list[str] = []
        again.on_resync(told.append)
        async with again:
            await eventually(lambda: told and not again.health.resync)
        assert told == ["epoch"]
        third = client_of(url, cache=True, cache_dir=tmp_path)
        async with third:
            assert third.health.resync == ""
