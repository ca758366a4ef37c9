"""The primary of three nodes is killed under load."""

import asyncio
from itertools import pairwise

from sync_server.log.base import LogError
from sync_server.log.mongo import MongoLog
from sync_server.log.records import StoredEvent
from tests.log.conftest import OpenMongo, rounds
from tests.log.journal import Journal
from tests.log.writes import TENANT, make_appender, read_all
from tests.mongod import ReplicaSet

RESUMES_WITHIN_S = 4.0


class Follower:
    """A reader that keeps what it was shown."""

    def __init__(self) -> None:
        self.shown: list[StoredEvent] = []

    async def follow(self, event_log: MongoLog) -> None:
        while True:
            try:
                self.shown += await event_log.read(TENANT, after=len(self.shown), limit=1000)
            except LogError:
                await asyncio.sleep(0.05)


async def test_a_killed_primary_is_a_pause_and_nothing_more(replica_set: ReplicaSet, open_mongo: OpenMongo) -> None:
    logs = [await open_mongo(replica_set.uri, "failover", driver) for driver in ("pymongo", "motor")]
    await logs[0].ensure(TENANT)
    journal, follower = Journal(), Follower()
    following = asyncio.create_task(follower.follow(await open_mongo(replica_set.uri, "failover")))
    async with journal.writing([make_appender(event_log) for event_log in logs], tasks=4):
        for _ in range(rounds("KILL_ROUNDS", 1)):
            await journal.more(200)
            primary = await asyncio.to_thread(replica_set.primary)
            killed_s = asyncio.get_running_loop().time()
            await asyncio.to_thread(primary.kill)
            await journal.more(200)
            answers_s = [s for s in journal.answered_s if s > killed_s - 1]
            assert max(later - earlier for earlier, later in pairwise(answers_s)) < RESUMES_WITHIN_S
            await asyncio.to_thread(primary.start)
            await asyncio.to_thread(replica_set.wait_members)
        await journal.more(100)
    following.cancel()
    await journal.check(logs[0])
    events = await read_all(logs[0])
    assert follower.shown == events[: len(follower.shown)], "nothing shown was taken back"
    assert len(follower.shown) > 200
    assert not journal.refused | journal.unknown, "no caller heard of it"
