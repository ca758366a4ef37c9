"""Where a reader begins: what its cursor means to the log as it is now. Source: protocol.md 2."""

import asyncio
from dataclasses import dataclass

from sync_core.cursor import EARLIEST, NOW, Cursor, MalformedCursor
from sync_core.problems import Unavailable
from sync_server.feed.control import Reset
from sync_server.feed.hub import Hub
from sync_server.feed.tail import FUTURE_PATIENCE_S

__all__ = ["Pin", "pin", "reset_pin"]

RETRY_AFTER_S = 2
LOOK_AGAIN_S = 0.05


@dataclass(frozen=True, slots=True)
class Pin:
    """Where a reader begins. *reset* is set where its cursor led nowhere; then *seq* is the head."""

    epoch: str
    seq: int
    resume: str
    reset: Reset | None = None


async def pin(hub: Hub, text: str | None) -> Pin:
    """Where a reader with the cursor *text* begins. In memory, but for cursors that are ahead of us.

    Raises Unavailable if it cannot be told in time.
    """
    tail = hub.tail
    if text is None or text == NOW:
        hub.flush()
        return Pin(tail.epoch, hub.flushed, "now")
    if text == EARLIEST:
        await tail.refresh()  # the floor may have moved since it was last looked at
        return Pin(tail.epoch, tail.floor, "start")
    try:
        cursor = Cursor.parse(text)
    except MalformedCursor:
        return reset_pin(hub, Reset.MALFORMED)
    if cursor.epoch != tail.epoch or cursor.seq > tail.seq:
        # Perhaps it comes from a process that is ahead of this one: only the log itself can tell.
        await _catch_sight_of(hub, cursor)
    if cursor.epoch != tail.epoch:
        return reset_pin(hub, Reset.EPOCH)
    if cursor.seq > tail.seq:
        return reset_pin(hub, Reset.FUTURE)
    if cursor.seq < tail.floor:
        return reset_pin(hub, Reset.EXPIRED)
    return Pin(tail.epoch, cursor.seq, "resumed")


def reset_pin(hub: Hub, reason: Reset) -> Pin:
    """At head, for a reader whose cursor leads nowhere."""
    hub.flush()
    return Pin(hub.tail.epoch, hub.flushed, "reset", reason)


async def _catch_sight_of(hub: Hub, cursor: Cursor) -> None:
    """Wait until the tail has come to *cursor*, as long as fresh reads of the log say that it may."""
    tail = hub.tail
    deadline_s = hub.now() + FUTURE_PATIENCE_S
    while True:
        bounds = await tail.refresh()
        if bounds is None:
            raise Unavailable("The event log cannot be read now.", retry_after_s=RETRY_AFTER_S)
        if cursor.epoch != tail.epoch or cursor.seq <= tail.seq:
            return
        if hub.now() >= deadline_s:
            if bounds.head >= cursor.seq:
                raise Unavailable("This server is behind the event log.", retry_after_s=RETRY_AFTER_S)
            return
        await asyncio.sleep(LOOK_AGAIN_S)
