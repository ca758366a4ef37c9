"""The primary of three nodes is killed under load."""

import asyncio
from itertools import pairwise

from sync_server.log.base import DocumentPage, LogError, Selection
from sync_server.log.mongo import MongoLog
from sync_server.log.records import StoredEvent
from tests.log.changes import held, told
from tests.log.conftest import OpenMongo, rounds
from tests.log.journal import Journal
from tests.log.writes import TENANT, make_appender, read_all
from tests.mongod import ReplicaSet

RESUMES_WITHIN_S = 2.0
"""Of the moment at which there is a primary again: 2 to 3 s after the kill, and 2 more where a vote was split. Then
the node that is left looks, once a second, for one to copy from: before that there is no majority."""
NOTICED_AFTER_S = 4.0
"""An election that takes longer may outlast an append's five seconds."""


class Follower:
    """A reader that keeps what it was shown: events, and whole pages of documents."""

    def __init__(self) -> None:
        self.shown: list[StoredEvent] = []
        self.pages: list[DocumentPage] = []

    async def follow(self, event_log: MongoLog) -> None:
        while True:
            try:
                events = await event_log.read(TENANT, after=len(self.shown), limit=1000)
                self.shown += events
                page = await event_log.documents(TENANT, Selection(("order",)), after=None, limit=1000)
                assert page.bounds.head >= len(self.shown), "documents are not older than the events shown"
                self.pages.append(page)
            except LogError:
                await asyncio.sleep(0.05)

    def check(self, events: list[StoredEvent]) -> None:
        """Nothing that was shown was taken back."""
        assert self.shown == events[: len(self.shown)]
        states = [told([])]
        for event in events:
            states.append(told([event], states[-1]))
        for page in self.pages:
            assert held(page.documents) == states[page.bounds.head]


async def test_a_killed_primary_is_a_pause_and_nothing_more(replica_set: ReplicaSet, open_mongo: OpenMongo) -> None:
    logs = [await open_mongo(replica_set.uri, "failover", driver) for driver in ("pymongo", "motor")]
    await logs[0].ensure(TENANT)
    journal, follower = Journal(), Follower()
    elections_s = []
    following = asyncio.create_task(follower.follow(await open_mongo(replica_set.uri, "failover")))
    async with journal.writing([make_appender(event_log) for event_log in logs], tasks=4):
        for _ in range(rounds("KILL_ROUNDS", 1)):
            await journal.more(200)
            primary = await asyncio.to_thread(replica_set.primary)
            killed_s = asyncio.get_running_loop().time()
            await asyncio.to_thread(primary.kill)
            await asyncio.to_thread(replica_set.wait_primary)
            elections_s.append(asyncio.get_running_loop().time() - killed_s)
            await journal.more(200)
            answers_s = [s for s in journal.answered_s if s > killed_s - 1]
            paused_s = max(later - earlier for earlier, later in pairwise(answers_s))
            assert paused_s < elections_s[-1] + RESUMES_WITHIN_S
            await asyncio.to_thread(primary.start)
            await asyncio.to_thread(replica_set.wait_members)
        await journal.more(100)
    assert not following.done(), following
    following.cancel()
    await journal.check(logs[0])
    follower.check(await read_all(logs[0]))
    assert len(follower.shown) > 200
    assert len(follower.pages) > 20
    if max(elections_s) < NOTICED_AFTER_S:
        assert not journal.refused | journal.unknown, "no caller heard of it"
