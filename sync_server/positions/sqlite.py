"""Positions in SQLite: an R*Tree over the unit sphere, in a file of its own beside the log's.

Of its own, since a position must not wait for the log's writer, nor the log for it, and since nothing is lost with
it: it hardly ever waits for the disk, and needs no backup. The tree's coordinates have 32 bits, rounded
outwards; the exact ones stand in the table, and decide.
"""

import sqlite3
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TypeVar

import structlog

from sync_server.log.base import LogMisconfigured
from sync_server.log.sqlite_connection import Connection, transaction
from sync_server.positions.base import Found, Place, Stored, nearest
from sync_server.positions.sphere import Vector, chord, distance_m, vector

__all__ = ["SQLitePositions"]

T = TypeVar("T")

log = structlog.get_logger("sync_server.positions")

_SCHEMA = (
    """CREATE TABLE IF NOT EXISTS positions (
        id INTEGER PRIMARY KEY, tenant TEXT NOT NULL, vehicle TEXT NOT NULL,
        lon REAL NOT NULL, lat REAL NOT NULL, at_ms INTEGER NOT NULL, heading REAL, speed REAL,
        x REAL NOT NULL, y REAL NOT NULL, z REAL NOT NULL,
        put_ms INTEGER NOT NULL, claimed_ms INTEGER NOT NULL, unlogged INTEGER NOT NULL,
        UNIQUE (tenant, vehicle))""",
    "CREATE INDEX IF NOT EXISTS positions_unlogged ON positions (tenant, put_ms) WHERE unlogged",
    "CREATE VIRTUAL TABLE IF NOT EXISTS positions_tree USING rtree (id, x0, x1, y0, y1, z0, z1)",
)
_PLACE = "vehicle, lon, lat, at_ms, heading, speed"
_PUT = """
    INSERT INTO positions (tenant, vehicle, lon, lat, at_ms, heading, speed, x, y, z, put_ms, claimed_ms, unlogged)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 1)
    ON CONFLICT (tenant, vehicle) DO UPDATE SET
        lon = excluded.lon, lat = excluded.lat, at_ms = excluded.at_ms, heading = excluded.heading,
        speed = excluded.speed, x = excluded.x, y = excluded.y, z = excluded.z, put_ms = excluded.put_ms, unlogged = 1
    WHERE excluded.at_ms > at_ms
    RETURNING id, claimed_ms"""
# CROSS JOIN: the tree first, whatever the planner thinks of it.
_NEAR = f"""
    SELECT {_PLACE}, x, y, z
    FROM positions_tree AS tree CROSS JOIN positions ON positions.id = tree.id
    WHERE tree.x0 <= ? AND tree.x1 >= ? AND tree.y0 <= ? AND tree.y1 >= ? AND tree.z0 <= ? AND tree.z1 >= ?
        AND +tenant = ?
    ORDER BY (x - ?) * (x - ?) + (y - ?) * (y - ?) + (z - ?) * (z - ?)
    LIMIT ?"""


def _prepare(db: sqlite3.Connection) -> None:
    db.execute("PRAGMA synchronous = NORMAL")  # a power cut may take the last seconds, and nothing else
    if db.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
        raise sqlite3.DatabaseError("the quick check has found damage")
    with transaction(db):
        for statement in _SCHEMA:
            db.execute(statement)


