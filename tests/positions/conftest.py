"""A running application on each store, and a store of positions beside its own."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.feed.conftest import start, start_sqlite
from tests.positions.parts import HookedStore

__all__ = ["start", "start_sqlite", "store"]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[HookedStore]:
    made = HookedStore(tmp_path / "beside.db")
    yield made
    await made.aclose()
