"""Reading a publish request, by itself."""

import asyncio
import json

import pytest

from sync_core.domain.catalog import REGISTRY
from sync_core.problems import Unprocessable
from sync_server.api.submission import AT_ONCE, MAX_EVENTS, parse_submission
from tests.server.publishing import EVENT


async def test_a_large_batch_lets_others_have_their_turn() -> None:
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    task = asyncio.create_task(others())
    body = json.dumps({"events": [EVENT] * MAX_EVENTS}).encode()
    items = await parse_submission(REGISTRY, body, principal="anna", client_id=None)
    task.cancel()
    assert len(items) == MAX_EVENTS
    assert turns >= MAX_EVENTS / AT_ONCE


async def test_faults_far_apart_are_told_together_and_by_their_place() -> None:
    events = [dict(EVENT) for _ in range(MAX_EVENTS)]
    for place in (0, AT_ONCE, MAX_EVENTS - 1):
        events[place]["nonsense"] = 1
    with pytest.raises(Unprocessable) as refusal:
        await parse_submission(REGISTRY, json.dumps({"events": events}).encode(), principal="anna", client_id=None)
    paths = [fault.path for fault in refusal.value.errors]
    assert paths == [f"events[{place}].nonsense" for place in (0, AT_ONCE, MAX_EVENTS - 1)]
