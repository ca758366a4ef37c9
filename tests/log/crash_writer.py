"""Run as a process, to be killed: writes events and documents, and prints what each is acknowledged by, and its text.

python -m tests.log.crash_writer <mark> <path of a SQLite log>
python -m tests.log.crash_writer <mark> <MongoDB URI> <database>
"""

import asyncio
import sys
from pathlib import Path

import structlog

from sync_server.log.base import EventLog
from sync_server.log.mongo import MongoLog
from sync_server.log.open import new_epoch
from sync_server.log.sqlite import SQLiteLog
from tests.log.changes import Change
from tests.log.writes import TENANT, make_appender, texts

DOCUMENTS = 5


async def main(mark: str, *place: str) -> None:
    event_log: EventLog
    if len(place) == 1:
        event_log = SQLiteLog(Path(place[0]), new_epoch=new_epoch)
    else:
        event_log = MongoLog(*place, new_epoch=new_epoch)
    await event_log.open()
    appender = make_appender(event_log)

    async def write(writer: int) -> None:
        for number in range(1_000_000):
            text = f"{mark}.{writer}.{number}"
            if number % 2:
                document = f"d{(writer + number) % DOCUMENTS}"
                (version,) = await appender.append(TENANT, Change(text, (document,)))
                print(f"{document}@{version}", text, flush=True)
            else:
                (receipt,) = await appender.append(TENANT, texts(text))
                print(receipt.event_id, text, flush=True)

    await asyncio.gather(*(write(writer) for writer in range(8)))


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # standard output is read
    asyncio.run(main(*sys.argv[1:]))
