"""Publishing in a process that serves readers."""

import asyncio
import json
import time
from typing import Any

import pytest

from sync_core.problems import Unavailable
from sync_server.api.publish import LARGE_BYTES
from sync_server.api.submission import MAX_EVENTS, Item, parse_submission
from tests.feed.conftest import Start
from tests.serving import stage_change


async def test_large_batches_are_read_one_after_the_other_and_small_ones_in_between(
    start_sqlite: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read in turns with each other, all would be done at the end only, and nothing would be written until then."""
    steps: list[str] = []

    async def noted(registry: Any, body: bytes, **given: Any) -> list[Item]:
        size = "large" if len(body) > LARGE_BYTES else "small"
        steps.append(f"{size} begins")
        items = await parse_submission(registry, body, **given)
        steps.append(f"{size} ends")
        return items

    monkeypatch.setattr("sync_server.api.publish.parse_submission", noted)
    large = json.dumps({"events": [stage_change(n) for n in range(MAX_EVENTS)]}).encode()
    small = json.dumps(stage_change(1)).encode()
    async with start_sqlite() as served:
        submit = served.application.publish.submit
        sent = [submit("default", "anna", body, client_id=None) for body in (large, large, large, small, small)]
        receipts = await asyncio.gather(*sent)
    assert [len(each) for each in receipts] == [MAX_EVENTS] * 3 + [1, 1]
    assert steps == [
        *("large begins", "small begins", "small ends", "small begins", "small ends", "large ends"),
        *("large begins", "large ends") * 2,
    ]
    # In the log each is whole, and none stands in another.
    seqs = [[int(str(receipt.event_id).partition(".")[2]) for receipt in each] for each in receipts]
    assert all(each == list(range(each[0], each[0] + len(each))) for each in seqs)


async def test_who_leaves_while_a_large_batch_is_read_lets_the_next_one_be_read(start_sqlite: Start) -> None:
    large = json.dumps({"events": [stage_change(n) for n in range(MAX_EVENTS)]}).encode()
    async with start_sqlite() as served:
        submit = served.application.publish.submit
        first = asyncio.create_task(submit("default", "anna", large, client_id=None))
        await asyncio.sleep(0)
        first.cancel()
        async with asyncio.timeout(10):
            assert len(await submit("default", "anna", large, client_id=None)) == MAX_EVENTS
        assert first.cancelled()


async def test_what_waits_to_be_read_has_a_bound_in_bytes_and_in_time(
    start_sqlite: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = json.dumps({"events": [stage_change(n) for n in range(MAX_EVENTS)]}).encode()
    monkeypatch.setattr("sync_server.api.publish.DEADLINE_S", 0.2)
    monkeypatch.setattr("sync_server.api.publish.MAX_WAITING_BYTES", 3 * len(large))
    async with start_sqlite() as served:
        publish = served.application.publish
        async with publish._large.turn(1000):
            first, second, third = await asyncio.gather(
                *(publish.submit("default", "anna", large, client_id=None) for _ in range(3)), return_exceptions=True
            )
            # A small one waits for nobody.
            assert len(await publish.submit("default", "anna", json.dumps(stage_change(1)).encode(), client_id=None))
        assert isinstance(first, Unavailable)
        assert isinstance(second, Unavailable)
        assert "does not keep up" in str(first)
        assert isinstance(third, Unavailable)
        assert "Too much" in str(third)
        again = [publish.submit("default", "anna", large, client_id=None) for _ in range(2)]
        assert [len(receipts) for receipts in await asyncio.gather(*again)] == [MAX_EVENTS] * 2
        bounds = await served.application.event_log.bounds(["default"])
        assert bounds["default"].head == 1 + 2 * MAX_EVENTS  # of what was refused nothing was written


async def test_who_holds_the_loop_for_long_does_not_get_a_turn_for_every_piece(start_sqlite: Start) -> None:
    """As a flush to thousands of readers does: a batch of fifty pieces would take fifty of them."""
    large = json.dumps({"events": [stage_change(n) for n in range(MAX_EVENTS)]}).encode()
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            time.sleep(0.03)  # noqa: ASYNC251 - that is what it is about
            turns += 1
            await asyncio.sleep(0)

    async with start_sqlite() as served:
        holding = asyncio.create_task(others())
        await parse_submission(served.application.publish._registry, large, principal="anna", client_id=None)
        holding.cancel()
    assert turns < 15, turns
