"""Writers that go on through faults, and what each of their submissions was told; then: was that the truth?"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

from sync_core.problems import OutcomeUnknown, Unavailable
from sync_server.api.submission import Submission
from sync_server.log.appender import Appender
from sync_server.log.base import EventLog
from sync_server.log.records import OutcomeKey
from tests.log.changes import Change, check_documents, said
from tests.log.writes import PATIENCE_S, TENANT, note, read_all, seqs, submission


class Journal:
    """What was told: *acknowledged* text to what it is told by (tests.log.changes.said); *refused* (503, surely not
    written); *unknown* (perhaps)."""

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
            text = f"{mark}.{number}"
            # Those with a key are sent again with it until their fate is known.
            if number % 3 == 0:
                change = Change(f"{text}c", (f"d{number % 5}",), key=OutcomeKey("anna", text))
                await self._send(appender, change, [f"{text}c"])
            elif number % 2:
                await self._send(appender, submission(note(f"{text}a"), key=text), [f"{text}a"])
            else:
                await self._send(appender, submission(note(f"{text}a"), note(f"{text}b")), [f"{text}a", f"{text}b"])

    async def _send(self, appender: Appender, write: Submission | Change, sent: list[str]) -> None:
        try:
            answers: Sequence[Any] = await appender.append(TENANT, write)
        except OutcomeUnknown:
            if write.keys and not self._stop:
                return await self._send(appender, write, sent)
            self.unknown.update(sent)
        except Unavailable:
            self.refused.update(sent)
            await asyncio.sleep(0.05)
        else:
            for text, answer in zip(sent, answers, strict=True):
                told_by = f"{write.ids[0]}@{answer}" if isinstance(write, Change) else str(answer.event_id)
                self.acknowledged[text] = told_by
            self.answered_s.append(asyncio.get_running_loop().time())
            async with self._wake:
                self._wake.notify_all()

    async def check(self, event_log: EventLog) -> None:
        """The log against what was told."""
        epoch = (await event_log.ensure(TENANT)).epoch
        events = await read_all(event_log)
        assert seqs(events) == list(range(1, len(events) + 1)), "dense"
        told_by = [said(event, epoch) for event in events]
        found = [text for _, text in told_by]
        assert len(set(found)) == len(found), "nothing doubled"
        ids = {text: name for name, text in told_by}
        assert self.acknowledged.items() <= ids.items(), "nothing acknowledged lost or moved"
        # A keyed one may have been refused when it was sent again after its first try had been unknown.
        assert not {text for text in self.refused if self._keyless(text)} & ids.keys(), "what was refused is not there"
        assert ids.keys() <= self.acknowledged.keys() | self.unknown | self.refused
        for first, second in pairwise(found):
            assert not second.endswith("b") or first == second[:-1] + "a", "whole batches"
        await check_documents(event_log)

    @staticmethod
    def _keyless(text: str) -> bool:
        number = int(text[:-1].rsplit(".", 1)[1])
        return number % 3 != 0 and number % 2 == 0
