"""Positions in MongoDB: a collection with a 2dsphere index, in the log's database.

Written with the acknowledgement of the primary alone: a position that is lost with it is followed by the next one.
"""

import asyncio
from collections.abc import Collection, Sequence
from math import sqrt
from typing import Any
from uuid import uuid4

from pymongo import GEOSPHERE, UpdateOne
from pymongo.errors import BulkWriteError
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from sync_server.log.mongo_driver import Driver, answering, open_client, settle
from sync_server.positions.base import FIRST_LOOK_M, Found, Place, Stored, nearest
from sync_server.positions.sphere import EARTH_RADIUS_M, HALF_ROUND_M, distance_m, vector

__all__ = ["MongoPositions"]

MONGO_RADIUS_M = 6_378_100.0
"""The server's sphere, by which it takes distances in metres: a larger one, on which the order is the same."""
_DUPLICATE_KEY = 11000
_NOT_THE_PLACE = {"_id": 0, "vehicle": 1, "point": 1, "at_ms": 1, "heading": 1, "speed": 1}


class MongoPositions:
    """A PositionStore in the collection ``positions``."""

    def __init__(self, uri: str, database: str, *, driver: Driver = "pymongo") -> None:
        self._client = open_client(driver, uri)
        self._rows = self._client.get_database(
            database, write_concern=WriteConcern(1), read_concern=ReadConcern("local")
        )["positions"]
        self._lock = asyncio.Lock()
        self._opened = False
        self._apart_m: dict[str, float] = {}
        """How far apart vehicles were where somebody last looked: it spares most looks, which are round trips."""

    async def open(self) -> None:
        async with self._lock:
            if self._opened:
                return
            async with answering():
                await self._rows.create_index([("tenant", 1), ("point", GEOSPHERE)])
                await self._rows.create_index([("tenant", 1), ("vehicle", 1)], unique=True)
                await self._rows.create_index(
                    [("tenant", 1), ("put_ms", 1)], partialFilterExpression={"unlogged": True}
                )
            self._opened = True

    async def aclose(self) -> None:
        await settle(self._client.close())

    async def put(self, tenant: str, places: Sequence[Place], *, now_ms: int, interval_ms: int) -> Stored:
        await self._ready()
        writes = [UpdateOne(_if_older(tenant, place), _update(tenant, place, now_ms), upsert=True) for place in places]
        stale: set[int] = set()
        async with answering():
            try:
                if writes:
                    await self._rows.bulk_write(writes, ordered=False)
            except BulkWriteError as exc:
                errors = exc.details["writeErrors"]
                if any(error["code"] != _DUPLICATE_KEY for error in errors) or exc.details["writeConcernErrors"]:
                    raise
                # What is there is newer, so the filter found nothing, and the upsert found it there.
                stale = {error["index"] for error in errors}
        newer = [place for index, place in enumerate(places) if index not in stale]
        wanted = {"_id": {"$in": [_key(tenant, place.vehicle_id) for place in newer]}}
        claimed = {place.vehicle_id for place in await self._claim(wanted, now_ms, interval_ms)} if newer else set()
        return Stored(newer, [place for place in newer if place.vehicle_id in claimed])

    async def overdue(
        self, tenant: str, *, now_ms: int, interval_ms: int, quiet_ms: int, limit: int = 1000
    ) -> list[Place]:
        await self._ready()
        wanted = {"tenant": tenant, "unlogged": True, "put_ms": {"$lte": now_ms - quiet_ms}}
        async with answering():
            rows = (
                await self._rows.find(wanted | _unclaimed(now_ms, interval_ms), {"_id": 1}).limit(limit).to_list(None)
            )
        if not rows:
            return []
        return await self._claim(wanted | {"_id": {"$in": [row["_id"] for row in rows]}}, now_ms, interval_ms)

    async def _claim(self, wanted: dict[str, Any], now_ms: int, interval_ms: int) -> list[Place]:
        """Those of *wanted* that are due, claimed for this process: each by one only, since an update is atomic."""
        token = uuid4().hex
        async with answering():
            result = await self._rows.update_many(
                wanted | _unclaimed(now_ms, interval_ms), {"$set": {"claimed_ms": now_ms, "token": token}}
            )
            if not result.modified_count:
                return []
            keys = {"_id": wanted["_id"]}
            return [_place(row) for row in await self._rows.find(keys | {"token": token}).to_list(None)]

    async def logged(self, tenant: str, places: Collection[Place]) -> None:
        await self._ready()
        writes = [
            UpdateOne({"_id": _key(tenant, place.vehicle_id), "at_ms": place.at_ms}, {"$set": {"unlogged": False}})
            for place in places
        ]
        async with answering():
            if writes:
                await self._rows.bulk_write(writes, ordered=False)

    async def near(self, tenant: str, lon: float, lat: float, *, within_m: float, limit: int) -> list[Found]:
        center = vector(lon, lat)

        async def look(reach_m: float) -> list[Found]:
            places = await self._around(tenant, lon, lat, reach_m=reach_m, limit=limit)
            found = [Found(place, distance_m(center, vector(place.lon, place.lat))) for place in places]
            return [one for one in found if one.distance_m <= reach_m]

        await self._ready()
        first_m = 1.3 * sqrt(limit) * self._apart_m.get(tenant, FIRST_LOOK_M / sqrt(limit))
        found = await nearest(look, within_m=within_m, limit=limit, first_m=first_m)
        if len(found) == limit:
            self._apart_m[tenant] = max(found[-1].distance_m / sqrt(limit), 1.0)
        return found

    async def _around(self, tenant: str, lon: float, lat: float, *, reach_m: float, limit: int) -> list[Place]:
        # A little more than asked for: what is at the very edge is for our own sum to decide.
        most_m = min(reach_m, HALF_ROUND_M) * MONGO_RADIUS_M / EARTH_RADIUS_M * (1 + 1e-9) + 0.01
        stage = {
            "near": {"type": "Point", "coordinates": [lon, lat]}, "key": "point", "spherical": True,
            "query": {"tenant": tenant}, "maxDistance": most_m, "distanceField": "distance",
        }  # fmt: skip
        pipeline = [{"$geoNear": stage}, {"$limit": limit}, {"$project": _NOT_THE_PLACE}]
        async with answering():
            rows = await (await settle(self._rows.aggregate(pipeline))).to_list(None)
        return [_place(row) for row in rows]

    async def all(self, tenant: str, *, after: str = "", limit: int = 1000) -> list[Place]:
        await self._ready()
        wanted = {"tenant": tenant, "vehicle": {"$gt": after}}
        async with answering():
            rows = await self._rows.find(wanted, _NOT_THE_PLACE).sort("vehicle", 1).limit(limit).to_list(None)
        return [_place(row) for row in rows]

    async def get(self, tenant: str, vehicle_ids: Collection[str]) -> list[Place]:
        await self._ready()
        async with answering():
            keys = [_key(tenant, vehicle_id) for vehicle_id in vehicle_ids]
            rows = await self._rows.find({"_id": {"$in": keys}}, _NOT_THE_PLACE).to_list(None)
        return [_place(row) for row in rows]

    async def forget(self, tenant: str, vehicle_ids: Collection[str]) -> None:
        await self._ready()
        async with answering():
            await self._rows.delete_many({"_id": {"$in": [_key(tenant, vehicle_id) for vehicle_id in vehicle_ids]}})

    async def _ready(self) -> None:
        if not self._opened:
            await self.open()


def _key(tenant: str, vehicle_id: str) -> str:
    return f"{tenant}/{vehicle_id}"


def _if_older(tenant: str, place: Place) -> dict[str, Any]:
    return {"_id": _key(tenant, place.vehicle_id), "at_ms": {"$lt": place.at_ms}}


def _update(tenant: str, place: Place, now_ms: int) -> dict[str, Any]:
    content = {
        "tenant": tenant, "vehicle": place.vehicle_id, "at_ms": place.at_ms, "heading": place.heading,
        "speed": place.speed, "point": {"type": "Point", "coordinates": [place.lon, place.lat]},
        "put_ms": now_ms, "unlogged": True,
    }  # fmt: skip
    return {"$set": content, "$setOnInsert": {"claimed_ms": 0}}


def _unclaimed(now_ms: int, interval_ms: int) -> dict[str, Any]:
    return {"claimed_ms": {"$lte": now_ms - interval_ms}}


def _place(row: dict[str, Any]) -> Place:
    lon, lat = row["point"]["coordinates"]
    return Place(row["vehicle"], lon, lat, row["at_ms"], row["heading"], row["speed"])
