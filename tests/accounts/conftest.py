"""Accounts in a fresh log."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.accounts.office import Office, office


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Office]:
    async with office(tmp_path) as opened:
        yield opened
