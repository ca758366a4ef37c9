"""Publishers and followers that outlive the server they talk to, and remember what they were told."""

import asyncio
import json
import random
import uuid
from typing import Any

import httpx2

from tests.streams import seqs, stream

__all__ = ["Follower", "Publisher", "assert_nothing_lost"]


class Follower:
    """Reads the stream from the beginning and comes back with its last id whenever that breaks."""

    def __init__(self, port: int, **parameters: str) -> None:
        self._port = port
        self._parameters = parameters
        self.cursor = "earliest"
        self.envelopes: list[dict[str, Any]] = []
        self.resets: list[dict[str, Any]] = []
        self.lives = 0

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                async with stream(self._port, last_event_id=self.cursor, **self._parameters) as opened:
                    if opened.status == 200:
                        self.lives += 1
                        await self._read(opened)
            except (OSError, asyncio.IncompleteReadError, TimeoutError):
                pass
            await asyncio.sleep(random.uniform(0.01, 0.05))

    async def _read(self, opened: Any) -> None:
        while True:
            event = await opened.next(timeout_s=60)
            if event is None:
                return
            self.cursor = event.id
            if event.event == "reset":
                self.resets.append(json.loads(event.data))
            elif event.event not in ("connected", "caught_up", "heartbeat", "goodbye"):
                self.envelopes.append(json.loads(event.data))

    def has(self, event_id: str) -> bool:
        """Whether that event has come."""
        return bool(self.envelopes) and any(e["id"] == event_id for e in reversed(self.envelopes))


class Publisher:
    """Publishes batches one after the other, each event with a key, and repeats a batch until it is answered."""

    def __init__(self, url: str, name: str, *, batch: int = 5) -> None:
        self._url = url
        self._name = name
        self._batch = batch
        self.acknowledged: dict[str, str] = {}
        """Key to id, as answered."""
        self.repeats = 0
        self.longest_stall_s = 0.0
        self.stopping = False

    async def run(self) -> None:
        """Until ``stopping`` is set; then it finishes the batch in hand."""
        loop = asyncio.get_running_loop()
        async with httpx2.AsyncClient(base_url=self._url, timeout=20, trust_env=False) as client:
            answered_s = loop.time()
            while not self.stopping:
                events = [self._event() for _ in range(self._batch)]
                while not await self._post(client, events):
                    self.repeats += 1
                    await asyncio.sleep(random.uniform(0.01, 0.05))
                self.longest_stall_s = max(self.longest_stall_s, loop.time() - answered_s)
                answered_s = loop.time()

    def _event(self) -> dict[str, Any]:
        key = f"{self._name}-{uuid.uuid4().hex}"
        return {"eventType": "stage_change", "data": {"newStage": "x", "key": key}, "orderID": self._name, "key": key}

    async def _post(self, client: httpx2.AsyncClient, events: list[dict[str, Any]]) -> bool:
        try:
            reply = await client.post("/api/v1/sync/events", json={"events": events})
        except httpx2.TransportError:
            return False
        if reply.status_code == 503:
            assert "retry-after" in reply.headers
            return False
        assert reply.status_code == 201, reply.text
        for event, receipt in zip(events, reply.json()["events"], strict=True):
            self.acknowledged[event["key"]] = receipt["id"]
        return True


def assert_nothing_lost(publishers: list[Publisher], followers: list[Follower]) -> None:
    """Every acknowledged event is there, under its id, once; every follower saw each once, in order."""
    acknowledged = {key: event_id for publisher in publishers for key, event_id in publisher.acknowledged.items()}
    assert acknowledged
    for follower in followers:
        assert follower.resets == []
        numbers = seqs(follower.envelopes)
        assert numbers == list(range(1, len(numbers) + 1))
        by_key = {e["data"]["key"]: e["id"] for e in follower.envelopes}
        assert len(by_key) == len(follower.envelopes), "an event is in the log twice"
        assert {key: by_key.get(key) for key in acknowledged} == acknowledged
