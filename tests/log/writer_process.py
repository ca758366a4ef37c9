"""Run as a process: one server's appender that writes a number of events, in requests of different sizes."""

import asyncio
import sys
from typing import cast

from sync_server.log.mongo import MongoLog
from sync_server.log.mongo_driver import Driver
from sync_server.log.open import new_epoch
from tests.log.writes import TENANT, make_appender, texts


async def main(uri: str, database: str, driver: str, names: str, count: str) -> None:
    """Each of *names* is a writer with a log and an appender of its own."""
    await asyncio.gather(*(write(uri, database, cast(Driver, driver), name, int(count)) for name in names.split(",")))


async def write(uri: str, database: str, driver: Driver, name: str, count: int) -> None:
    event_log = MongoLog(uri, database, new_epoch=new_epoch, driver=driver)
    await event_log.open()
    # Eight writers share two cores with their readers here: what is looked at is the order, not the time.
    appender = make_appender(event_log, deadline_s=60)
    for start in range(0, count, 50):
        first, requests = start, []
        for size in (1, 4, 5, 10, 30):
            requests.append(texts(*(f"{name}.{i}" for i in range(first, first + size))))
            first += size
        await asyncio.gather(*(appender.append(TENANT, request) for request in requests))
    await appender.aclose()
    await event_log.aclose()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