class SQLitePositions:
    """A PositionStore in one file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection = Connection(path, "positions")
        self._opened = False
        self._closed = False

    async def open(self) -> None:
        if self._opened:
            return
        try:
            await self._connection.run(_prepare)
        except LogMisconfigured:  # damaged: what was in it comes again by itself
            log.warning("positions_file_damaged", path=str(self._path))
            await self._connection.aclose()
            for suffix in ("", "-wal", "-shm"):
                self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
            self._connection = Connection(self._path, "positions")
            await self._connection.run(_prepare)
        self._opened = True

    async def _is_empty(self) -> bool:
        """Whether nothing was ever put here. Who has no vehicles has no file either."""
        if not self._opened and not self._path.exists():
            return True
        await self.open()
        return False

    async def aclose(self) -> None:
        if not self._closed:
            self._closed = True
            await self._connection.aclose()

    async def put(self, tenant: str, places: Sequence[Place], *, now_ms: int, interval_ms: int) -> Stored:
        def put(db: sqlite3.Connection) -> Stored:
            newer, due, claimed, boxes = [], [], [], []
            for place in places:
                at = vector(place.lon, place.lat)
                row = db.execute(_PUT, (tenant, *place, *at, now_ms)).fetchone()
                if row is None:
                    continue
                newer.append(place)
                boxes.append((row[0], at.x, at.x, at.y, at.y, at.z, at.z))
                if row[1] <= now_ms - interval_ms:
                    due.append(place)
                    claimed.append((now_ms, row[0]))
            db.executemany("INSERT OR REPLACE INTO positions_tree VALUES (?, ?, ?, ?, ?, ?, ?)", boxes)
            db.executemany("UPDATE positions SET claimed_ms = ? WHERE id = ?", claimed)
            return Stored(newer, due)

        return await self._write(put)

    async def overdue(
        self, tenant: str, *, now_ms: int, interval_ms: int, quiet_ms: int, limit: int = 1000
    ) -> list[Place]:
        def overdue(db: sqlite3.Connection) -> list[Place]:
            rows = db.execute(
                f"SELECT id, {_PLACE} FROM positions WHERE tenant = ? AND unlogged AND put_ms <= ? AND claimed_ms <= ? "
                "ORDER BY put_ms LIMIT ?",
                (tenant, now_ms - quiet_ms, now_ms - interval_ms, limit),
            ).fetchall()
            db.executemany("UPDATE positions SET claimed_ms = ? WHERE id = ?", [(now_ms, row[0]) for row in rows])
            return [Place(*row[1:]) for row in rows]

        return [] if await self._is_empty() else await self._write(overdue)

    async def logged(self, tenant: str, places: Collection[Place]) -> None:
        rows = [(tenant, place.vehicle_id, place.at_ms) for place in places]
        statement = "UPDATE positions SET unlogged = 0 WHERE tenant = ? AND vehicle = ? AND at_ms = ?"
        await self._write(lambda db: db.executemany(statement, rows))

    async def near(self, tenant: str, lon: float, lat: float, *, within_m: float, limit: int) -> list[Found]:
        center = vector(lon, lat)
        squares = [value for value in center for _ in range(2)]

        async def look(reach_m: float) -> list[Found]:
            reach = chord(reach_m)
            box = [bound for value in center for bound in (value + reach, value - reach)]
            rows = await self._connection.run(lambda db: db.execute(_NEAR, (*box, tenant, *squares, limit)).fetchall())
            found = [Found(Place(*row[:6]), distance_m(center, Vector(*row[6:]))) for row in rows]
            return [one for one in found if one.distance_m <= reach_m]

        if await self._is_empty():
            return []
        return await nearest(look, within_m=within_m, limit=limit)

    async def all(self, tenant: str, *, after: str = "", limit: int = 1000) -> list[Place]:
        statement = f"SELECT {_PLACE} FROM positions WHERE tenant = ? AND vehicle > ? ORDER BY vehicle LIMIT ?"
        if await self._is_empty():
            return []
        return await self._connection.run(
            lambda db: [Place(*row) for row in db.execute(statement, (tenant, after, limit))]
        )

    async def get(self, tenant: str, vehicle_ids: Collection[str]) -> list[Place]:
        statement = f"SELECT {_PLACE} FROM positions WHERE tenant = ? AND vehicle = ?"

        def get(db: sqlite3.Connection) -> list[Place]:
            rows = (db.execute(statement, (tenant, vehicle_id)).fetchone() for vehicle_id in vehicle_ids)
            return [Place(*row) for row in rows if row is not None]

        return [] if await self._is_empty() else await self._connection.run(get)

    async def forget(self, tenant: str, vehicle_ids: Collection[str]) -> None:
        rows = [(tenant, vehicle_id) for vehicle_id in vehicle_ids]

        def forget(db: sqlite3.Connection) -> None:
            db.executemany(
                "DELETE FROM positions_tree WHERE id = (SELECT id FROM positions WHERE tenant = ? AND vehicle = ?)",
                rows,
            )
            db.executemany("DELETE FROM positions WHERE tenant = ? AND vehicle = ?", rows)

        await self._write(forget)

    async def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        def within(db: sqlite3.Connection) -> T:
            with transaction(db):
                return work(db)

        await self.open()
        return await self._connection.run(within)
