"""A look into a cache changes nothing, whatever state its files are in."""

import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from sync_client.cache import SQLiteCache
from sync_client.console.cache_view import CacheUnreadable, look
from sync_client.console.caches import view_rows
from sync_client.records import Arrival, Batch, DocumentState, Mark, StoredDocument
from tests.client.test_cache_documents import FORMAT_1

HOLDER = """
import os, sys
from pathlib import Path
from sync_client.cache import SQLiteCache
from sync_client.records import Arrival, Batch
cache = SQLiteCache(Path(sys.argv[1]))
cache.commit(Batch([Arrival(f"aaaaaaaa.{n}", "stage_change", "{}") for n in (1, 2, 3)], cursor="aaaaaaaa.3"))
print("ready", flush=True)
sys.stdin.read()
os._exit(1)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A cache whose client ended in order."""
    path = tmp_path / "cache" / "till.db"
    with closing(SQLiteCache(path)) as cache:
        cache.commit(Batch([Arrival(f"aaaaaaaa.{n}", "stage_change", "{}") for n in (1, 2, 3)], cursor="aaaaaaaa.3"))
        cache.mark([1], Mark.PROCESSED)
        cache.set_meta("lastConnectionTime", "2026-11-20T10:30:00.123Z")
    return path


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that has filled ``held/till.db`` and holds it; it is as good as killed in the end."""
    path = tmp_path / "held" / "till.db"
    argv = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process
        process.kill()


def snapshot(directory: Path) -> dict[str, tuple[bytes, int]]:
    """Names, contents and times of its files. The lock is free or not, whatever is in its file."""
    return {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in directory.iterdir()}


def check_unchanged_by_a_look(path: Path) -> None:
    before = snapshot(path.parent)
    look(path, limit=10)
    assert snapshot(path.parent) == before


def test_it_shows_what_is_there(path: Path) -> None:
    view = look(path, limit=2)
    assert [record.id for record in view.records] == ["aaaaaaaa.2", "aaaaaaaa.3"]
    assert dict(view.counts) == {Mark.WAITING: 2, Mark.PROCESSED: 1, Mark.PARKED: 0}
    assert (view.cursor, view.meta["lastConnectionTime"]) == ("aaaaaaaa.3", "2026-11-20T10:30:00.123Z")
    assert view.size_bytes == path.stat().st_size


def test_a_cache_at_rest_is_not_changed(path: Path) -> None:
    check_unchanged_by_a_look(path)


def test_a_cache_that_another_process_holds_is_shown_and_not_changed(
    holder: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    path = tmp_path / "held" / "till.db"
    assert look(path, limit=10).counts[Mark.WAITING] == 3
    check_unchanged_by_a_look(path)


def test_a_cache_whose_client_was_killed_is_shown_and_not_recovered(
    holder: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    holder.kill()
    holder.wait()
    path = tmp_path / "held" / "till.db"
    assert look(path, limit=10).cursor == "aaaaaaaa.3"
    check_unchanged_by_a_look(path)


def test_files_that_were_copied_without_their_index_are_shown(holder: subprocess.Popen[bytes], tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    for name in ("till.db", "till.db-wal"):
        shutil.copy(tmp_path / "held" / name, tmp_path / "copy")
    path = tmp_path / "copy" / "till.db"
    assert look(path, limit=10).cursor == "aaaaaaaa.3"
    check_unchanged_by_a_look(path)


def test_a_busy_writer_is_neither_disturbed_nor_half_seen(tmp_path: Path) -> None:
    path, stop = tmp_path / "till.db", threading.Event()
    wrong: list[tuple[str | None, str | None]] = []

    def watch() -> None:
        while not stop.is_set():
            view = look(path, limit=1)
            newest = view.records[-1].id if view.records else None
            if newest != view.cursor:
                wrong.append((newest, view.cursor))

    with closing(SQLiteCache(path)) as cache:
        watching = threading.Thread(target=watch)
        watching.start()
        for n in range(1, 2000):
            cache.commit(Batch([Arrival(f"aaaaaaaa.{n}", "x", "y" * 500)], cursor=f"aaaaaaaa.{n}"))
        stop.set()
        watching.join()
    assert wrong == []


def set_version(path: Path, pragma: str, value: int) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA {pragma}={value}")


@pytest.mark.parametrize(
    ("pragma", "words"), [("user_version", "another version"), ("application_id", "not a cache of this program")]
)
def test_what_is_not_ours_is_named_and_left_where_it_is(path: Path, pragma: str, words: str) -> None:
    set_version(path, pragma, 99)
    before = snapshot(path.parent)
    with pytest.raises(CacheUnreadable, match=words):
        look(path, limit=10)
    assert snapshot(path.parent) == before


@pytest.mark.parametrize(
    ("content", "words"), [(b"", "empty"), (b"no database" * 100, "damaged")], ids=["empty", "nonsense"]
)
def test_what_is_no_database_is_named_and_left_where_it_is(path: Path, content: bytes, words: str) -> None:
    path.write_bytes(content)
    before = snapshot(path.parent)
    with pytest.raises(CacheUnreadable, match=words):
        look(path, limit=10)
    assert snapshot(path.parent) == before


def test_a_damaged_page_is_named(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(bytes(content))
    with pytest.raises(CacheUnreadable, match="damaged"):
        look(path, limit=10)


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CacheUnreadable, match="cannot be read"):
        look(tmp_path / "none.db", limit=1)


def test_documents_are_counted(path: Path) -> None:
    def stored(document_id: str, state: DocumentState = DocumentState.LIVE) -> StoredDocument:
        return StoredDocument("order", document_id, 1, state, "aaaaaaaa", 1, 0, "{}")

    assert view_rows(look(path, limit=1))["documents"] == "-"
    with closing(SQLiteCache(path)) as cache:
        cache.commit(Batch(documents=[stored("a"), stored("b"), stored("c", DocumentState.DELETED)]))
    assert view_rows(look(path, limit=1))["documents"] == "2 order (a snapshot is due: first)"
    with closing(SQLiteCache(path)) as cache:
        cache.commit(Batch(snapshot_due=""))
    assert view_rows(look(path, limit=1))["documents"] == "2 order"


def test_a_file_of_the_version_before_is_shown_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    with closing(sqlite3.connect(path)) as db:
        db.executescript(FORMAT_1)
    before = snapshot(tmp_path)
    assert look(path, limit=9).cursor == "aaaaaaaa.1"
    assert snapshot(tmp_path) == before
