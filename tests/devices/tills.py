"""Tills at ``/ws``: what they send, and what they have been told."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2

from tests.serving import Served
from tests.sockets.client import Client, socket

COLA: dict[str, Any] = {
    "name": "كولا", "price": 1000, "quantity": 2, "notes": "بارد",
    "firstOrderTime": "2026-02-03T02:25:33+03:00", "lastOrderTime": "2026-02-03T02:25:33+03:00",
}  # fmt: skip
STAMP = "2026-02-03T02:25:33+03:00"


class Office:
    """The REST routes beside the sockets."""

    def __init__(self, served: Served, headers: dict[str, str] | None = None) -> None:
        self._url = f"{served.url}/api/v1"
        self._http = httpx2.AsyncClient(trust_env=False, headers=headers, timeout=30)

    async def do(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """A command or read that has to succeed."""
        reply = await self._http.request(method, self._url + path, **({} if body is None else {"json": body}))
        assert reply.status_code in (200, 201), reply.text
        answer: dict[str, Any] = reply.json()
        return answer

    async def create(self, *device_ids: str) -> None:
        for device_id in device_ids:
            await self.do("POST", "/devices", {"deviceID": device_id})

    async def device(self, device_id: str) -> dict[str, Any]:
        found: dict[str, Any] = (await self.do("GET", f"/devices/{device_id}"))["device"]
        return found


@asynccontextmanager
async def office(served: Served, **headers: str) -> AsyncIterator[Office]:
    found = Office(served, headers)
    async with found._http:
        yield found


@asynccontextmanager
async def till(served: Served, name: str = "cashier-client-1", **more: Any) -> AsyncIterator[Client]:
    """A till that is connected, and has been told all devices."""
    async with socket(served, "/ws") as client:
        await greet(client, clientId=name, **more)
        yield client


async def greet(client: Client, **more: Any) -> dict[str, Any]:
    """Say ``connect``; the answer. The devices that follow are read too."""
    connected = await client.ask({"type": "connect", "timestamp": STAMP, **more})
    assert connected["type"] == "connected", connected
    for _ in range(connected["devices"]):
        await client.next()
    return connected


def about(message: dict[str, Any]) -> dict[str, Any]:
    """*message* without what is different each time."""
    return {
        name: value for name, value in message.items() if name not in ("timestamp", "cursor", "version", "fromVersion")
    }
