"""What a process knows of users and keys: all that any process has written, within a look; nothing when it is blind."""

import asyncio
import time
from pathlib import Path

import pytest

from sync_core.problems import Unavailable
from sync_server.accounts import records
from sync_server.accounts.directory import MAX_SOUGHT, SEEK_S, Directory
from sync_server.accounts.logins import forget_stale
from sync_server.accounts.records import ACCOUNTS_TENANT, EndedSession, EndSession, NoteLogin, RevokeKey, user_id
from sync_server.log.base import Bounds, LogUnavailable, Selection
from sync_server.log.open import new_epoch
from tests.accounts.office import Clock, Office, office


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def test_what_another_process_writes_is_known_after_a_look(tmp_path: Path, clock: Clock) -> None:
    async with office(tmp_path, clock=clock) as server, office(tmp_path, exclusive=False, clock=clock) as console:
        user, key = await console.add_user(), await console.add_key()
        await console.do(records.end_session, EndSession(session="s1", expires_ms=clock() + 1000))
        assert server.directory.user(user.recordID) is None
        await server.directory.look()
        assert server.directory.user(user.recordID) == user
        assert (server.directory.key(key.id) or user).recordID == key.id
        assert server.directory.has_ended("s1")
        await console.do(records.revoke_key, RevokeKey(record=key.id))
        await console.do(records.delete_user, records.DeleteUser(record=user.recordID))
        await server.directory.look()
        assert server.directory.user(user.recordID) is None
        assert server.directory.key(key.id) is None
        assert (server.directory.users, server.directory.keys) == ([], [])


async def test_a_directory_that_begins_later_knows_the_same(desk: Office) -> None:
    for number in range(5):
        await desk.add_user(f"user-{number}")
    key = await desk.add_key()
    await desk.do(records.delete_user, records.DeleteUser(record=user_id("default", "user-3")))
    await desk.do(records.end_session, EndSession(session="s1", expires_ms=desk.clock() + 1000))
    await desk.directory.look()
    fresh = Directory(desk.log, wall_ms=desk.clock)
    await fresh.look()
    assert fresh.users == desk.directory.users
    assert [user.name for user in fresh.users] == ["user-0", "user-1", "user-2", "user-4"]
    assert [known.recordID for known in fresh.keys] == [key.id]
    assert fresh.has_ended("s1")


async def test_what_was_trimmed_from_the_log_is_still_known(desk: Office) -> None:
    """A flood of wrong logins must not push out that somebody has logged out."""
    await desk.add_user()
    await desk.do(records.end_session, EndSession(session="s1", expires_ms=desk.clock() + 1000))
    await desk.directory.look()
    seen = await desk.events()
    await desk.add_key()
    await desk.do(records.end_session, EndSession(session="s2", expires_ms=desk.clock() + 1000))
    await desk.log.trim(ACCOUNTS_TENANT, await desk.events())
    lagging = Directory(desk.log, wall_ms=desk.clock)
    for directory in (lagging, desk.directory):
        await directory.look()
        assert directory.has_ended("s1")
        assert directory.has_ended("s2")
        assert len(directory.users) == len(directory.keys) == 1
    assert seen < await desk.events()


async def test_what_is_trimmed_while_it_is_read_is_not_missed(desk: Office) -> None:
    class Trimming:
        async def read(self, tenant: str, *, after: int, limit: int) -> object:
            await desk.log.trim(tenant, await desk.events() - 1)
            return await desk.log.read(tenant, after=after, limit=limit)

        def __getattr__(self, name: str) -> object:
            return getattr(desk.log, name)

    directory = Directory(Trimming(), wall_ms=desk.clock)  # type: ignore[arg-type]
    await directory.look()
    await desk.add_user("ann")
    await desk.add_user("bob")
    for _ in range(2):
        await directory.look()
    assert [user.name for user in directory.users] == ["ann", "bob"]


async def test_a_new_epoch_is_read_from_its_start(desk: Office) -> None:
    user = await desk.add_user()
    await desk.log.new_epoch(ACCOUNTS_TENANT, new_epoch())
    await desk.directory.look()
    assert desk.directory.users == [user]


async def test_an_expired_key_is_none(desk: Office) -> None:
    key = await desk.add_key(expires_ms=desk.clock() + 1000)
    assert desk.directory.key(key.id)
    desk.clock.ms += 1000
    assert desk.directory.key(key.id) is None
    assert [known.recordID for known in desk.directory.keys] == [key.id]


