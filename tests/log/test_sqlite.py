"""What only the SQLite store has: a lock file, the head's seal, a disk that fills up."""

# ruff: noqa: ASYNC240 - nothing else runs in the loop while a test handles files and processes

import asyncio
import os
import resource
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import pytest

from sync_core.problems import OutcomeUnknown, Unavailable
from sync_server.log.base import LogError, LogMisconfigured, LogUnavailable
from sync_server.log.open import new_epoch
from sync_server.log.sqlite import SQLiteLog
from tests.log.conftest import rounds
from tests.log.crashes import check_nothing_lost, write_and_be_killed
from tests.log.writes import TENANT, commit, make_appender, read_all, seqs, text_of, texts

Make = Callable[..., SQLiteLog]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "shop" / "log.db"


@pytest.fixture
async def make(path: Path) -> AsyncIterator[Make]:
    """Log objects on *path*; closed afterwards."""
    async with AsyncExitStack() as stack:

        def make_one(*, exclusive: bool = True, check_seal: bool = True) -> SQLiteLog:
            event_log = SQLiteLog(path, new_epoch=new_epoch, exclusive=exclusive, check_seal=check_seal)
            stack.push_async_callback(event_log.aclose)
            return event_log

        yield make_one


@contextmanager
def full_disk(path: Path) -> Iterator[None]:
    """No file of this process grows beyond what the log's files have now: writes fail as on a full disk."""
    largest = max((file.stat().st_size for file in path.parent.glob("*")), default=0)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# -- one process ------------------------------------------------------------------------------------


async def test_a_second_server_is_refused_and_told_who_has_the_log(make: Make) -> None:
    await make().open()
    with pytest.raises(LogMisconfigured, match=rf"process {os.getpid()}\)"):
        await make().open()


async def test_the_lock_ends_with_its_holder(make: Make) -> None:
    first = make()
    await first.open()
    await first.aclose()
    second = make()
    await second.open()
    assert (await second.ensure(TENANT)).head == 0


async def test_upkeep_may_look_at_a_log_that_is_served(make: Make) -> None:
    serving, looking = make(), make(exclusive=False)
    await serving.open()
    await commit(serving, texts("a", "b"))
    await looking.open()
    assert (await looking.trim(TENANT, 1)).floor == 1
    await commit(serving, texts("c"))
    assert [text_of(event) for event in await read_all(looking)] == ["b", "c"]


async def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    event_log = SQLiteLog(tmp_path / "file" / "log.db", new_epoch=new_epoch)
    with pytest.raises(LogMisconfigured, match=r"\[log\.sqlite\] path"):
        await event_log.open()
    await event_log.aclose()


async def test_a_closed_log_says_so(make: Make) -> None:
    event_log = make()
    await event_log.open()
    await event_log.aclose()
    with pytest.raises(LogUnavailable, match="closed"):
        await event_log.ensure(TENANT)


# -- the seal ---------------------------------------------------------------------------------------


async def restored(make: Make, path: Path, *tenants: str) -> None:
    """Write, back up, write on, then put the backup in place."""
    event_log = make()
    await event_log.open()
    for tenant in tenants:
        await commit(event_log, texts("a", "b"), tenant=tenant)
    with sqlite3.connect(path) as source, sqlite3.connect(path.with_suffix(".bak")) as target:
        source.backup(target)
    for db in (source, target):
        db.close()
    for tenant in tenants:
        await commit(event_log, texts("c"), tenant=tenant)
    await event_log.aclose()
    for name in (path.name + "-wal", path.name + "-shm"):
        path.with_name(name).unlink(missing_ok=True)
    shutil.move(path.with_suffix(".bak"), path)


async def test_a_restored_log_is_refused_until_it_has_a_new_epoch(make: Make, path: Path) -> None:
    await restored(make, path, TENANT)
    refused = make()
    with pytest.raises(LogMisconfigured, match="new-epoch"):
        await refused.open()
    await refused.aclose()
    mending = make(exclusive=False, check_seal=False)
    await mending.open()
    epoch = new_epoch()
    assert await mending.new_epoch(TENANT, epoch) == (epoch, 0, 2)
    await mending.aclose()
    event_log = make()
    await event_log.open()
    assert (await commit(event_log, texts("d"))).epoch == epoch
    assert [text_of(event) for event in await read_all(event_log)] == ["a", "b", "d"]


