"""A thousand readers of fifty audiences over real sockets: nobody is told anything that is for others.

Against a model that knows roles, bindings and labels, and nothing else: live, in replay after an absence, and polled.
"""

import asyncio
import json
import random
import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple
from urllib.parse import urlencode

import httpx2
import pytest

from tests.access.credentials import ACCESS, bearer, token
from tests.feed.conftest import Start
from tests.serving import Served
from tests.streams import CONTROL, eventually

READERS = 1000
STEPS = 300
AWAY = 0.4
"""The share of readers that leave in between and come back."""
ITEM = {"sku": "WASH", "name": "Wash", "quantity": 1, "unitPrice": "1.00"}
BAYS = [f"B{n:02}" for n in range(15)]
ORDERS = [f"O{n}" for n in range(5)]
USERS = [f"u{n}" for n in range(10)]
VIEW = ("view_orders", "view_bays", "view_events")
ROLES = {f"r{n:02}": VIEW if n < 14 else tuple(sorted(set(VIEW) - {VIEW[n % 3]})) for n in range(20)}
PERMISSIONS = ROLES | {"viewer": VIEW, "client": ("view_orders",)}
AUDIENCES = [
    *(f"role:{role}" for role in ROLES), *(f"user:{user}" for user in USERS), *(f"bayID={bay}" for bay in BAYS),
    *(f"orderID={order}" for order in ORDERS),
]  # fmt: skip
LIMITS = {"connects": "100000/second", "reads": "100000/second", "streams_per_address": 5000}

Told = tuple[int, str]
"""The seq of what a reader was told, and the event's type or "removed"."""


class Event(NamedTuple):
    """An event of the log as the model knows it; *before* are the document's grants before it."""

    event_type: str
    permission: str
    grants: frozenset[str] = frozenset()
    audience: frozenset[str] = frozenset()
    before: frozenset[str] = frozenset()
    is_sample: bool = False


@dataclass
class Reader(asyncio.Protocol):
    """Somebody with a token of its own, and all that its sockets ever got."""

    sub: str
    roles: tuple[str, ...]
    bound: tuple[str, ...]
    raw: bytearray = field(default_factory=bytearray)
    told: list[Told] = field(default_factory=list)
    cursor: str = "earliest"
    transport: asyncio.Transport | None = None

    def data_received(self, data: bytes) -> None:
        self.raw += data

    async def connect(self, port: int) -> None:
        """Open the stream where the last one ended."""
        loop = asyncio.get_running_loop()
        self.transport, _ = await loop.create_connection(lambda: self, "127.0.0.1", port)
        self.transport.write(
            f"GET /api/v1/sync/events HTTP/1.1\r\nHost: x\r\nLast-Event-ID: {self.cursor}\r\n"
            f"Authorization: Bearer {self.token}\r\n\r\n".encode()
        )
        await eventually(lambda: b"event: connected" in self.raw, timeout_s=30)

    def leave(self) -> None:
        """Cut the stream; what came by it is told."""
        if self.transport is None:
            return
        self.transport.abort()
        self.transport = None
        head, _, chunks = bytes(self.raw).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), head
        self.raw.clear()
        for block in unchunked(chunks).split(b"\n\n")[:-1]:
            self.cursor = self._take(block.decode()) or self.cursor

    def _take(self, block: str) -> str:
        """Note what *block* tells; the cursor in it."""
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        name, data = fields.get("event"), json.loads(fields.get("data", "{}"))
        if name is not None and name not in CONTROL:
            self.told.append(told_by(fields["id"], name, data))
        return fields.get("id", "")

    def has_come_to(self, cursor: str) -> bool:
        at = self.raw.rfind(b"\nid: ")
        return self.raw[at + 5 : self.raw.find(b"\n", at + 1)] == cursor.encode()

    @property
    def token(self) -> str:
        return token(*self.roles, sub=self.sub, bound=self.bound)

    @cached_property
    def permissions(self) -> set[str]:
        return {permission for role in self.roles for permission in PERMISSIONS[role]}

    @cached_property
    def labels(self) -> set[str]:
        return {f"user:{self.sub}", *(f"role:{role}" for role in self.roles)}

    def may_see(self, event: Event, grants: frozenset[str]) -> bool:
        """The rule, said once more and otherwise."""
        if event.permission not in self.permissions:
            return False
        if self.bound and not grants.isdisjoint(self.bound):
            return True
        return not self.labels.isdisjoint(event.audience) or not (self.bound or event.audience)

    def is_told(self, event: Event) -> str | None:
        """The event's type, "removed", or nothing."""
        if self.may_see(event, event.grants):
            return event.event_type
        return "removed" if self.may_see(event, event.before) else None


