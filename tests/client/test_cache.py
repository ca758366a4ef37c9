"""What a cache promises, for both kinds; and what becomes of a file that cannot be used."""

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sync_client.cache import CacheDamaged, SQLiteCache
from sync_client.errors import CacheLocked, CacheUnwritable
from sync_client.memory import MemoryCache
from sync_client.records import Arrival, Batch, Mark, Record, Transaction

AnyCache = SQLiteCache | MemoryCache


@pytest.fixture(params=["sqlite", "memory"])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AnyCache]:
    opened = SQLiteCache(tmp_path / "c.db") if request.param == "sqlite" else MemoryCache()
    yield opened
    opened.close()


def arrivals(*numbers: int) -> list[Arrival]:
    return [Arrival(f"aaaaaaaa.{n}", "stage_change", f'{{"id":"aaaaaaaa.{n}","n":{n}}}') for n in numbers]


def ids(records: list[Record]) -> list[str | None]:
    return [record.id for record in records]


def test_events_and_cursor_come_back_as_committed(cache: AnyCache) -> None:
    new = cache.commit(Batch(arrivals(1, 2), received_at_ms=5, cursor="aaaaaaaa.2", filter="f", access="x"))
    assert new == 2
    saved = cache.load()
    assert (saved.cursor, saved.filter, saved.access, saved.resync) == ("aaaaaaaa.2", "f", "x", "")
    first = cache.waiting(after=0, limit=10)[0]
    assert (first.id, first.event_type, first.received_at_ms, first.source) == ("aaaaaaaa.1", "stage_change", 5, "sse")


def test_a_known_id_is_not_stored_again(cache: AnyCache) -> None:
    cache.commit(Batch(arrivals(1, 2)))
    assert cache.commit(Batch(arrivals(2, 3))) == 1
    assert ids(cache.waiting(after=0, limit=10)) == ["aaaaaaaa.1", "aaaaaaaa.2", "aaaaaaaa.3"]


def test_ephemeral_events_have_no_id_and_are_never_doubles(cache: AnyCache) -> None:
    assert cache.commit(Batch([Arrival(None, "x", "{}"), Arrival(None, "x", "{}")])) == 2


def test_what_is_marked_does_not_wait_any_more(cache: AnyCache) -> None:
    cache.commit(Batch(arrivals(1, 2, 3)))
    waiting = cache.waiting(after=0, limit=10)
    cache.mark([waiting[0].n], Mark.PROCESSED)
    cache.mark([waiting[1].n], Mark.PARKED)
    assert ids(cache.waiting(after=0, limit=10)) == ["aaaaaaaa.3"]
    assert ids(cache.events(limit=10, mark=Mark.PARKED)) == ["aaaaaaaa.2"]
    assert (cache.backlog, cache.parked) == (1, 1)


def test_the_backlog_counts_what_waits(cache: AnyCache) -> None:
    cache.commit(Batch(arrivals(1, 2)))
    size = sum(len(a.envelope) for a in arrivals(1, 2))
    assert (cache.backlog, cache.backlog_bytes) == (2, size)
    cache.mark([r.n for r in cache.waiting(after=0, limit=10)], Mark.PROCESSED)
    assert (cache.backlog, cache.backlog_bytes) == (0, 0)


def test_a_page_ends_at_its_limit_and_the_next_goes_on(cache: AnyCache) -> None:
    cache.commit(Batch(arrivals(*range(1, 8))))
    page = cache.waiting(after=0, limit=3)
    assert len(page) == 3
    assert ids(cache.waiting(after=page[-1].n, limit=2)) == ["aaaaaaaa.4", "aaaaaaaa.5"]


def test_a_transaction_takes_effect_with_the_mark(cache: AnyCache) -> None:
    cache.commit(Batch(arrivals(1)))
    cache.transact(cache.waiting(after=0, limit=1)[0], lambda tx: tx.put("total", {"sum": 5}))
    assert cache.get_value("total") == {"sum": 5}
    assert cache.waiting(after=0, limit=1) == []


def test_a_transaction_that_raises_takes_no_effect(cache: AnyCache) -> None:
    cache.commit(Batch(arrivals(1)))

    def work(tx: Transaction) -> None:
        tx.put("total", 1)
        tx.delete("other")
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 - our own
        cache.transact(cache.waiting(after=0, limit=1)[0], work)
    assert cache.get_value("total", "nothing") == "nothing"
    assert (len(cache.waiting(after=0, limit=1)), cache.backlog) == (1, 1)


