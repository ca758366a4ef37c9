"""Run as a process, to be killed or frozen: a server in the middle of a transaction.

Its submission, once it has the tenant's head and is asked to decide, prints "held" and waits for a line on
standard input: the transaction is open, its session registered, and nothing of it is committed.
"""

import asyncio
import sys
from dataclasses import dataclass
from typing import cast

import structlog

from sync_core.domain.document import Ref
from sync_server.api.submission import Receipt
from sync_server.log.group import Decision, View
from sync_server.log.mongo import MongoLog
from sync_server.log.mongo_driver import Driver
from sync_server.log.open import new_epoch
from sync_server.log.records import OutcomeKey
from tests.log.writes import TENANT, make_appender, note, texts


@dataclass
class Holding:
    """A Write that takes its time, once."""

    size_bytes: int = 10
    reserve: int = 1
    keys: tuple[OutcomeKey, ...] = ()
    refs: tuple[Ref, ...] = ()
    held: bool = False

    def decide(self, view: View) -> Decision[tuple[Receipt, ...]]:
        if not self.held:
            self.held = True
            print("held", flush=True)
            sys.stdin.readline()
        return Decision([note("held")], {}, (Receipt(f"{view.epoch}.{view.next_seq}", "t", duplicate=False),))


async def main(uri: str, database: str, driver: str) -> None:
    event_log = MongoLog(uri, database, new_epoch=new_epoch, driver=cast(Driver, driver))
    await event_log.open()
    appender = make_appender(event_log)
    await appender.append(TENANT, texts("before"))
    (receipt,) = await appender.append(TENANT, Holding())
    print(receipt.event_id, flush=True)
    await event_log.aclose()


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # standard output is read
    asyncio.run(main(*sys.argv[1:]))