class Blind:
    """A log of which nothing can be read."""

    async def bounds(self, tenants: object) -> dict[str, Bounds]:
        raise LogUnavailable("away")


async def test_who_knows_nothing_lets_nobody_in_and_refuses_nobody_for_good() -> None:
    directory = Directory(Blind(), wall_ms=Clock())  # type: ignore[arg-type]
    with pytest.raises(LogUnavailable):
        await directory.look()
    for ask in (directory.user, directory.key, directory.has_ended):
        with pytest.raises(Unavailable):
            ask("x")
    with pytest.raises(Unavailable):
        await directory.refresh()


class Counted:
    """The desk's log, and how often it was asked how far it goes."""

    def __init__(self, desk: Office) -> None:
        self._log = desk.log
        self.looks = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._log, name)

    async def bounds(self, tenants: list[str]) -> dict[str, Bounds]:
        self.looks += 1
        return dict(await self._log.bounds(tenants))


async def test_whoever_is_not_known_is_looked_for_once_and_all_of_them_together(desk: Office) -> None:
    counted = Counted(desk)
    directory = Directory(counted, wall_ms=desk.clock)  # type: ignore[arg-type]
    await directory.look()
    key = await desk.add_key()
    await asyncio.gather(directory.seek(key.id), *(directory.seek(f"nobody-{n}") for n in range(500)))
    assert directory.key(key.id) is not None
    assert counted.looks == 2
    for _ in range(50):
        await directory.seek("nobody-1")
    assert counted.looks == 2
    # Behind that look: one of its own.
    other = await desk.add_key()
    await directory.seek(other.id)
    assert directory.key(other.id) is not None
    assert counted.looks == 3


async def test_a_flood_of_the_unknown_makes_no_more_than_ten_looks_a_second(desk: Office) -> None:
    counted = Counted(desk)
    directory = Directory(counted, wall_ms=desk.clock)  # type: ignore[arg-type]
    await directory.look()
    started_s, counted.looks = time.monotonic(), 0
    for n in range(8):
        await directory.seek(f"nobody-{n}")
    assert counted.looks <= (time.monotonic() - started_s) / SEEK_S + 1
    await asyncio.gather(*(directory.seek(f"others-{n}") for n in range(2 * MAX_SOUGHT)))
    looks = counted.looks
    for n in range(100):  # beyond what is remembered there is no look at all, until the next regular one
        await directory.seek(f"more-{n}")
    assert counted.looks == looks


async def test_who_cannot_be_looked_for_is_not_refused_for_good() -> None:
    directory = Directory(Blind(), wall_ms=Clock())  # type: ignore[arg-type]
    for _ in range(2):
        with pytest.raises(Unavailable):
            await asyncio.gather(*(directory.seek(f"somebody-{n}") for n in range(3)))


async def test_following_goes_on_over_an_outage(desk: Office) -> None:
    class Flaky:
        away = True

        def __getattr__(self, name: str) -> object:
            if self.away:
                raise LogUnavailable("away")
            return getattr(desk.log, name)

    flaky, looks = Flaky(), asyncio.Event()
    directory = Directory(flaky, wall_ms=desk.clock, look_s=0.01)  # type: ignore[arg-type]
    following = asyncio.create_task(directory.follow(looked=looks.set))
    await asyncio.sleep(0)
    flaky.away = False
    await asyncio.wait_for(looks.wait(), 5)
    assert directory.users == []
    following.cancel()
    await asyncio.wait([following])


async def test_what_has_no_meaning_any_more_is_forgotten(desk: Office) -> None:
    for number in range(3):
        name = NoteLogin(user=f"user:{number}", address="address:a")
        await desk.do(records.note_attempt, name)
    await desk.do(records.end_session, EndSession(session="old", expires_ms=desk.clock() + 1000))
    await desk.do(records.end_session, EndSession(session="new", expires_ms=desk.clock() + 10**8))

    async def left() -> set[str]:
        selection = Selection((EndedSession.kind, records.Lockout.kind))
        page = await desk.log.documents(ACCOUNTS_TENANT, selection, after=None, limit=100)
        return {stored.id for stored in page.documents}

    await forget_stale(desk.log, desk.dispatch, now_ms=desk.clock)
    assert left_before_its_time(await left())
    desk.clock.ms += 3_600_000
    await forget_stale(desk.log, desk.dispatch, now_ms=desk.clock)
    assert await left() == {"new"}


def left_before_its_time(found: set[str]) -> bool:
    return found == {"old", "new", "user:0", "user:1", "user:2", "address:a"}