async def test_every_tenant_of_a_restored_log_needs_its_new_epoch(make: Make, path: Path) -> None:
    await restored(make, path, "one", "two")
    for mended, refused_for in (("one", "two"), ("two", None)):
        mending = make(exclusive=False, check_seal=False)
        await mending.open()
        await mending.new_epoch(mended, new_epoch())
        await mending.aclose()
        event_log = make()
        if refused_for is None:
            await event_log.open()
        else:
            with pytest.raises(LogMisconfigured, match=refused_for):
                await event_log.open()
        await event_log.aclose()


@pytest.mark.parametrize("copy", ["short", "long"])
async def test_a_copy_from_before_a_new_epoch_is_refused_however_far_it_went(make: Make, path: Path, copy: str) -> None:
    for name, text in (("short", "a"), ("long", "b")):
        event_log = make()
        await event_log.open()
        await commit(event_log, texts(text))
        await event_log.aclose()
        shutil.copy(path, path.with_suffix(f".{name}"))
    shutil.move(path.with_suffix(".short"), path)
    shutil.copy(path, path.with_suffix(".short"))
    mending = make(check_seal=False)
    await mending.open()
    await mending.new_epoch(TENANT, new_epoch())
    await mending.aclose()
    shutil.copy(path.with_suffix(f".{copy}"), path)
    with pytest.raises(LogMisconfigured, match="new-epoch"):
        await make().open()


async def test_a_log_that_was_removed_is_refused_too(make: Make, path: Path) -> None:
    event_log = make()
    await event_log.open()
    await commit(event_log, texts("a"))
    await event_log.aclose()
    path.unlink()
    with pytest.raises(LogMisconfigured, match="new-epoch"):
        await make().open()


async def test_a_log_that_is_further_than_its_seal_is_fine(make: Make, path: Path) -> None:
    event_log = make()
    await event_log.open()
    await commit(event_log, texts("a"))
    await event_log.aclose()
    seal = path.with_name(path.name + ".head").read_text()
    event_log = make()
    await event_log.open()
    await commit(event_log, texts("b"))
    await event_log.aclose()
    path.with_name(path.name + ".head").write_text(seal)
    event_log = make()
    await event_log.open()
    assert (await event_log.ensure(TENANT)).head == 2


@pytest.mark.parametrize("content", ["", "[1]", '{"a": 1}', '{"a": ["b"]}', "\ud800"], ids=repr)
async def test_a_damaged_seal_is_told(make: Make, path: Path, content: str) -> None:
    path.parent.mkdir()
    path.with_name(path.name + ".head").write_text(content, errors="surrogatepass")
    with pytest.raises(LogMisconfigured, match="damaged"):
        await make().open()


# -- the file ---------------------------------------------------------------------------------------


async def test_a_commit_returns_after_its_fsync(make: Make) -> None:
    event_log = make()
    await event_log.open()
    # Nothing but a power cut shows the difference, so the connection is asked.
    modes = await event_log._writer.run(
        lambda db: [db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("synchronous", "journal_mode")]
    )
    assert modes == [2, "wal"]


async def test_what_is_no_sqlite_file_is_told(make: Make, path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"this is no database, but it is long enough to look at" * 100)
    with pytest.raises(LogError, match="damaged or no SQLite file"):
        await make().open()


