"""Tills that give commands to servers that are killed under them, and what has to be true afterwards."""

import asyncio
import random
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import httpx2

from sync_core.cursor import Cursor
from sync_core.domain.catalog import DOMAIN

__all__ = [
    "Request",
    "Till",
    "Told",
    "assert_each_took_effect_once",
    "assert_places_agree",
    "assert_repeats_are_told_the_same",
    "open_shop",
    "replayed",
    "stored",
]

API = "/api/v1"
ORDERS = [f"order-{n}" for n in range(12)]
QUEUES = ["queue-1", "queue-2"]
BAYS = ["bay-1", "bay-2", "bay-3"]
ITEM = {"sku": "WASH-L", "name": "Large wash", "quantity": 2, "unitPrice": "12.50"}
DECIDED = frozenset({200, 201, 409, 422})
"""Statuses that are kept with the key. A 404 is not, but is an answer too."""

Documents = dict[tuple[str, str], dict[str, Any]]


class Request(NamedTuple):
    """A command below /api/v1; *if_match* "" for none."""

    method: str
    path: str
    body: dict[str, Any] | None = None
    if_match: str = ""


@dataclass(slots=True)
class Told:
    """A command and what its till was told. *sends* counts the requests that it took."""

    request: Request
    status: int = 0
    content: bytes = b""
    sends: int = 0
    answer: dict[str, Any] = field(default_factory=dict)


class Till:
    """Gives commands at random to one of *urls*, each with a key, and repeats each until it is answered.

    Some it sends twice at the same moment. The instance that it says it is, is the command's key: so every event
    tells which command made it.
    """

    def __init__(self, urls: Sequence[str], rng: random.Random) -> None:
        self._urls = urls
        self._rng = rng
        self.told: dict[str, Told] = {}
        self.stopping = False

    async def run(self) -> None:
        """Until ``stopping`` is set; then it finishes the command in hand."""
        async with httpx2.AsyncClient(timeout=20, trust_env=False) as client:
            while not self.stopping:
                key, told = str(uuid.uuid4()), Told(_request(self._rng))
                while not await self._try(client, key, told):
                    await asyncio.sleep(self._rng.uniform(0.02, 0.1))
                self.told[key] = told

    async def _try(self, client: httpx2.AsyncClient, key: str, told: Told) -> bool:
        """Send it; whether it has been answered."""
        at_once = 2 if self._rng.random() < 0.15 else 1
        told.sends += at_once
        urls = [self._rng.choice(self._urls) for _ in range(at_once)]
        replies = await asyncio.gather(*(_send(client, url, key, told.request) for url in urls))
        decided = [reply for reply in replies if reply is not None and reply.status_code in DECIDED]
        assert len({(reply.status_code, reply.content) for reply in decided}) <= 1, "one key, two answers"
        if not decided and not all(reply is not None and reply.status_code == 404 for reply in replies):
            return False
        reply = next(iter(decided), replies[0])
        assert reply is not None
        told.status, told.content, told.answer = reply.status_code, reply.content, reply.json()
        return True


async def _send(client: httpx2.AsyncClient, url: str, key: str, request: Request) -> httpx2.Response | None:
    """The reply; None where the server was gone, or does not know what became of it."""
    headers = {"Idempotency-Key": key, "X-Client-ID": key}
    if request.if_match:
        headers["If-Match"] = request.if_match
    try:
        reply = await client.request(request.method, url + API + request.path, json=request.body, headers=headers)
    except httpx2.TransportError:
        return None
    if reply.status_code == 503:
        assert "retry-after" in reply.headers
        return None
    assert reply.status_code in DECIDED | {404}, reply.text
    return reply


def _request(rng: random.Random) -> Request:
    """One of the commands, on documents that all tills share.

    Not report_progress: of its events only the newest is promised, and here every one is counted.
    """
    order, queue, bay = rng.choice(ORDERS), rng.choice(QUEUES), rng.choice(BAYS)
    if_match = f'"{rng.randint(1, 9)}"' if rng.random() < 0.1 else ""
    return rng.choice(
        [
            Request("POST", "/orders", {"orderID": order, "items": [ITEM]}),
            Request("POST", "/orders", {"items": [], "notes": "Σ"}),
            Request("PATCH", f"/orders/{order}", {"notes": str(rng.random())}, if_match),
            Request("POST", f"/orders/{order}/status", {"status": str(rng.random())}, if_match),
            Request("POST", f"/orders/{order}/payment", {"status": "paid", "amount": "25.00"}),
            Request("POST", f"/orders/{order}/stage", {"newStage": rng.choice(["in_progress", "cancelled"])}),
            Request("DELETE", f"/orders/{order}", None, if_match),
            Request("POST", f"/queues/{queue}/entries", {"orderID": order, "priority": rng.randint(0, 2)}),
            Request("DELETE", f"/queues/{queue}/entries/{order}"),
            Request("POST", f"/queues/{queue}/call-next", {"bayID": bay, "jobID": "job"}),
            Request("POST", f"/bays/{bay}/jobs", {"orderID": order, "jobID": "job"}),
            Request("POST", f"/bays/{bay}/jobs/job/abort", {"reason": "power cut"}),
            Request("POST", f"/bays/{bay}/jobs/job/finish"),
            Request("PATCH", f"/bays/{bay}", {"status": "available"}),
            Request("PATCH", f"/bays/{bay}", {"status": "available"}),
            Request("DELETE", f"/bays/{bay}"),
            Request("POST", "/bays", {"bayID": bay, "name": "Bay"}),
        ]
    )