def test_a_transaction_reads_and_deletes(cache: AnyCache) -> None:
    cache.commit(Batch(arrivals(1, 2)))
    one, two = cache.waiting(after=0, limit=2)
    cache.transact(one, lambda tx: tx.put("n", 1))
    seen = []

    def work(tx: Transaction) -> None:
        seen.append(tx.get("n"))
        tx.delete("n")

    cache.transact(two, work)
    assert seen == [1]
    assert cache.get_value("n") is None


def test_acknowledge_sets_the_flag_and_nothing_else(cache: AnyCache) -> None:
    cache.commit(Batch(arrivals(1)))
    assert cache.acknowledge("aaaaaaaa.1")
    assert not cache.acknowledge("aaaaaaaa.2")
    (record,) = cache.waiting(after=0, limit=1)
    assert record.acknowledged
    assert record.mark is Mark.WAITING


def test_retention_removes_processed_events_only(cache: AnyCache) -> None:
    cache.commit(Batch(arrivals(1, 2, 3, 4), received_at_ms=0))
    cache.commit(Batch(arrivals(5, 6, 7), received_at_ms=3_600_000))
    marked = [r.n for r in cache.waiting(after=0, limit=10) if r.id not in ("aaaaaaaa.2", "aaaaaaaa.6")]
    cache.mark(marked, Mark.PROCESSED)
    cache.trim(now_ms=3_600_001, max_age_s=3600, max_events=1)
    assert ids(cache.events(limit=10)) == ["aaaaaaaa.2", "aaaaaaaa.6", "aaaaaaaa.7"]


def test_an_arrival_may_be_kept_aside_from_the_start(cache: AnyCache) -> None:
    kept = Arrival("malformed-1", "x", "{}", mark=Mark.PARKED)
    assert cache.commit(Batch([kept, kept, *arrivals(1)])) == 2
    assert ids(cache.waiting(after=0, limit=10)) == ["aaaaaaaa.1"]
    assert ids(cache.events(limit=10, mark=Mark.PARKED)) == ["malformed-1"]
    assert (cache.backlog, cache.parked) == (1, 1)
    assert cache.commit(Batch([kept])) == 0


@pytest.mark.parametrize("mark", [Mark.PROCESSED, Mark.PARKED])
def test_what_has_no_id_only_passes_through(cache: AnyCache, mark: Mark) -> None:
    cache.commit(Batch([Arrival(None, "heartbeat", "{}"), *arrivals(1)]))
    passing, _ = cache.waiting(after=0, limit=10)
    assert passing.id is None
    assert ids(cache.events(limit=10)) == ["aaaaaaaa.1"]
    cache.mark([passing.n], mark)
    assert ids(cache.events(limit=10)) == ids(cache.waiting(after=0, limit=10)) == ["aaaaaaaa.1"]
    assert (cache.backlog, cache.parked) == (1, 0)
    assert cache.backlog_bytes == len(arrivals(1)[0].envelope)


def test_what_has_no_id_leaves_nothing_in_the_file(tmp_path: Path) -> None:
    cache = SQLiteCache(tmp_path / "c.db")
    cache.commit(Batch([Arrival(None, "heartbeat", "{}")]))
    cache.mark([1], Mark.PROCESSED)
    assert cache._db.execute("SELECT count(*) FROM events").fetchone() == (0,)
    cache.close()


@pytest.mark.parametrize("kept", [0, 3, 250])
def test_memory_keeps_as_many_processed_events_as_it_is_told_to(kept: int) -> None:
    cache = MemoryCache(retention_events=kept)
    cache.commit(Batch(arrivals(*range(300))))
    cache.mark([r.n for r in cache.waiting(after=0, limit=300)], Mark.PROCESSED)
    assert ids(cache.events(limit=1000)) == [f"aaaaaaaa.{n}" for n in range(300 - kept, 300)]
    assert cache.commit(Batch(arrivals(*range(300)))) == 300 - kept


def test_clear_forgets_events_and_cursor_but_not_metrics(cache: AnyCache) -> None:
    cache.commit(Batch(arrivals(1), cursor="aaaaaaaa.1", filter="f", resync="r"))
    cache.set_meta("connectionMetrics", "{}")
    cache.clear()
    saved = cache.load()
    assert (saved.cursor, saved.filter, saved.resync, saved.meta) == (None, None, "", {"connectionMetrics": "{}"})
    assert cache.events(limit=10) == []


# -- the file -------------------------------------------------------------------------------------------


def test_everything_survives_a_restart_but_ephemeral_events(tmp_path: Path) -> None:
    path = tmp_path / "c.db"
    first = SQLiteCache(path)
    first.commit(Batch([*arrivals(1, 2), Arrival(None, "x", "{}")], cursor="aaaaaaaa.2", resync="expired"))
    first.mark([1], Mark.PROCESSED)
    first.close()
    second = SQLiteCache(path)
    assert ids(second.waiting(after=0, limit=10)) == ["aaaaaaaa.2"]
    assert (second.load().cursor, second.load().resync, second.backlog) == ("aaaaaaaa.2", "expired", 1)
    second.close()


