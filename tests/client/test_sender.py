"""The sender's loop: what each answer makes of a command, what it waits for, and that it never spins."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from sync_client.backoff import Backoff
from sync_client.errors import BreakerOpen, CacheUnwritable, NetworkFailed, NotAStream, ServerBusy, Unauthorized
from sync_client.pending import OutboxState
from sync_client.sender import MAX_IN_FLIGHT_MS, MAX_REBASES, MAX_STRANGE, Sender
from sync_client.sent import Sent
from sync_client.transport import Reply
from sync_core.domain import orders
from tests.client.outboxes import ORDER, T0_MS, Desk, given, open_desk, order
from tests.streams import eventually

QUICK = Backoff(base_s=0.001, cap_s=0.002)
REFUSED = Reply(422, {"type": "about:blank", "status": 422, "title": "Unprocessable", "detail": "no"})
CONFLICT = Reply(409, {"type": "stale", "status": 409, "title": "Conflict", "detail": "changed"})


@asynccontextmanager
async def sending(*answers: Any, backoff: Backoff = QUICK) -> AsyncIterator[tuple[Desk, Sender]]:
    """A desk whose sender runs, and to which the server answers so."""
    async with open_desk() as desk:
        desk.answers += answers
        sender = Sender(desk.keeper, wall_ms=lambda: desk.now_ms, rng=lambda: 1.0, backoff=backoff)
        desk.keeper.wake = sender.wake
        running = asyncio.create_task(sender.run())
        try:
            yield desk, sender
        finally:
            running.cancel()
            await asyncio.wait([running])


async def give(desk: Desk, status: str = "s") -> Sent:
    return await desk.keeper.submit(orders.set_status, given(orders.set_status, orderID=ORDER, status=status))


def fine(version: int) -> Reply:
    """As desk.says, for any number of them."""
    return Reply(200, {"order": order(version=version), "cursor": f"aaaaaaaa.{version}"})


async def settled(desk: Desk) -> None:
    await eventually(lambda: not desk.keeper.pending)


async def test_commands_go_out_in_order_one_at_a_time() -> None:
    async with sending() as (desk, _):
        for n in range(5):
            await give(desk, f"s{n}")
        for n in range(5):
            await eventually(lambda n=n: len(desk.sent) == n + 1)  # type: ignore[misc]
            assert [entry.state for entry in desk.keeper.entries.values()].count(OutboxState.IN_FLIGHT) == 1
            desk.answers.append(fine(n + 2))
        await settled(desk)
        assert [command.given.status for command in desk.sent] == [f"s{n}" for n in range(5)]  # type: ignore[attr-defined]


async def test_nothing_goes_out_while_the_connection_does_not_allow_it() -> None:
    async with sending(fine(2)) as (desk, sender):
        desk.is_up = False
        await give(desk)
        sender.wake()
        await asyncio.sleep(0.02)
        assert desk.sent == []
        desk.is_up = True
        sender.connected()
        await settled(desk)


@pytest.mark.parametrize(
    "failure",
    [
        NetworkFailed("cut"),
        ServerBusy("503", status=503),
        ServerBusy("408", status=408),
        NotAStream("html", status=200),
    ],
    ids=str,
)
async def test_what_may_have_been_taken_is_sent_again_with_its_key(failure: Exception) -> None:
    async with sending(failure, failure) as (desk, _):
        sent = await give(desk)
        await eventually(lambda: len(desk.sent) == 3)
        entry = desk.keeper.entries[sent.key]
        assert (entry.state, entry.first_sent_ms, entry.attempts) == (OutboxState.IN_FLIGHT, T0_MS, 3)
        desk.answers.append(fine(2))
        await settled(desk)
        assert {command.key for command in desk.sent} == {sent.key}


@pytest.mark.parametrize(
    "failure",
    [ServerBusy("429", status=429), BreakerOpen(retry_after_s=30), Unauthorized("401", status=401)],
    ids=str,
)
async def test_what_was_surely_not_taken_is_queued_as_before(failure: Exception) -> None:
    async with sending(failure, backoff=Backoff(base_s=30)) as (desk, sender):
        sent = await give(desk)
        await eventually(lambda: bool(sender.waits_for))
        entry = desk.keeper.entries[sent.key]
        assert (entry.state, entry.first_sent_ms) == (OutboxState.QUEUED, None)


async def test_what_may_have_been_taken_once_stays_in_flight_whatever_comes_then() -> None:
    async with sending(NetworkFailed("cut")) as (desk, _):
        sent = await give(desk)
        await eventually(lambda: len(desk.sent) == 2)
        desk.now_ms += 5
        desk.answers.append(ServerBusy("429", status=429, retry_after_s=0.01))
        await eventually(lambda: len(desk.sent) == 3)
        assert desk.keeper.entries[sent.key].first_sent_ms == T0_MS


async def test_retry_after_is_waited_for_even_if_a_new_connection_comes() -> None:
    async with sending(ServerBusy("429", status=429, retry_after_s=0.3), fine(2)) as (desk, sender):
        began_s = asyncio.get_running_loop().time()
        await give(desk)
        await eventually(lambda: bool(sender.waits_for))
        sender.connected()
        await settled(desk)
        assert asyncio.get_running_loop().time() - began_s >= 0.3


async def test_a_new_connection_ends_another_pause_early() -> None:
    async with sending(NetworkFailed("cut"), fine(2), backoff=Backoff(base_s=30)) as (desk, sender):
        await give(desk)
        await eventually(lambda: bool(sender.waits_for))
        sender.connected()
        await settled(desk)
        assert sender.waits_for == ""


async def test_a_new_connection_ends_the_breakers_pause_early() -> None:
    async with sending(BreakerOpen(retry_after_s=30), fine(2)) as (desk, sender):
        await give(desk)
        await eventually(lambda: bool(sender.waits_for))
        sender.connected()
        await settled(desk)


async def test_a_poisoned_command_does_not_hold_up_the_rest() -> None:
    async with sending(fine(2), REFUSED, fine(3)) as (desk, _):
        for name in ("a", "poison", "b"):
            await give(desk, name)
        await settled(desk)
        (failed,) = desk.keeper.entries.values()
        assert (failed.given.status, failed.problem) == ("poison", REFUSED.document)  # type: ignore[attr-defined]


async def test_without_a_token_nothing_is_sent_until_there_is_another() -> None:
    async with sending(Unauthorized("not let in (401)", status=401), fine(2), fine(3)) as (desk, sender):
        await give(desk, "a")
        await eventually(lambda: sender.waits_for == "another token is needed")
        await give(desk, "b")
        await asyncio.sleep(0.02)
        assert len(desk.sent) == 1
        sender.token_changed()
        await settled(desk)
        assert [command.given.status for command in desk.sent] == ["a", "a", "b"]  # type: ignore[attr-defined]


async def test_a_hook_s_command_goes_out_in_its_place() -> None:
    async with sending(CONFLICT, fine(2), fine(3)) as (desk, _):
        desk.keeper.hook = lambda conflict: {"status": "rebased"}
        await give(desk, "a")
        await give(desk, "b")
        await settled(desk)
        assert [command.given.status for command in desk.sent] == ["a", "rebased", "b"]  # type: ignore[attr-defined]
        assert len({command.key for command in desk.sent}) == 3


async def test_a_hook_that_never_gives_up_is_not_asked_for_ever() -> None:
    async with sending(*[CONFLICT] * 20) as (desk, _):
        desk.keeper.hook = lambda conflict: {"status": "again"}
        await give(desk, "a")
        await settled(desk)
        assert len(desk.sent) == 1 + MAX_REBASES
        assert [entry.state for entry in desk.keeper.entries.values()] == [OutboxState.FAILED]


async def test_only_a_conflict_is_for_the_hook() -> None:
    async with sending(REFUSED) as (desk, _):
        desk.keeper.hook = lambda conflict: {"status": "again"}
        await give(desk, "a")
        await settled(desk)
        assert len(desk.sent) == 1


async def test_a_refusal_that_is_not_the_server_s_counts_after_a_few() -> None:
    portal = Reply(403, {}, is_ours=False)
    async with sending(*[portal] * (MAX_STRANGE - 1), fine(2), *[portal] * MAX_STRANGE) as (desk, _):
        await give(desk, "a")
        await settled(desk)
        assert not desk.keeper.entries
        await give(desk, "b")
        await settled(desk)
        (failed,) = desk.keeper.entries.values()
        assert failed.problem is not None
        assert (failed.problem["status"], failed.problem["title"]) == (403, "Forbidden")
        assert len(desk.sent) == 2 * MAX_STRANGE


async def test_what_is_in_flight_for_more_than_six_days_is_for_a_person() -> None:
    async with sending(NetworkFailed("cut")) as (desk, _):
        sent = await give(desk, "a")
        await eventually(lambda: len(desk.sent) == 2)  # it waits for an answer to the second
        desk.now_ms += MAX_IN_FLIGHT_MS
        desk.answers.append(NetworkFailed("cut"))
        await eventually(lambda: len(desk.sent) == 3)  # not more than six days
        desk.now_ms += 1
        desk.answers += [NetworkFailed("cut"), fine(2)]
        await give(desk, "b")
        await settled(desk)
        assert [command.given.status for command in desk.sent] == ["a", "a", "a", "b"]  # type: ignore[attr-defined]
        problem = desk.keeper.entries[sent.key].problem
        assert problem is not None
        assert problem["type"] == "in-flight-too-long"


async def test_what_waits_unsent_never_grows_too_old() -> None:
    async with sending(fine(2)) as (desk, sender):
        desk.is_up = False
        sent = await give(desk, "a")
        desk.now_ms += 100 * MAX_IN_FLIGHT_MS
        desk.is_up = True
        sender.wake()
        await sent.done(5)


async def test_an_answer_that_the_disk_does_not_take_is_asked_for_again() -> None:
    async with sending(fine(2)) as (desk, sender):
        desk.fault = CacheUnwritable("the disk is full")
        sent = await give(desk, "a")
        await eventually(lambda: sender.waits_for == "the disk is full")
        desk.fault = None
        desk.answers.append(fine(2))
        await sent.done(5)
        assert {command.key for command in desk.sent} == {sent.key}


async def test_what_nobody_foresaw_does_not_end_the_sending() -> None:
    async with sending(ZeroDivisionError("ours"), fine(2)) as (desk, _):
        sent = await give(desk, "a")
        await sent.done(5)


async def test_failures_are_slowed_down() -> None:
    async with sending(*[NetworkFailed("cut")] * 50, backoff=Backoff(base_s=0.02, cap_s=0.02)) as (desk, _):
        began_s = asyncio.get_running_loop().time()
        await give(desk, "a")
        await eventually(lambda: len(desk.sent) == 6)
        assert asyncio.get_running_loop().time() - began_s >= 5 * 0.02
