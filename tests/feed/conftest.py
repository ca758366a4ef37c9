"""A running application on each store."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.serving import Served, mongodb_settings, serving, sqlite_settings

Start = Callable[..., AbstractAsyncContextManager[Served]]


@pytest.fixture(params=["sqlite", "mongodb"])
def start(request: pytest.FixtureRequest, tmp_path: Path) -> Start:
    """``async with start(feed={...}) as served:`` runs the application, on each store in turn.

    Started again within the same test, it has the same log.
    """
    database = request.getfixturevalue("mongodb_database") if request.param == "mongodb" else None

    @asynccontextmanager
    async def run(**sections: dict[str, Any]) -> AsyncIterator[Served]:
        if database is None:
            settings = sqlite_settings(tmp_path, **sections)
        else:
            settings = mongodb_settings(database.uri, database.name, **sections)
        async with serving(settings) as served:
            yield served

    return run


@pytest.fixture
def start_sqlite(tmp_path: Path) -> Start:
    """The same on SQLite only, for what does not depend on the store."""

    @asynccontextmanager
    async def run(**sections: dict[str, Any]) -> AsyncIterator[Served]:
        async with serving(sqlite_settings(tmp_path, **sections)) as served:
            yield served

    return run