def unchunked(data: bytes) -> bytes:
    """The whole chunks in *data*, as far as they came."""
    parts, at = [], 0
    while (end := data.find(b"\r\n", at)) >= 0:
        size = int(data[at:end], 16)
        if end + 2 + size + 2 > len(data):
            break
        parts.append(data[end + 2 : end + 2 + size])
        at = end + 2 + size + 2
    return b"".join(parts)


def told_by(event_id: str, name: str, content: dict[str, Any]) -> Told:
    """What an event told, live or polled; nothing in it names who may see it."""
    seq = int(event_id.partition(".")[2])
    if name == "removed":
        assert set(content) == {"kind", "id", "version"}
    else:
        assert (content["id"], content["eventType"]) == (event_id, name)
        assert content["data"].get("n", seq) == seq
        assert not {"audience", "sample", "grants"} & set(content)
    return seq, name


def random_reader(rng: random.Random) -> Reader:
    draw = rng.random()
    if draw < 0.45:
        return Reader(rng.choice([*USERS, "nobody"]), tuple(rng.sample(sorted(ROLES), rng.choice([1, 1, 2]))), ())
    if draw < 0.6:
        return Reader(rng.choice(USERS), ("viewer",), ())
    if draw < 0.85:
        bays = tuple(f"bayID={bay}" for bay in rng.sample(BAYS, rng.choice([1, 1, 2])))
        return Reader(rng.choice(["screen", *USERS]), (rng.choice(["viewer", *ROLES]),), bays)
    return Reader("guest", (rng.choice(["client", "viewer"]),), (f"orderID={rng.choice(ORDERS)}",))


@dataclass
class Shop:
    """What happens, and what the model knows of it."""

    served: Served
    http: httpx2.AsyncClient
    rng: random.Random
    events: list[Event] = field(default_factory=list)
    places: dict[str, str | None] = field(default_factory=lambda: dict.fromkeys(ORDERS))

    async def open(self) -> None:
        """Bays and orders."""
        for bay in BAYS:
            await self._do("POST", "/bays", {"bayID": bay, "name": bay})
            self._note("bay_updated", "view_bays", f"bayID={bay}")
        for order in ORDERS:
            await self._do("POST", "/orders", {"orderID": order, "items": [ITEM]})
            self._note("order_created", "view_orders", f"orderID={order}")

    async def step(self) -> None:
        """Somebody publishes, or an order goes into a bay or leaves it."""
        if self.rng.random() < 0.9:
            await self._publish(self.rng.randint(1, 4))
        else:
            await self._move(self.rng.choice(ORDERS))

    async def _publish(self, how_many: int) -> None:
        events = []
        for _ in range(how_many):
            audience = [] if self.rng.random() < 0.05 else self.rng.sample(AUDIENCES, self.rng.randint(1, 3))
            sample = 0.5 if self.rng.random() < 0.1 else None
            named = frozenset(audience)
            grants = frozenset(label for label in named if "=" in label)
            self.events.append(Event("status_update", "view_events", grants, named, is_sample=sample is not None))
            # The entity keys that it carries are those of somebody else: they give nothing.
            event = {"eventType": "status_update", "data": {"status": "x", "n": len(self.events)}}
            event |= {"bayID": self.rng.choice(BAYS), "orderID": self.rng.choice(ORDERS)}
            events.append(event | ({"audience": audience} if audience else {}) | ({"sample": sample} if sample else {}))
        await self.served.publish(*events)

    async def _move(self, order: str) -> None:
        own, bay = f"orderID={order}", self.places[order]
        if bay is None:
            bay = self.places[order] = self.rng.choice([b for b in BAYS if b not in self.places.values()])
            await self._do("POST", f"/bays/{bay}/jobs", {"orderID": order, "jobID": f"job-{order}"})
            self._note("bay_updated", "view_bays", f"bayID={bay}")
            self._note("job_started", "view_bays", f"bayID={bay}")
            self._note("stage_change", "view_orders", own, f"bayID={bay}")
            self._note("order_stage_change", "view_orders", own, f"bayID={bay}")
            return
        await self._do("POST", f"/bays/{bay}/jobs/job-{order}/abort", {"reason": "x"})
        self._note("bay_updated", "view_bays", f"bayID={bay}")
        self._note("job_aborted", "view_bays", f"bayID={bay}")
        self._note("stage_change", "view_orders", own)
        self._note("order_stage_change", "view_orders", own, before=(own, f"bayID={bay}"))
        await self._do("PATCH", f"/bays/{bay}", {"status": "available"})
        self._note("bay_updated", "view_bays", f"bayID={bay}")
        self.places[order] = None

    def _note(self, event_type: str, permission: str, *grants: str, before: tuple[str, ...] = ()) -> None:
        self.events.append(Event(event_type, permission, frozenset(grants), before=frozenset(before)))

    async def _do(self, method: str, path: str, body: Any) -> None:
        (await self.http.request(method, f"/api/v1{path}", json=body)).raise_for_status()