async def open_shop(url: str) -> None:
    """The queues and bays that the tills count on."""
    async with httpx2.AsyncClient(base_url=url, timeout=20, trust_env=False) as client:
        for queue in QUEUES:
            (await client.post(f"{API}/queues", json={"queueID": queue, "name": "Queue"})).raise_for_status()
        for bay in BAYS:
            (await client.post(f"{API}/bays", json={"bayID": bay, "name": "Bay"})).raise_for_status()


def replayed(envelopes: Iterable[Mapping[str, Any]]) -> Documents:
    """The documents that a reader of *envelopes* holds: of each the newest version."""
    held: dict[tuple[str, str], tuple[int, dict[str, Any] | None]] = {}
    for envelope in envelopes:
        told = _document_of(envelope)
        if told is not None and told[1] > held.get(told[0], (0, None))[0]:
            held[told[0]] = told[1:]
    return {ref: document for ref, (_, document) in held.items() if document is not None}


def _document_of(envelope: Mapping[str, Any]) -> tuple[tuple[str, str], int, dict[str, Any] | None] | None:
    """Which document an event tells of, its version, and what it is now (None: gone from there)."""
    if "version" not in envelope:
        return None
    if "eventType" not in envelope:  # what a stream says of it under `event: removed`
        return (envelope["kind"], envelope["id"]), envelope["version"], None
    data = envelope["data"]
    (kind,) = DOMAIN.kinds.keys() & data.keys()
    ref = (kind, data[kind][DOMAIN.kinds[kind].id_key])
    return ref, envelope["version"], None if data.get("deleted") else data[kind]


async def stored(url: str, filters: Mapping[str, str]) -> Documents:
    """All documents as the lists give them, page by page."""
    found: Documents = {}
    async with httpx2.AsyncClient(base_url=url, timeout=20, trust_env=False) as client:
        for kind in DOMAIN.kinds.values():
            parameters = {**filters, "limit": "100"}
            while True:
                page = (await client.get(f"{API}/{kind.path()}", params=parameters)).raise_for_status().json()
                found |= {(kind.kind, document[kind.id_key]): document for document in page[kind.plural]}
                if "nextPageToken" not in page:
                    break
                parameters["pageToken"] = page["nextPageToken"]
    return found


def assert_each_took_effect_once(tills: Iterable[Till], envelopes: Sequence[Mapping[str, Any]]) -> None:
    """*envelopes* is the log. What was answered with success made one run of events, which carry the answer's
    documents and end at its cursor; what was refused made none."""
    events = defaultdict(list)
    for envelope in envelopes:
        if "clientID" in envelope:
            events[envelope["clientID"]].append(envelope)
    told = {key: one for till in tills for key, one in till.told.items()}
    assert events.keys() <= told.keys(), "an event of a command that nobody gave"
    for key, one in told.items():
        made = events.get(key, [])
        if one.status >= 300:
            assert made == [], f"refused, and done all the same: {one}"
            continue
        seqs = [Cursor.parse(envelope["id"]).seq for envelope in made]
        end = Cursor.parse(one.answer["cursor"]).seq
        assert seqs == list(range(end - len(seqs) + 1, end + 1)), f"not just once: {seqs} {one}"
        carried = {(ref, version): document for ref, version, document in filter(None, map(_document_of, made))}
        assert carried == _documents_of(one.answer), f"told another thing than it did: {one}"


def _documents_of(answer: Mapping[str, Any]) -> dict[tuple[tuple[str, str], int], dict[str, Any] | None]:
    """The documents of a command's answer by ref and version; None for one that it has deleted."""
    found: dict[tuple[tuple[str, str], int], dict[str, Any] | None] = {}
    for kind in DOMAIN.kinds.values():
        for document in answer.get(kind.plural, [answer[kind.kind]] if kind.kind in answer else []):
            gone = document.get("deleted")
            found[(kind.kind, document[kind.id_key]), document["version"]] = None if gone else document
    return found


async def assert_repeats_are_told_the_same(url: str, tills: Iterable[Till], *, sample: int) -> None:
    """A *sample* of what was decided, sent again with its key, gets the answer that it got."""
    decided = [(key, one) for till in tills for key, one in till.told.items() if one.status in DECIDED]
    async with httpx2.AsyncClient(timeout=20, trust_env=False) as client:
        for key, one in random.sample(decided, min(sample, len(decided))):
            reply = await _send(client, url, key, one.request)
            assert reply is not None
            assert (reply.status_code, reply.content) == (one.status, one.content)
            assert reply.headers["idempotency-replayed"] == "true"
            fate = (await client.get(f"{url}{API}/commands/{key}")).json()
            assert fate["state"] == ("applied" if one.status < 300 else "rejected")


def assert_places_agree(documents: Documents) -> None:
    """What commands change together has changed together: orders, the queues they wait in, the bays they are in."""
    waiting = Counter((e["orderID"], q["queueID"]) for (kind, _), q in documents.items() if kind == "queue"
                      for e in q["entries"])  # fmt: skip
    washed = Counter((b["job"]["orderID"], b["bayID"]) for (kind, _), b in documents.items() if "job" in b)
    orders = [document for (kind, _), document in documents.items() if kind == "order"]
    assert waiting == Counter((o["orderID"], o["queueID"]) for o in orders if "queueID" in o)
    assert washed == Counter((o["orderID"], o["bayID"]) for o in orders if "bayID" in o)
    assert all(o["stage"] == "initiated" for o in orders if "queueID" in o)
    assert all(o["stage"] == "in_progress" for o in orders if "bayID" in o)
    for (kind, _), document in documents.items():
        assert kind != "bay" or (document["status"] == "occupied") == ("job" in document)
