"""The harness of the kill tests: a till is ended in order, or it is a fault."""

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from e2e.client.chaos import Chaos
from e2e.client.harness import Shop


@pytest.fixture
async def chaos(shop: Shop, tmp_path: Path) -> AsyncIterator[Chaos]:
    made = Chaos(shop, tmp_path, rng=random.Random(1))
    await made.start_till()
    yield made
    await made.kill_till()


async def test_a_till_is_asked_to_end_only_when_it_listens(chaos: Chaos) -> None:
    till = chaos._till
    assert till is not None
    await chaos.stop_till()  # at once: it is still importing
    assert (till.returncode, chaos.verdict.faults) == (0, [])


async def test_a_till_that_ends_by_itself_is_a_fault(chaos: Chaos) -> None:
    assert chaos._till is not None
    chaos._till.terminate()
    await chaos._till.wait()
    await chaos.stop_till()
    assert len(chaos.verdict.faults) == 1
