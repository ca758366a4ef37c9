"""Writing processes that are killed, and whether the log is what they were told."""

import subprocess
import sys

from sync_server.log.base import EventLog
from tests.log.changes import check_documents, said
from tests.log.writes import TENANT, read_all, seqs


def write_and_be_killed(*place: str, mark: str, lines: int) -> dict[str, str]:
    """What a writing process was told until it was killed -9, some time after so many *lines*."""
    argv = [sys.executable, "-m", "tests.log.crash_writer", mark, *place]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            read = [process.stdout.readline() for _ in range(lines)]
        finally:
            process.kill()
        read += process.stdout.readlines()
    whole = [line.split() for line in read if line.endswith("\n")]
    assert len(whole) >= lines
    return dict(whole)


async def check_nothing_lost(event_log: EventLog, acknowledged: dict[str, str]) -> None:
    """Dense, nothing acknowledged lost or moved, nothing doubled, and the documents are what the log tells."""
    epoch = (await event_log.ensure(TENANT)).epoch
    events = await read_all(event_log)
    assert seqs(events) == list(range(1, len(events) + 1))
    found = dict(said(event, epoch) for event in events)
    assert acknowledged.items() <= found.items()
    assert len(set(found.values())) == len(events)
    await check_documents(event_log)
