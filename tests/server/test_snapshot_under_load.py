"""A snapshot taken while the shop is at work, and the feed from its cursor: together what there is at the end.

Both for a reader of everything and for one that asks for a queue and a bay only, and is told what leaves them.
"""

import asyncio
import os
import random
from pathlib import Path
from typing import Any

import httpx2
import pytest

from sync_core.domain.catalog import DOMAIN
from tests.fixtures import MongoDatabase
from tests.server.shop import API, ITEM
from tests.serving import mongodb_settings, serving, sqlite_settings

ROUNDS = {"sqlite": 100, "mongodb": 15}
ORDERS = [f"order-{n}" for n in range(10)]
PLACES = {"queueID": "queue-1", "bayID": "bay-1"}


class Replica:
    """What a reader holds: documents by kind and id, the newest version of each."""

    def __init__(self, filters: dict[str, str]) -> None:
        self.filters = filters
        self._known: dict[tuple[str, str], tuple[int, dict[str, Any] | None]] = {}

    def put(self, kind: str, document_id: str, version: int, document: dict[str, Any] | None) -> None:
        known = self._known.get((kind, document_id), (0, None))
        if version > known[0]:
            self._known[kind, document_id] = (version, document)

    def take(self, event: dict[str, Any]) -> None:
        """Apply one event of the feed."""
        data = event["data"]
        if event["eventType"] == "removed":
            self.put(data["kind"], data["id"], data["version"], None)
        elif "version" in event:
            (kind,) = set(DOMAIN.kinds) & set(data)
            document = None if data.get("deleted") else data[kind]
            self.put(kind, data[kind][DOMAIN.kinds[kind].id_key], event["version"], document)

    @property
    def documents(self) -> dict[tuple[str, str], dict[str, Any]]:
        return {ref: document for ref, (_, document) in self._known.items() if document is not None}


async def snapshot(client: httpx2.AsyncClient, replica: Replica, rng: random.Random) -> str:
    """Fill *replica* page by page; the cursor behind which the feed goes on."""
    parameters: dict[str, Any] = {**replica.filters, "limit": rng.randint(1, 5)}
    while True:
        page = (await client.get(f"{API}/sync/snapshot", params=parameters)).json()
        for kind in DOMAIN.kinds.values():
            for document in page.get(kind.plural, ()):
                replica.put(kind.kind, document[kind.id_key], document["version"], document)
        if "pageToken" not in page:
            return str(page["cursor"])
        parameters["pageToken"] = page["pageToken"]
        await asyncio.sleep(rng.random() * 0.002)  # lets the writers in between


async def follow(client: httpx2.AsyncClient, replica: Replica, cursor: str) -> None:
    """Apply what lies behind *cursor*, to the end."""
    while True:
        parameters = {**replica.filters, "after": cursor, "limit": 50}
        page = (await client.get(f"{API}/sync/poll", params=parameters)).json()
        for event in page["events"]:
            replica.take(event)
        cursor = page["cursor"]
        if page["upToDate"]:
            return


async def work(client: httpx2.AsyncClient, rng: random.Random, count: int) -> None:
    """*count* commands at random; what is refused is refused."""
    for _ in range(count):
        order, queue = rng.choice(ORDERS), f"queue-{rng.randint(1, 2)}"
        bay = f"bay-{rng.randint(1, 2)}"
        choices: list[tuple[str, str, dict[str, Any] | None]] = [
            ("POST", "/orders", {"orderID": order, "items": [ITEM]}),
            ("PATCH", f"/orders/{order}", {"notes": str(rng.random())}),
            ("DELETE", f"/orders/{order}", None),
            ("POST", f"/queues/{queue}/entries", {"orderID": order}),
            ("DELETE", f"/queues/{queue}/entries/{order}", None),
            ("POST", f"/queues/{queue}/call-next", {"bayID": bay, "jobID": "job"}),
            ("POST", f"/bays/{bay}/jobs/job/abort", {"reason": "x"}),
            ("POST", f"/bays/{bay}/jobs/job/finish", None),
            ("PATCH", f"/bays/{bay}", {"status": "available"}),
        ]
        method, path, body = rng.choice(choices)
        reply = await client.request(method, API + path, json=body)
        assert reply.status_code in (200, 201, 404, 409, 422), reply.text


async def stored(client: httpx2.AsyncClient, filters: dict[str, str]) -> dict[tuple[str, str], dict[str, Any]]:
    """All documents as lists give them."""
    replica = Replica(filters)
    for kind in DOMAIN.kinds.values():
        for document in (await client.get(f"{API}/{kind.path()}", params=filters)).json()[kind.plural]:
            replica.put(kind.kind, document[kind.id_key], document["version"], document)
    return replica.documents


async def shop_day(client: httpx2.AsyncClient, *, rounds: int, seed: int) -> None:
    """Rounds of work, each with readers that come in the middle of it."""
    for number in (1, 2):
        await client.post(f"{API}/queues", json={"queueID": f"queue-{number}", "name": "Q"})
        await client.post(f"{API}/bays", json={"bayID": f"bay-{number}", "name": "B"})
    for number in range(rounds):
        rng = random.Random(f"{seed}-{number}")
        replicas = [Replica({}), Replica(PLACES)]

        async def read(replica: Replica, rng: random.Random = rng) -> str:
            await asyncio.sleep(rng.random() * 0.02)
            return await snapshot(client, replica, rng)

        *cursors, _, _, _ = await asyncio.gather(
            *map(read, replicas), *(work(client, random.Random(rng.random()), rng.randint(2, 6)) for _ in range(3))
        )
        for replica, cursor in zip(replicas, cursors, strict=True):
            await follow(client, replica, str(cursor))
            wanted = await stored(client, replica.filters)
            assert replica.documents == wanted, f"seed {seed}, round {number}, {replica.filters}"


@pytest.mark.parametrize("store", ["sqlite", "mongodb"])
async def test_a_snapshot_under_load_and_the_feed_behind_it_are_what_there_is(
    store: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    seed = int(os.environ.get("SYNC_TEST_SEED", random.randrange(10**6)))
    if store == "sqlite":
        settings = sqlite_settings(tmp_path)
    else:
        database: MongoDatabase = request.getfixturevalue("mongodb_database")
        settings = mongodb_settings(database.uri, database.name)
    async with (
        serving(settings) as served,
        httpx2.AsyncClient(base_url=served.url, trust_env=False, timeout=30) as client,
    ):
        await shop_day(client, rounds=int(os.environ.get("SYNC_TEST_ROUNDS", ROUNDS[store])), seed=seed)