async def polled(http: httpx2.AsyncClient, reader: Reader) -> list[Told]:
    """All that *reader* finds from the beginning, page by page."""
    found: list[Told] = []
    cursor = "earliest"
    while True:
        query = urlencode({"after": cursor, "limit": random.Random(cursor).randint(100, 1000)})
        reply = await http.get(f"/api/v1/sync/poll?{query}", headers={"Authorization": f"Bearer {reader.token}"})
        assert reply.status_code == 200, reply.text
        page = reply.json()
        for event in page["events"]:
            content = event["data"] if event["eventType"] == "removed" else event
            found.append(told_by(event["id"], event["eventType"], content))
        if page["upToDate"]:
            return found
        cursor = page["cursor"]


async def each(readers: list[Reader], do: Any, *, at_once: int = 50) -> None:
    """*do* for each of *readers*, some at a time."""
    waiting = iter(readers)

    async def work() -> None:
        for reader in waiting:
            await do(reader)

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(work())


@pytest.mark.alone
async def test_a_thousand_readers_of_fifty_audiences_are_told_what_is_for_them_and_nothing_else(start: Start) -> None:
    assert len(AUDIENCES) == 50
    rng = random.Random(20261121)
    readers = [random_reader(rng) for _ in range(READERS)]
    access = ACCESS | {"roles": {role: {"permissions": list(names)} for role, names in ROLES.items()}}
    # The window is small, so that much is replayed from the log.
    feed = {"heartbeat_s": 1, "window_bytes": 70_000}
    async with (
        start(access=access, limits=LIMITS, feed=feed) as served,
        httpx2.AsyncClient(base_url=served.url, timeout=60, trust_env=False) as http,
    ):
        http.headers |= bearer("admin")
        shop = Shop(served, http, rng)
        await shop.open()
        await each(readers, lambda reader: reader.connect(served.port))
        absent = rng.sample(readers, int(READERS * AWAY))
        for step in range(STEPS):
            await shop.step()
            if step % 2 == 0:
                rng.choice(absent).leave()
        await each([one for one in absent if one.transport is None], lambda reader: reader.connect(served.port))
        head = (await http.get("/api/v1/sync/poll")).json()["head"]
        assert int(head.partition(".")[2]) == len(shop.events)
        await eventually(lambda: all(reader.has_come_to(head) for reader in readers), timeout_s=60)
        assert (await served.hub()).tail.window.before > 0
        shares: list[tuple[int, int]] = []

        async def compare(reader: Reader) -> None:
            assert not re.search(rb"role:|user:", reader.raw)
            reader.leave()
            expected = [(seq, name) for seq, e in enumerate(shop.events, 1) if (name := reader.is_told(e)) is not None]
            drawn = [told for told in expected if not shop.events[told[0] - 1].is_sample]
            assert [told for told in reader.told if not shop.events[told[0] - 1].is_sample] == drawn
            assert set(reader.told) <= set(expected)
            assert await polled(http, reader) == reader.told
            shares.append((len(reader.told) - len(drawn), len(expected) - len(drawn)))

        await each(readers, compare, at_once=10)
        told, could = map(sum, zip(*shares, strict=True))
        assert 0.4 < told / could < 0.6
        assert any(name == "removed" for reader in readers for _, name in reader.told)
