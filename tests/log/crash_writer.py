"""Run as a process, to be killed: writes into a SQLite log and prints each id once it is acknowledged."""

import asyncio
import sys
from pathlib import Path

from sync_server.log.open import new_epoch
from sync_server.log.sqlite import SQLiteLog
from tests.log.writes import TENANT, make_appender, texts


async def main(path: Path, mark: str) -> None:
    event_log = SQLiteLog(path, new_epoch=new_epoch)
    await event_log.open()
    appender = make_appender(event_log)

    async def write(writer: int) -> None:
        for number in range(1_000_000):
            text = f"{mark}.{writer}.{number}"
            for receipt in await appender.append(TENANT, texts(text)):
                print(receipt.event_id, text, flush=True)

    await asyncio.gather(*(write(writer) for writer in range(8)))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
