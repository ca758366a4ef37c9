"""What a cache promises about the replica's documents, for both kinds."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_client.cache import FORMAT_VERSION, SQLiteCache
from sync_client.memory import MemoryCache
from sync_client.records import Arrival, Batch, DocumentState, StagingLost, StoredDocument
from sync_core.cursor import Cursor

AnyCache = SQLiteCache | MemoryCache
EPOCH = "aaaaaaaa"


@pytest.fixture(params=["sqlite", "memory"])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AnyCache]:
    opened = SQLiteCache(tmp_path / "c.db") if request.param == "sqlite" else MemoryCache()
    yield opened
    opened.close()


def stored(
    document_id: str = "o1", version: int = 1, *, seq: int = 1, state: DocumentState = DocumentState.LIVE,
    epoch: str = EPOCH,
) -> StoredDocument:  # fmt: skip
    body = f'{{"orderID":"{document_id}","version":{version}}}' if state is DocumentState.LIVE else ""
    return StoredDocument("order", document_id, version, state, epoch, seq, 5, body)


def at(seq: int, *, epoch: str = EPOCH) -> Cursor:
    return Cursor(epoch, seq)


def test_documents_and_cursor_come_back_as_committed(cache: AnyCache) -> None:
    cache.commit(Batch(documents=[stored("o2"), stored("o1", 3)], cursor="aaaaaaaa.2", complete_to="aaaaaaaa.1"))
    cache.commit(Batch(documents=[stored("o2", 2, state=DocumentState.DELETED)]))
    assert cache.documents() == [stored("o1", 3), stored("o2", 2, state=DocumentState.DELETED)]
    saved = cache.load()
    assert (saved.cursor, saved.complete_to, saved.snapshot_due) == ("aaaaaaaa.2", "aaaaaaaa.1", None)


def test_a_demand_for_a_snapshot_is_kept(cache: AnyCache) -> None:
    cache.commit(Batch(snapshot_due="expired"))
    cache.commit(Batch(cursor="aaaaaaaa.2"))
    assert cache.load().snapshot_due == "expired"


def test_what_is_forgotten_is_gone(cache: AnyCache) -> None:
    cache.commit(Batch(documents=[stored("o1"), stored("o2")]))
    cache.commit(Batch(forgotten=[("order", "o1"), ("order", "none")]))
    assert cache.documents() == [stored("o2")]


def test_clear_forgets_documents_too(cache: AnyCache) -> None:
    cache.commit(Batch(documents=[stored()], snapshot_due="", complete_to="aaaaaaaa.1"))
    cache.stage([stored()], first=True)
    cache.clear()
    assert cache.documents() == []
    assert (cache.load().snapshot_due, cache.load().complete_to) == (None, "")
    with pytest.raises(StagingLost):
        cache.install(at(9), count=1)


def test_an_event_and_its_document_are_one_commit(tmp_path: Path) -> None:
    cache = SQLiteCache(tmp_path / "c.db")
    poison = stored()._replace(body=None)  # type: ignore[arg-type]
    with pytest.raises(sqlite3.IntegrityError):
        cache.commit(Batch([Arrival("aaaaaaaa.1", "x", "{}")], cursor="aaaaaaaa.1", documents=[poison]))
    assert cache.events(limit=9) == []
    assert cache.load().cursor is None
    cache.close()


# -- snapshots --------------------------------------------------------------------------------------------


def test_a_staged_snapshot_is_not_seen_before_it_is_installed(cache: AnyCache) -> None:
    cache.commit(Batch(documents=[stored("old")]))
    cache.stage([stored("o1")], first=True)
    assert [one.id for one in cache.documents()] == ["old"]


def test_an_installed_snapshot_is_all_there_is(cache: AnyCache) -> None:
    cache.commit(Batch(documents=[stored("old"), stored("gone", state=DocumentState.DELETED)], snapshot_due="first"))
    cache.stage([stored("o1", seq=9)], first=True)
    cache.stage([stored("o2", seq=9)], first=False)
    found = cache.install(at(9), count=2)
    assert found == cache.documents() == [stored("o1", seq=9), stored("o2", seq=9)]
    assert (cache.load().snapshot_due, cache.load().complete_to) == ("", "aaaaaaaa.9")


def test_what_came_behind_the_snapshot_stays(cache: AnyCache) -> None:
    late = [stored("gone", 5, seq=10, state=DocumentState.DELETED), stored("new", seq=11), stored("o1", 2, seq=12)]
    cache.commit(Batch(documents=late))
    cache.stage([stored("gone", 4, seq=9), stored("o1", 1, seq=9)], first=True)
    assert cache.install(at(9), count=2) == late


def test_a_later_page_may_be_newer_than_the_feed(cache: AnyCache) -> None:
    cache.commit(Batch(documents=[stored("o1", 2, seq=10)]))
    cache.stage([stored("o1", 3, seq=9)], first=True)
    assert cache.install(at(9), count=1) == [stored("o1", 3, seq=9)]


def test_what_had_left_the_view_is_back_if_the_snapshot_has_it(cache: AnyCache) -> None:
    cache.commit(Batch(documents=[stored("o1", 2, seq=5, state=DocumentState.REMOVED)]))
    cache.stage([stored("o1", 2, seq=9)], first=True)
    assert cache.install(at(9), count=1) == [stored("o1", 2, seq=9)]


def test_what_leaves_the_view_behind_the_snapshot_stays_away(cache: AnyCache) -> None:
    removed = stored("o1", 2, seq=10, state=DocumentState.REMOVED)
    cache.commit(Batch(documents=[removed]))
    cache.stage([stored("o1", 2, seq=9)], first=True)
    assert cache.install(at(9), count=1) == [removed]


def test_documents_of_another_log_give_way(cache: AnyCache) -> None:
    cache.commit(Batch(documents=[stored("o1", 12, seq=900), stored("o2", 1, seq=900)]))
    cache.stage([stored("o1", 3, seq=9, epoch="bbbbbbbb")], first=True)
    assert cache.install(at(9, epoch="bbbbbbbb"), count=1) == [stored("o1", 3, seq=9, epoch="bbbbbbbb")]


def test_a_snapshot_that_is_not_all_there_is_not_installed(cache: AnyCache) -> None:
    cache.commit(Batch(documents=[stored("old")], snapshot_due="first"))
    cache.stage([stored("o1")], first=True)
    with pytest.raises(StagingLost):
        cache.install(at(9), count=2)
    assert cache.documents() == [stored("old")]
    assert cache.load().snapshot_due == "first"


def test_beginning_anew_drops_what_was_staged(cache: AnyCache) -> None:
    cache.stage([stored("half")], first=True)
    cache.stage([stored("o1")], first=True)
    assert cache.install(at(9), count=1) == [stored("o1")]


@given(st.data())
def test_both_caches_install_alike(data: st.DataObject) -> None:
    ids, versions, seqs = st.sampled_from("abc"), st.integers(1, 4), st.integers(1, 12)
    known = [
        stored(i, data.draw(versions), seq=data.draw(seqs), state=data.draw(st.sampled_from(DocumentState)),
               epoch=data.draw(st.sampled_from([EPOCH, EPOCH, "bbbbbbbb"])))
        for i in data.draw(st.sets(ids))
    ]  # fmt: skip
    staged = [stored(i, data.draw(versions), seq=6) for i in data.draw(st.sets(ids))]
    sqlite, memory = _in_memory_sqlite(), MemoryCache()
    for cache in (sqlite, memory):
        cache.commit(Batch(documents=known))
        cache.stage(staged, first=True)
    assert sqlite.install(at(6), count=len(staged)) == memory.install(at(6), count=len(staged))
    sqlite.close()


def _in_memory_sqlite() -> SQLiteCache:
    class Unlocked(SQLiteCache):
        def __init__(self) -> None:
            self._path, self._busy_s, self._last_n, self._is_lost = Path(":memory:"), 1.0, 0, False
            self._db = self._try_open()

        def close(self) -> None:
            self._db.close()

    return Unlocked()


# -- files of an older version ----------------------------------------------------------------------------

FORMAT_1 = """
CREATE TABLE events (
  n INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE, type TEXT NOT NULL, envelope TEXT NOT NULL,
  received_at_ms INTEGER NOT NULL, source TEXT NOT NULL, mark INTEGER NOT NULL, acknowledged INTEGER NOT NULL
);
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE handler_values (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO events (id, type, envelope, received_at_ms, source, mark, acknowledged)
  VALUES ('aaaaaaaa.1', 'stage_change', '{}', 1, 'sse', 0, 0);
INSERT INTO meta VALUES ('cursor', 'aaaaaaaa.1');
PRAGMA application_id=0x6F73796E;
PRAGMA user_version=1;
"""


def test_a_cache_without_documents_is_taken_over(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "c.db") as db:
        db.executescript(FORMAT_1)
    db.close()
    cache = SQLiteCache(tmp_path / "c.db")
    assert cache.set_aside is None
    assert [record.id for record in cache.events(limit=9)] == ["aaaaaaaa.1"]
    assert cache.load().cursor == "aaaaaaaa.1"
    cache.commit(Batch(documents=[stored()]))
    cache.close()
    again = SQLiteCache(tmp_path / "c.db")
    assert again.documents() == [stored()]
    assert FORMAT_VERSION == 2
    again.close()
