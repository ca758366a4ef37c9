"""The thread that a SQLite connection lives on."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from sync_server.log.base import LogUnavailable
from sync_server.log.sqlite_connection import Connection, _connect


@pytest.fixture
async def connection(tmp_path: Path) -> AsyncIterator[Connection]:
    connection = Connection(tmp_path / "log.db", "sqlite-test")
    yield connection
    await connection.aclose()


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "sqlite-test"]


class Held:
    """Work that is under way until it is let go, and what was done after it."""

    def __init__(self) -> None:
        self.begun, self.let_go = threading.Event(), threading.Event()
        self.done: list[Any] = []

    def first(self, _: sqlite3.Connection) -> None:
        self.begun.set()
        assert self.let_go.wait(10)
        self.done.append("first")

    def then(self, what: Any) -> Callable[[sqlite3.Connection], None]:
        return lambda _: self.done.append(what)


async def hold(connection: Connection) -> tuple[Held, "asyncio.Task[None]"]:
    held = Held()
    task = asyncio.create_task(connection.run(held.first))
    assert await asyncio.to_thread(held.begun.wait, 10)
    return held, task


async def test_all_work_is_done_on_one_thread_in_order(connection: Connection) -> None:
    held, first = await hold(connection)
    others = [asyncio.create_task(connection.run(held.then(n))) for n in range(100)]
    await asyncio.sleep(0)
    assert len(threads()) == 1
    held.let_go.set()
    await asyncio.gather(first, *others)
    assert held.done == ["first", *range(100)]


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (ValueError("x"), ValueError),
        (sqlite3.OperationalError("locked"), LogUnavailable),
        (sqlite3.IntegrityError("twice"), sqlite3.IntegrityError),
        (StopIteration(), RuntimeError),
        (asyncio.CancelledError(), asyncio.CancelledError),
    ],
    ids=["error", "busy", "integrity", "stop", "cancelled"],
)
async def test_what_work_raises_is_told_and_the_next_is_done(
    connection: Connection, raised: BaseException, told: type[BaseException]
) -> None:
    def work(_: sqlite3.Connection) -> None:
        raise raised

    async with asyncio.timeout(10):
        with pytest.raises(told):
            await connection.run(work)
        assert await connection.run(lambda db: db.execute("SELECT 1").fetchone()) == (1,)


async def test_work_of_who_has_left_is_not_begun(connection: Connection) -> None:
    held, first = await hold(connection)
    left, stays = (asyncio.create_task(connection.run(held.then(name))) for name in ("left", "stays"))
    await asyncio.sleep(0)
    left.cancel()
    await asyncio.sleep(0)
    held.let_go.set()
    await asyncio.gather(first, stays)
    assert held.done == ["first", "stays"]


async def test_closing_finishes_what_was_asked_for_and_ends_the_thread(connection: Connection) -> None:
    held, first = await hold(connection)
    second = asyncio.create_task(connection.run(held.then("second")))
    await asyncio.sleep(0)
    closing = [asyncio.create_task(connection.aclose()) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(LogUnavailable, match="closed"):
        await connection.run(held.then("late"))
    held.let_go.set()
    async with asyncio.timeout(10):
        await asyncio.gather(first, second, *closing)
    assert held.done == ["first", "second"]
    assert threads() == []


async def test_a_thread_that_cannot_be_begun_is_tried_again(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_more(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", no_more)
        with pytest.raises(RuntimeError, match="new thread"):
            await connection.run(lambda _: None)
    async with asyncio.timeout(10):
        assert await connection.run(lambda db: db.execute("SELECT 1").fetchone()) == (1,)


async def test_a_file_that_is_gone_as_soon_as_it_is_opened_is_not_written_to(
    connection: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is acknowledged in a file without a name is lost with the process."""

    def connect_and_lose(path: Path) -> sqlite3.Connection:
        db = _connect(path)
        for file in tmp_path.glob("log.db*"):
            file.unlink()
        return db

    monkeypatch.setattr("sync_server.log.sqlite_connection._connect", connect_and_lose)
    for _ in range(2):
        with pytest.raises(LogUnavailable, match="deleted or replaced"):
            await connection.run(lambda db: db.execute("CREATE TABLE t (x)").fetchall())
