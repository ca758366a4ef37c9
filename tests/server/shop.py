"""What the tests of commands share: a shop to be changed over HTTP, and what its answers and its feed have to be."""

import itertools
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

import httpx2

from tests.server.publishing import POLL, head, read

API = "/api/v1"
ITEM: dict[str, Any] = {"sku": "WASH-L", "name": "Large wash", "quantity": 2, "unitPrice": "12.50"}
TRANSPORT: dict[str, Any] = {
    "customerID": "acme",
    "pickup": {"type": "Point", "coordinates": [35.5018, 33.8938]},
    "delivery": {"type": "Point", "coordinates": [35.8497, 34.4367]},
    "price": "120",
}
_VIN_LETTERS = "0123456789ABCDEFGHJKLMNPRSTUVWXYZ"
_numbers = itertools.count(1)


def new_id(prefix: str) -> str:
    """An id that no other test has."""
    return f"{prefix}-{next(_numbers)}-{uuid.uuid4().hex[:6]}"


def new_vin() -> str:
    """A VIN that no other test has."""
    number, letters = uuid.uuid4().int, []
    for _ in range(17):
        number, digit = divmod(number, len(_VIN_LETTERS))
        letters.append(_VIN_LETTERS[digit])
    return "".join(letters)


class Shop:
    """A client of the API. ``do`` expects success; ``call`` gives the reply as it is."""

    def __init__(self, base_url: str) -> None:
        self.http = httpx2.Client(base_url=base_url, timeout=60, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def call(
        self, method: str, path: str, body: Any = None, *, headers: Mapping[str, str] | None = None
    ) -> httpx2.Response:
        """The reply to a command or read below /api/v1; *body* as JSON, None for none."""
        if body is None:
            return self.http.request(method, API + path, headers=headers)
        return self.http.request(method, API + path, json=body, headers=headers)

    def do(self, method: str, path: str, body: Any = None, **headers: str) -> dict[str, Any]:
        """The answer to a command that has to succeed."""
        reply = self.call(method, path, body, headers=headers)
        assert reply.status_code in (200, 201), reply.text
        answer: dict[str, Any] = reply.json()
        return answer

    def get(self, path: str, **parameters: Any) -> dict[str, Any]:
        """What a read gives that has to succeed."""
        reply = self.http.get(API + path, params=parameters)
        assert reply.status_code == 200, reply.text
        found: dict[str, Any] = reply.json()
        return found

    def vehicle(self, **more: Any) -> str:
        """A new vehicle with a VIN and a plate that no other has."""
        given = {
            "vin": new_vin(),
            "plateNumber": new_id("B")[:28],
            "make": "MB",
            "model": "Sprinter",
            "fuelNorm": "9.5",
        }
        return str(self.do("POST", "/vehicles", given | more)["vehicle"]["vehicleID"])

    def driver(self) -> str:
        """A new driver who drives nothing."""
        return str(self.do("POST", "/drivers", {"userID": new_id("driver"), "name": "Dan"})["driver"]["userID"])

    def order(self, *, items: int = 1, **fields: Any) -> str:
        """A new order's id; initiated if it has items."""
        body = {"orderID": new_id("order"), "items": [ITEM] * items, **fields}
        return str(self.do("POST", "/orders", body)["order"]["orderID"])

    def queue(self) -> str:
        return str(self.do("POST", "/queues", {"queueID": new_id("queue"), "name": "Hall"})["queue"]["queueID"])

    def bay(self) -> str:
        return str(self.do("POST", "/bays", {"bayID": new_id("bay"), "name": "Bay 1"})["bay"]["bayID"])

    def waiting(self, queue: str, count: int = 1) -> list[str]:
        """Orders that wait in *queue*."""
        orders = [self.order() for _ in range(count)]
        for order in orders:
            self.do("POST", f"/queues/{queue}/entries", {"orderID": order})
        return orders

    def job(self, bay: str, order: str | None = None) -> str:
        """A job that has been started in *bay*."""
        body = {"orderID": order or self.order(), "jobID": new_id("job")}
        return str(self.do("POST", f"/bays/{bay}/jobs", body)["bay"]["job"]["jobID"])

    def head(self) -> str:
        return head(self.http)

    def events(self, *, after: str, **parameters: str) -> list[dict[str, Any]]:
        """All envelopes behind *after*."""
        return read(self.http, after=after, **parameters)

    @contextmanager
    def emitting(self, *event_types: str) -> Iterator[list[dict[str, Any]]]:
        """Within the block just these events come, in this order; they are in the list afterwards."""
        before = self.head()
        events: list[dict[str, Any]] = []
        yield events
        events += self.events(after=before)
        assert [event["eventType"] for event in events] == list(event_types)

    def poll(self, **parameters: str) -> httpx2.Response:
        return self.http.get(POLL, params=parameters)
