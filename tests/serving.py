"""The real application on a real socket, in the test's own event loop, where a test may look into it."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sync_server.app import open_application
from sync_server.asgi import Application
from sync_server.feed.hub import Hub
from sync_server.serve import bind, make_server
from sync_server.settings import Settings


@dataclass(frozen=True)
class Served:
    """A running application; *url* without a trailing slash."""

    url: str
    port: int
    application: Application

    async def hub(self) -> Hub:
        """The hub of the default tenant."""
        return await self.application.feed.hub("default")

    async def publish(self, *events: dict[str, Any], client_id: str | None = None) -> list[str | None]:
        """Publish, and the ids."""
        body = json.dumps({"events": events}).encode()
        receipts = await self.application.publish.submit("default", "anonymous", body, client_id=client_id)
        return [receipt.event_id for receipt in receipts]

    async def stages(self, count: int, *, order: str = "ORDER-001", first: int = 0) -> list[str | None]:
        """Publish *count* stage changes of one order; their data's ``n`` counts from *first*."""
        ids: list[str | None] = []
        numbers = range(first, first + count)
        for begin in range(0, count, 1000):
            ids += await self.publish(*(stage_change(n, order=order) for n in numbers[begin : begin + 1000]))
        return ids


def stage_change(n: int, *, order: str = "ORDER-001", **more: Any) -> dict[str, Any]:
    """A publishable event."""
    return {"eventType": "stage_change", "data": {"newStage": "in_progress", "n": n}, "orderID": order, **more}


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[Served]:
    """Serve with *settings* on a free port; drained at once and closed with the block."""
    sock = bind("127.0.0.1", 0)
    port = sock.getsockname()[1]
    async with open_application(settings) as application:
        server = make_server(application)
        task = asyncio.create_task(server.serve(sockets=[sock]))
        while not server.started:
            await asyncio.sleep(0.005)
        try:
            yield Served(f"http://127.0.0.1:{port}", port, application)
        finally:
            await application.feed.drain(0)
            server.should_exit = True
            await task


def sqlite_settings(directory: Path, **sections: dict[str, Any]) -> Settings:
    """Settings with a SQLite log in *directory*; *sections* are added."""
    return Settings.model_validate({"log": {"sqlite": {"path": str(directory / "sync.db")}}, **sections})


def mongodb_settings(uri: str, database: str, **sections: dict[str, Any]) -> Settings:
    """Settings with that MongoDB database; *sections* are added."""
    log = {"store": "mongodb", "mongodb": {"uri": uri, "database": database}}
    return Settings.model_validate({"log": log, **sections})
