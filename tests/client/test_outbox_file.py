"""The outbox on disk: what comes back, and what becomes of a file that cannot be used."""

import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sync_client.errors import CacheUnwritable
from sync_client.outbox_file import OutboxDamaged, OutboxFile
from sync_client.pending import OutboxEntry, OutboxState
from sync_core.domain import orders
from sync_core.domain.catalog import DOMAIN
from sync_core.domain.command import Domain
from tests.client.outboxes import ORDER, pending


def entry(n: int) -> OutboxEntry:
    return OutboxEntry(n, pending(n))


def keys(file: OutboxFile) -> list[str]:
    return [entry.key for entry in file.load()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "till.outbox.sqlite"


def test_all_of_a_command_comes_back(path: Path) -> None:
    items = [{"sku": "W1", "name": "Wäsche", "quantity": 2, "unitPrice": "12.50", "extra": {"a": [1]}}]
    command = replace(pending(1, command=orders.edit, orderID=ORDER, items=items, notes=None), guard=7)
    failed = OutboxEntry(
        3, command, OutboxState.FAILED, first_sent_ms=5, attempts=2, rebases=1, leans={"key-0": 1}, problem={"a": "ü"}
    )
    file = OutboxFile(path, DOMAIN)
    file.write(put=[failed])
    file.close()
    (back,) = OutboxFile(path, DOMAIN).load()
    assert back == failed
    assert back.command.given.model_fields_set == {"orderID", "items", "notes"}  # a null takes away, absence does not
    assert back.command.body() == command.body()


def test_commands_come_back_in_the_order_of_their_places(path: Path) -> None:
    file = OutboxFile(path, DOMAIN)
    file.write(put=[entry(2)])
    file.write(put=[entry(1), entry(10)])
    assert keys(file) == ["key-1", "key-2", "key-10"]


def test_one_commit_takes_out_and_puts_in(path: Path) -> None:
    file = OutboxFile(path, DOMAIN)
    file.write(put=[entry(1), entry(2)])
    file.write(put=[replace(entry(2), attempts=9), OutboxEntry(1, pending(5))], drop=["key-1"])
    assert [(e.key, e.attempts) for e in file.load()] == [("key-5", 0), ("key-2", 9)]


def test_a_commit_is_on_the_disk_when_it_returns(path: Path) -> None:
    file = OutboxFile(path, DOMAIN)
    file.write(drop=["key-0"], lazily=True)
    file.write(put=[entry(1)])
    assert file._db.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
    copy = path.with_name("copy")
    for suffix in ("", "-wal"):
        shutil.copy(str(path) + suffix, str(copy) + suffix)
    assert keys(OutboxFile(copy, DOMAIN)) == ["key-1"]


def test_a_command_that_this_program_does_not_know_stays_in_the_file_unsent(path: Path) -> None:
    file = OutboxFile(path, DOMAIN)
    file.write(put=[entry(1), OutboxEntry(2, pending(2, command=orders.delete, orderID=ORDER))])
    file._db.execute("UPDATE commands SET given = '{\"orderID\": 7}' WHERE key = 'key-1'")
    file.close()
    older = Domain(kinds=DOMAIN.kinds.values(), commands=[orders.set_status], event_types=DOMAIN.event_types)
    other = OutboxFile(path, older)
    assert other.load() == []
    assert other.unknown == 2
    other.write(put=[entry(3)])
    other.close()
    again = OutboxFile(path, DOMAIN)
    assert keys(again) == ["key-2", "key-3"]
    assert again.unknown == 1


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def scribble(path: Path) -> None:
    path.write_bytes(b"no database at all" * 500)


def break_pages(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("damage", [cut, scribble, break_pages], ids=lambda damage: damage.__name__)
def test_a_damaged_file_is_set_aside_and_named_at_every_start(path: Path, damage: Callable[[Path], None]) -> None:
    file = OutboxFile(path, DOMAIN)
    file.write(put=[entry(n) for n in range(200)])
    file.close()
    damage(path)
    before = path.read_bytes()
    anew = OutboxFile(path, DOMAIN)
    aside = path.with_name(path.name + ".damaged-1")
    assert anew.load() == []
    assert (anew.newly_set_aside, anew.set_aside) == (aside, [aside])
    assert aside.read_bytes() == before
    anew.write(put=[entry(1)])
    anew.close()
    later = OutboxFile(path, DOMAIN)
    assert (later.newly_set_aside, later.set_aside, keys(later)) == (None, [aside], ["key-1"])


def test_a_newer_versions_file_is_left_whole(path: Path) -> None:
    file = OutboxFile(path, DOMAIN)
    file.write(put=[entry(1)])
    file._db.execute("PRAGMA user_version = 99")
    file.close()
    older = OutboxFile(path, DOMAIN)
    aside = path.with_name(path.name + ".foreign-1")
    assert (older.newly_set_aside, older.load()) == (aside, [])
    assert sqlite3.connect(aside).execute("SELECT key FROM commands").fetchall() == [("key-1",)]


def test_damage_that_shows_in_use_is_told_and_everything_can_be_written_anew(path: Path) -> None:
    file = OutboxFile(path, DOMAIN)
    entries = [entry(n) for n in range(200)]
    file.write(put=entries)
    file._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    break_pages(path)
    file._db.execute("PRAGMA cache_size = 0")
    with pytest.raises(OutboxDamaged):
        file.write(put=[entry(n) for n in range(300, 400)])
    file.begin_anew(entries)
    assert file.load() == entries
    assert [aside.name for aside in file.set_aside] == ["till.outbox.sqlite.damaged-1"]


def test_one_that_was_removed_while_in_use_is_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "here" / "till.outbox.sqlite"
    file = OutboxFile(path, DOMAIN)
    file.write(put=[entry(1)])
    shutil.rmtree(path.parent)
    with pytest.raises(OutboxDamaged, match="removed"):
        file.write(put=[entry(2)])
    file.begin_anew([entry(1), entry(2)])
    file.write(put=[entry(3)])
    file.close()
    assert keys(OutboxFile(path, DOMAIN)) == ["key-1", "key-2", "key-3"]
    assert (file.set_aside, file.newly_set_aside) == ([], None)


def test_one_that_another_program_has_made_meanwhile_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "here" / "till.outbox.sqlite"
    file = OutboxFile(path, DOMAIN)
    shutil.rmtree(path.parent)
    other = OutboxFile(path, DOMAIN)
    other.write(put=[entry(1)])
    with pytest.raises(CacheUnwritable, match="another file is in its place"):
        file.write(put=[entry(2)])
    assert keys(other) == ["key-1"]


class Full(OutboxFile):
    """A disk without room."""

    has_room = True

    def _commit(self, **what: Any) -> None:
        if not self.has_room:
            raise sqlite3.OperationalError("database or disk is full")
        super()._commit(**what)


def test_writing_anew_is_tried_again_and_nothing_is_taken_meanwhile(path: Path) -> None:
    file = Full(path, DOMAIN)
    entries = [entry(1), entry(2)]
    file.write(put=entries)
    file.has_room = False
    with pytest.raises(CacheUnwritable):
        file.begin_anew(entries)
    file.has_room = True
    with pytest.raises(OutboxDamaged):  # else it would hold this one, and not those before it
        file.write(put=[entry(3)])
    file.begin_anew([*entries, entry(3)])
    assert keys(file) == ["key-1", "key-2", "key-3"]
    assert len(file.set_aside) == 1


def test_a_commit_that_does_not_fit_stores_nothing_of_it(path: Path) -> None:
    file = OutboxFile(path, DOMAIN)
    file.write(put=[entry(1)])
    pages = file._db.execute("PRAGMA page_count").fetchone()[0]
    file._db.execute(f"PRAGMA max_page_count={pages + 2}")
    with pytest.raises(CacheUnwritable, match=r"till\.outbox\.sqlite"):
        file.write(put=[entry(n) for n in range(2, 3000)], drop=["key-1"])
    assert keys(file) == ["key-1"]


def test_a_lock_of_another_program_is_not_taken_for_damage(path: Path) -> None:
    file = OutboxFile(path, DOMAIN, busy_s=0.05)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(CacheUnwritable, match="locked"):
        file.write(put=[entry(1)])
    other.execute("ROLLBACK")
    file.write(put=[entry(1)])
    assert file.set_aside == []


def test_a_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheUnwritable):
        OutboxFile(tmp_path / "file" / "x.outbox.sqlite", DOMAIN)
