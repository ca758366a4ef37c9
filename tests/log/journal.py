"""Writers that go on through faults, and what each of their submissions was told; then: was that the truth?"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from sync_core.problems import OutcomeUnknown, Unavailable
from sync_server.log.appender import Appender
from sync_server.log.base import EventLog
from tests.log.writes import PATIENCE_S, TENANT, note, read_all, seqs, submission, text_of


class Journal:
    """What was told: *acknowledged* text to id; *refused* (503, surely not written); *unknown* (perhaps)."""

    def __init__(self) -> None:
        self.acknowledged: dict[str, str] = {}
        self.answered_s: list[float] = []
        self.refused: set[str] = set()
        self.unknown: set[str] = set()
        self._stop = False
        self._wake = asyncio.Condition()

    @asynccontextmanager
    async def writing(self, appenders: Sequence[Appender], *, tasks: int) -> AsyncIterator[None]:
        """Write with that many *tasks* per appender while the block runs."""
        async with asyncio.TaskGroup() as group:
            for number, appender in enumerate(appenders):
                for task in range(tasks):
                    group.create_task(self._write(appender, f"{number}.{task}"))
            try:
                yield
            finally:
                self._stop = True
        for appender in appenders:
            await appender.aclose()

    async def more(self, count: int) -> None:
        """Returns when that many further events were acknowledged."""
        goal = len(self.acknowledged) + count
        async with asyncio.timeout(PATIENCE_S), self._wake:
            await self._wake.wait_for(lambda: len(self.acknowledged) >= goal)

    async def _write(self, appender: Appender, mark: str) -> None:
        number = 0
        while not self._stop:
            number += 1
            pair = [f"{mark}.{number}{half}" for half in "ab"]
            # Every other one has a key, and is sent again with it until its fate is known.
            key = pair[0] if number % 2 else None
            await self._send(appender, pair, key)

    async def _send(self, appender: Appender, pair: list[str], key: str | None) -> None:
        write = submission(note(pair[0]), key=key) if key else submission(*map(note, pair))
        sent = pair[:1] if key else pair
        try:
            receipts = await appender.append(TENANT, write)
        except OutcomeUnknown:
            if key is not None and not self._stop:
                return await self._send(appender, pair, key)
            self.unknown.update(sent)
        except Unavailable:
            self.refused.update(sent)
            await asyncio.sleep(0.05)
        else:
            self.acknowledged.update((text, str(r.event_id)) for text, r in zip(sent, receipts, strict=True))
            self.answered_s.append(asyncio.get_running_loop().time())
            async with self._wake:
                self._wake.notify_all()

    async def check(self, event_log: EventLog) -> None:
        """The log against what was told."""
        epoch = (await event_log.ensure(TENANT)).epoch
        events = await read_all(event_log)
        assert seqs(events) == list(range(1, len(events) + 1)), "dense"
        found = [text_of(event) for event in events]
        assert len(set(found)) == len(found), "nothing doubled"
        ids = {text: f"{epoch}.{seq}" for seq, text in enumerate(found, 1)}
        assert self.acknowledged.items() <= ids.items(), "nothing acknowledged lost or moved"
        # A keyed one may have been refused when it was sent again after its first try had been unknown.
        assert not {text for text in self.refused if self._pairs(text)} & ids.keys(), "what was refused is not there"
        assert ids.keys() <= self.acknowledged.keys() | self.unknown | self.refused
        for text in ids:
            if text.endswith("b"):
                assert ids[text[:-1] + "a"].split(".")[1] == str(int(ids[text].split(".")[1]) - 1), "whole batches"

    @staticmethod
    def _pairs(text: str) -> bool:
        return int(text[:-1].rsplit(".", 1)[1]) % 2 == 0
