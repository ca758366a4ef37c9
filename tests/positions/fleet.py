"""What the tests of positions share: vehicles in a running application, and who drives them."""

import json
from typing import Any

import httpx2

from tests.access.credentials import bearer
from tests.server.shop import API, new_vin
from tests.serving import Served

OFFICE = bearer("dispatcher", sub="olga")


class Fleet:
    """A client of the API with the rights of *headers*. ``do`` expects success."""

    def __init__(self, http: httpx2.AsyncClient) -> None:
        self.http = http

    async def do(self, method: str, path: str, body: Any = None, *, headers: dict[str, str] | None = None) -> Any:
        reply = await self.call(method, path, body, headers=headers)
        assert reply.is_success, reply.text
        return reply.json()

    async def call(
        self, method: str, path: str, body: Any = None, *, headers: dict[str, str] | None = None
    ) -> httpx2.Response:
        return await self.http.request(method, API + path, json=body, headers=headers)

    async def vehicle(self, vehicle_id: str, *, driver: str | None = None) -> None:
        """A vehicle, driven by *driver*, who is made for it."""
        await self.do(
            "POST",
            "/vehicles",
            {"vehicleID": vehicle_id, "vin": new_vin(), "plateNumber": vehicle_id, "make": "x", "model": "y",
             "fuelNorm": "9.5"},
        )  # fmt: skip
        if driver is not None:
            await self.do("POST", "/drivers", {"userID": driver, "name": driver})
            await self.do("POST", f"/vehicles/{vehicle_id}/driver", {"driverID": driver})

    async def move(self, vehicle_id: str, lon: float, lat: float = 0.0, **more: Any) -> None:
        """Say where a vehicle is."""
        await self.do("POST", f"/vehicles/{vehicle_id}/location", {"lon": lon, "lat": lat, **more})


async def logged(served: Served) -> list[tuple[str, float]]:
    """Vehicle and longitude of the positions in the log; a page of a poll would thin them."""
    events = await served.application.event_log.read("default", after=0, limit=1000)
    positions = (json.loads("{" + event.tail) for event in events if event.event_type == "vehicle_location")
    return [(position["vehicleID"], position["data"]["lon"]) for position in positions]


def fleet(served: Served, headers: dict[str, str] | None = None) -> Fleet:
    """To be closed with ``await fleet.http.aclose()``, or used with its tasks done."""
    return Fleet(httpx2.AsyncClient(base_url=served.url, headers=headers, trust_env=False, timeout=30))
