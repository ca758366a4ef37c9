"""The shop behind the dashboard, changed over HTTP as another till would."""

from typing import Any, Self

import httpx2

from tests.access.credentials import bearer

__all__ = ["ITEM", "Shop"]

ITEM: dict[str, Any] = {"sku": "EXP-1", "name": "Express wash", "quantity": 1, "unitPrice": "9.50"}


class Shop:
    """Use as an async context manager. What it asks for has to succeed."""

    def __init__(self, url: str, *, role: str | None = None) -> None:
        """*role*: that of the till, where the server asks for it."""
        headers = bearer(role) if role else {}
        self.http = httpx2.AsyncClient(base_url=f"{url}/api/v1", trust_env=False, timeout=20, headers=headers)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.http.aclose()

    async def do(self, method: str, path: str, /, **body: Any) -> dict[str, Any]:
        """The answer to a command."""
        reply = await self.http.request(method, path, json=body)
        assert reply.status_code in (200, 201), reply.text
        answer: dict[str, Any] = reply.json()
        return answer

    async def get(self, path: str) -> dict[str, Any]:
        reply = await self.http.get(path)
        assert reply.status_code == 200, reply.text
        answer: dict[str, Any] = reply.json()
        return answer

    async def order(self, name: str, *, items: int = 1, **fields: Any) -> None:
        """A new order; initiated if it has items."""
        await self.do("POST", "/orders", orderID=name, items=[ITEM] * items, **fields)

    async def stage(self, order: str, stage: str) -> None:
        await self.do("POST", f"/orders/{order}/stage", newStage=stage)

    async def stage_of(self, order: str) -> str:
        document = (await self.get(f"/orders/{order}"))["order"]
        return str(document["stage"])

    async def orders(self) -> list[dict[str, Any]]:
        """All that a board shows."""
        orders: list[dict[str, Any]] = []
        token = ""
        while True:
            page = await self.get(f"/sync/snapshot?kinds=orders{token}")
            orders += page["orders"]
            if not page.get("pageToken"):
                return orders
            token = f"&pageToken={page['pageToken']}"

    async def moves_of(self, order: str) -> list[str]:
        """The stages it was moved to, out of the log, oldest first."""
        page = await self.get(f"/sync/poll?after=earliest&limit=1000&eventTypes=order_stage_change&orderID={order}")
        return [event["data"]["newStage"] for event in page["events"]]

    async def furnish(self, *, bays: int = 2, waiting: int = 2) -> None:
        """Bays B1, B2, ..., a queue Q, and orders W1, W2, ... that wait in it."""
        for number in range(1, bays + 1):
            await self.do("POST", "/bays", bayID=f"B{number}", name=f"Bay {number}")
        await self.do("POST", "/queues", queueID="Q", name="Express")
        for number in range(1, waiting + 1):
            await self.order(f"W{number}")
            await self.do("POST", "/queues/Q/entries", orderID=f"W{number}")