def damage_whole(path: Path) -> None:
    path.write_bytes(b"not a database at all, just some text " * 200)


def damage_middle(path: Path) -> None:
    with path.open("r+b") as file:
        size = path.stat().st_size
        file.seek(size // 4)
        file.write(b"\xff" * (size // 2))


def damage_cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def damage_short(path: Path) -> None:
    os.truncate(path, 50)


@pytest.mark.parametrize("damage", [damage_whole, damage_middle, damage_cut, damage_short])
def test_a_damaged_file_is_set_aside_and_a_resync_is_due(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    path = tmp_path / "c.db"
    cache = SQLiteCache(path)
    cache.commit(Batch(arrivals(*range(500)), cursor="aaaaaaaa.500"))
    cache.close()
    damage(path)
    again = SQLiteCache(path)
    try:
        assert again.set_aside == tmp_path / "c.db.damaged-1"
        assert again.set_aside.exists()
        assert (again.load().cursor, again.load().resync) == (None, "cache_lost")
        again.commit(Batch(arrivals(1)))
    finally:
        again.close()


def test_another_programs_file_is_set_aside_whole(tmp_path: Path) -> None:
    path = tmp_path / "c.db"
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE theirs (x)")
        db.execute("INSERT INTO theirs VALUES (42)")
        db.commit()
    cache = SQLiteCache(path)
    cache.close()
    assert cache.set_aside is not None
    with contextlib.closing(sqlite3.connect(cache.set_aside)) as db:
        assert db.execute("SELECT x FROM theirs").fetchall() == [(42,)]


def test_a_newer_versions_file_is_left_whole(tmp_path: Path) -> None:
    path = tmp_path / "c.db"
    SQLiteCache(path).close()
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version=99")
    cache = SQLiteCache(path)
    cache.close()
    assert cache.set_aside == tmp_path / "c.db.foreign-1"


def test_damage_that_shows_in_use_is_told_and_can_be_recovered_from(tmp_path: Path) -> None:
    path = tmp_path / "c.db"
    cache = SQLiteCache(path)
    cache.commit(Batch(arrivals(*range(3000))))
    cache._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    damage_middle(path)
    cache._db.execute("PRAGMA shrink_memory")

    def use() -> None:
        for n in range(4000, 8000):
            cache.commit(Batch(arrivals(n)))
            cache.mark(range(n - 4000, n - 3990), Mark.PROCESSED)

    with pytest.raises(CacheDamaged):
        use()
    cache.recover()
    cache.commit(Batch(arrivals(1)))
    assert (cache.backlog, cache.load().resync) == (1, "cache_lost")
    cache.close()


@pytest.mark.parametrize("read", ["waiting", "events"])
def test_damage_that_shows_when_events_are_read_is_told_too(tmp_path: Path, read: str) -> None:
    path = tmp_path / "c.db"
    cache = SQLiteCache(path)
    cache.commit(Batch(arrivals(*range(3000))))
    cache._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    damage_middle(path)
    cache._db.execute("PRAGMA shrink_memory")
    with pytest.raises(CacheDamaged):
        cache.waiting(after=0, limit=3000) if read == "waiting" else cache.events(limit=3000)
    cache.recover()
    assert cache.waiting(after=0, limit=10) == []
    cache.close()


@contextlib.contextmanager
def no_directory(path: Path) -> Iterator[None]:
    """The damaged file cannot be set aside."""
    path.parent.rename(path.parent.with_name("gone"))
    path.parent.write_text("something else")
    yield
    path.parent.unlink()
    path.parent.with_name("gone").rename(path.parent)


@contextlib.contextmanager
def no_journal(path: Path) -> Iterator[None]:
    """As a full disk: the damaged file can be set aside, and no new one made."""
    journal = path.with_name("c.db-journal")
    journal.mkdir()
    yield
    journal.rmdir()


@pytest.mark.parametrize("trouble", [no_directory, no_journal])
def test_a_recovery_that_fails_is_tried_again_and_nothing_else_works_meanwhile(
    tmp_path: Path, trouble: Callable[[Path], contextlib.AbstractContextManager[None]]
) -> None:
    path = tmp_path / "here" / "c.db"
    with contextlib.closing(SQLiteCache(path)) as cache:
        cache.commit(Batch(arrivals(1, 2)))
        with trouble(path):
            for _ in range(3):
                with pytest.raises(CacheUnwritable):
                    cache.recover()
                with pytest.raises(CacheDamaged):
                    cache.commit(Batch(arrivals(3)))
                with pytest.raises(CacheDamaged):
                    cache.load()
        cache.recover()
        cache.commit(Batch(arrivals(4)))
        assert [r.n for r in cache.waiting(after=0, limit=9)] == [3]  # 1 and 2 may still be under way
        assert cache.load().resync == "cache_lost"
    assert len(list(path.parent.glob("*.damaged-?"))) == 1


def test_one_that_was_removed_while_in_use_is_begun_anew_and_ours_alone(tmp_path: Path) -> None:
    path = tmp_path / "here" / "c.db"
    with contextlib.closing(SQLiteCache(path)) as cache:
        cache.commit(Batch(arrivals(1, 2)))
        shutil.rmtree(path.parent)
        with pytest.raises(CacheDamaged, match="removed"):
            cache.commit(Batch(arrivals(3)))
        cache.recover()
        cache.commit(Batch(arrivals(3)))
        assert (cache.load().resync, cache.set_aside) == ("cache_lost", None)
        with pytest.raises(CacheLocked):
            SQLiteCache(path)
    with contextlib.closing(SQLiteCache(path)) as again:
        assert [record.n for record in again.waiting(after=0, limit=9)] == [3]


def test_one_that_another_program_has_made_meanwhile_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "here" / "c.db"
    with contextlib.closing(SQLiteCache(path)) as cache:
        shutil.rmtree(path.parent)
        with contextlib.closing(SQLiteCache(path)) as other:
            with pytest.raises(CacheUnwritable, match="another file is in its place"):
                cache.commit(Batch(arrivals(1)))
            other.commit(Batch(arrivals(5)))
            shutil.rmtree(path.parent)
            path.parent.mkdir()
            path.with_suffix(".lock").touch()
            with pytest.raises(CacheDamaged):
                cache.commit(Batch(arrivals(1)))


def test_a_lock_of_another_program_is_not_taken_for_damage(tmp_path: Path) -> None:
    path = tmp_path / "c.db"
    cache = SQLiteCache(path, busy_s=0.01)
    cache.commit(Batch([*arrivals(1), Arrival(None, "x", "{}")], cursor="aaaaaaaa.1"))
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as backup:
        backup.execute("BEGIN IMMEDIATE")
        with pytest.raises(CacheUnwritable):
            cache.commit(Batch(arrivals(2)))
        backup.execute("ROLLBACK")
        cache.commit(Batch(arrivals(3)))
        cache.close()
        backup.execute("BEGIN IMMEDIATE")
        with pytest.raises(CacheLocked, match="another program"):
            SQLiteCache(path, busy_s=0.01)
    again = SQLiteCache(path)
    assert ids(again.waiting(after=0, limit=9)) == ["aaaaaaaa.1", "aaaaaaaa.3"]
    assert again.set_aside is None
    again.close()


def test_a_second_opener_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.db"
    first = SQLiteCache(path)
    try:
        with pytest.raises(CacheLocked, match="client_name"):
            SQLiteCache(path)
    finally:
        first.close()
    SQLiteCache(path).close()


HOLDER = """
import sys
from pathlib import Path
from sync_client.cache import SQLiteCache
from sync_client.records import Arrival, Batch
cache = SQLiteCache(Path(sys.argv[1]))
cache.commit(Batch([Arrival("aaaaaaaa.1", "x", "{}")], cursor="aaaaaaaa.1"))
cache._db.execute("BEGIN IMMEDIATE")
cache._db.execute("DELETE FROM events")
print("held", flush=True)
sys.stdin.read()
"""


def test_a_lock_dies_with_its_process_and_nothing_committed_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "c.db"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(CacheLocked, match=str(holder.pid)):
            SQLiteCache(path)
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    cache = SQLiteCache(path)
    assert ids(cache.waiting(after=0, limit=9)) == ["aaaaaaaa.1"]
    cache.close()


def test_a_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheUnwritable):
        SQLiteCache(tmp_path / "file" / "c.db")


def test_a_commit_that_does_not_fit_stores_nothing_of_it(tmp_path: Path) -> None:
    cache = SQLiteCache(tmp_path / "c.db")
    cache.commit(Batch(arrivals(1), cursor="aaaaaaaa.1"))
    pages = cache._db.execute("PRAGMA page_count").fetchone()[0]
    cache._db.execute(f"PRAGMA max_page_count={pages + 2}")
    with pytest.raises(CacheUnwritable):
        cache.commit(Batch(arrivals(*range(2, 5000)), cursor="aaaaaaaa.5000"))
    assert (cache.load().cursor, cache.backlog) == ("aaaaaaaa.1", 1)
    cache.close()