async def test_a_file_damaged_while_closed_gives_clear_errors(make: Make, path: Path) -> None:
    event_log = make()
    await event_log.open()
    await commit(event_log, *(texts(*(f"{i}" * 200 for i in range(50))) for _ in range(20)))
    await event_log.aclose()
    content = bytearray(path.read_bytes())
    for page in range(2, len(content) // 4096):
        content[page * 4096 : page * 4096 + 2000] = b"\xff" * 2000
    path.write_bytes(content)
    with pytest.raises(LogError):
        await open_and_read(make())
    assert path.read_bytes() == bytes(content)


async def open_and_read(event_log: SQLiteLog) -> None:
    await event_log.open()
    await read_all(event_log)


async def test_a_full_disk_is_unavailable_and_comes_back_by_itself(make: Make, path: Path) -> None:
    event_log = make()
    await event_log.open()
    appender = make_appender(event_log, deadline_s=0.3)
    await appender.append(TENANT, texts("before"))
    with full_disk(path):
        with pytest.raises(Unavailable) as refusal:
            await appender.append(TENANT, texts("x" * 500_000))
        assert not isinstance(refusal.value, OutcomeUnknown)
        assert [text_of(event) for event in await read_all(event_log)] == ["before"]  # reading goes on
    await appender.append(TENANT, texts("after"))
    assert [(e.seq, text_of(e)) for e in await read_all(event_log)] == [(1, "before"), (2, "after")]
    await event_log.aclose()
    event_log = make()
    await event_log.open()
    assert [text_of(event) for event in await read_all(event_log)] == ["before", "after"]


async def test_a_disk_that_is_full_at_start_needs_no_restart(make: Make, path: Path) -> None:
    event_log = make()
    with full_disk(path):
        with pytest.raises(LogUnavailable) as refusal:
            await event_log.open()
        assert not isinstance(refusal.value, LogMisconfigured)
        with pytest.raises(LogUnavailable):
            await event_log.ensure(TENANT)
    await commit(event_log, texts("a"))
    assert [text_of(event) for event in await read_all(event_log)] == ["a"]


async def test_another_writer_is_waited_for(make: Make, path: Path) -> None:
    event_log = make()
    await event_log.open()
    await event_log.ensure(TENANT)
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("BEGIN IMMEDIATE")
    writing = asyncio.create_task(commit(event_log, texts("a")))
    assert await event_log.read(TENANT, after=0, limit=10) == []  # reading does not wait
    assert not writing.done()
    db.close()
    await writing


# -- kill -9 ----------------------------------------------------------------------------------------


async def test_kill_9_loses_nothing_that_was_acknowledged(make: Make, path: Path) -> None:
    path.parent.mkdir()
    acknowledged: dict[str, str] = {}
    for mark in range(rounds("KILL_ROUNDS", 3)):
        acknowledged |= write_and_be_killed(str(path), mark=str(mark), lines=400 + 37 * mark)
    event_log = make()
    await event_log.open()
    await check_nothing_lost(event_log, acknowledged)


async def test_many_tasks_write_while_readers_follow(make: Make) -> None:
    event_log = make()
    await event_log.open()
    await event_log.ensure(TENANT)
    appender = make_appender(event_log)
    writers, count = 8, 2000
    total = writers * count

    async def write(writer: int) -> None:
        for start in range(0, count, 20):
            sizes = (1, 2, 7, 10)  # 20 events in requests of these sizes, sent without waiting in between
            first, requests = start, []
            for size in sizes:
                requests.append(texts(*(f"{writer}.{i}" for i in range(first, first + size))))
                first += size
            await asyncio.gather(*(appender.append(TENANT, request) for request in requests))

    async def follow() -> list[str]:
        rows: list[str] = []
        while len(rows) < total:
            page = await event_log.read(TENANT, after=len(rows), limit=500)
            assert seqs(page) == list(range(len(rows) + 1, len(rows) + 1 + len(page)))
            rows += map(text_of, page)
        return rows

    async with asyncio.timeout(100), asyncio.TaskGroup() as group:
        readers = [group.create_task(follow()) for _ in range(4)]
        for writer in range(writers):
            group.create_task(write(writer))
    first, *others = (reader.result() for reader in readers)
    assert all(rows == first for rows in others)
    for writer in range(writers):
        assert [r for r in first if r.startswith(f"{writer}.")] == [f"{writer}.{i}" for i in range(count)]
