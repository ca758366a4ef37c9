"""One reader of the event stream: a cursor and a connection, never a queue.

    joining --> behind <--> live --> closed

*live*: it is in its channel and the hub's flush writes to it. *behind*: a task of its own brings it up from
its cursor, from the window or from the log, or waits for its socket; while that is blocked the reader costs
nothing and delays nobody. The last step copies from the window and joins the channel without an await, so
there is neither gap nor duplicate.
"""

import asyncio
import random
from typing import TYPE_CHECKING

import structlog

from sync_server.feed.connection import Blocked, Chunk, Connection
from sync_server.feed.control import Goodbye, Reset
from sync_server.feed.framing import SSE, Framing
from sync_server.feed.newest import Seen
from sync_server.feed.pages import Hole
from sync_server.feed.replays import Replay, end_of_piece, is_meeting_place
from sync_server.feed.view import View
from sync_server.feed.window import PIECE_EVENTS, FeedEvent, piece, thin
from sync_server.log.base import LogError

if TYPE_CHECKING:
    from sync_server.feed.hub import Hub

__all__ = ["Reader"]

LOG_RETRY_S = 0.5

log = structlog.get_logger("sync_server.feed")


class Reader:
    """A stream in progress. Made by the hub; *cursor* counts only while the reader is not live."""

    __slots__ = (
        "_blocked", "_caught_up_sent", "_connection", "_framing", "_heartbeat_due_s", "_hub", "_root_path", "_seen",
        "_task", "channel", "closed", "cursor", "leaves_tick", "live", "view",
    )  # fmt: skip

    def __init__(
        self,
        hub: "Hub",
        connection: Connection,
        *,
        view: View,
        cursor: int,
        framing: Framing = SSE,
        root_path: str = "",
    ) -> None:
        self._hub = hub
        self._connection = connection
        self._framing = framing
        self._root_path = root_path
        self.cursor = cursor
        self.live = False
        self.closed = False
        self.channel = hub.channels.channel(view.sight.shared, framing)
        self.view = view.within(self.channel.sight)
        self.leaves_tick = 0
        self._heartbeat_due_s = hub.clock.heartbeat_due()
        self._blocked = False
        self._caught_up_sent = False
        self._task: asyncio.Task[None] | None = None
        self._seen = Seen(hub.newest.tick)

    @property
    def position(self) -> int:
        """Seq up to which everything that is for this reader was written to it."""
        return self._hub.flushed if self.live else self.cursor

    @property
    def cursor_text(self) -> str:
        """The same as a cursor."""
        return self._hub.cursor_text(self.position)

    def begin(self, opening: bytes) -> None:
        """Write *opening* and what the cursor still lacks; join at once if that is little, and not too many do so."""
        hub = self._hub
        at_once = self.cursor >= hub.flushed or hub.turns.take_now()
        if not (at_once and self._try_join(opening)):
            self._go_behind(self._connection.write(Chunk(opening)))

    def write(self, chunk: Chunk) -> None:
        """The hub's push to a live reader. If the socket is full the reader falls behind, after *chunk*."""
        blocked = self._connection.write(chunk)
        if blocked is not None:
            self.cursor = self._hub.flushed
            self._seen = Seen(self._hub.newest.tick)
            self.leave()
            self._go_behind(blocked)

    def leave(self) -> None:
        """Out of the live readers."""
        if self.live:
            self.live = False
            self._hub.channels.leave(self)

    def close(self, reason: Goodbye, *, retry_ms: int) -> None:
        """Say goodbye if the socket takes it, and end the stream."""
        if self.closed:
            return
        cursor = self.position
        self.discard()
        self._hub.metrics.goodbyes.labels(reason.value).inc()
        if self._blocked:
            # In the middle of a write: nothing can be put in order behind that.
            self._connection.abort()
        else:
            data = {"reason": reason.value}
            event_id = self._hub.cursor_text(cursor)
            self._connection.finish(self._framing.control("goodbye", data, event_id=event_id, retry_ms=retry_ms))

    def discard(self) -> None:
        """The stream is over: let go of everything. Idempotent."""
        if self.closed:
            return
        self.closed = True
        self.leave()
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()
        self._hub.forget(self)

    def abandon(self) -> None:
        """Cut the stream in the middle; the client comes back with its cursor."""
        self.discard()
        self._connection.abort()

    def rewind(self, reason: Reset) -> None:
        """The log under the cursor is gone: tell the reader, who goes on from head."""
        if self.closed:
            return
        self.leave()
        if self._task is not None:
            self._task.cancel()
            self._task = None
        self._go_behind(self._connection.write(Chunk(self._reset_block(reason))))

    # -- catching up ------------------------------------------------------------------------------------

    def _reset_block(self, reason: Reset) -> bytes:
        """A reset block; the cursor is at head from here on."""
        hub = self._hub
        hub.flush()
        self.cursor = hub.flushed
        hub.metrics.resets.labels(reason.value).inc()
        document = hub.reset_document(reason, root_path=self._root_path)
        return self._framing.control("reset", document, event_id=hub.cursor_text(self.cursor))

    def _go_behind(self, blocked: Blocked | None) -> None:
        behind = self._hub.metrics.readers_behind
        self._blocked = blocked is not None
        self._task = self._hub.spawn(self._catch_up(blocked))
        behind.inc()
        # Not in the task itself: one that is cancelled before its first step runs nothing of its own.
        self._task.add_done_callback(lambda _: behind.dec())

    def _try_join(self, opening: bytes = b"") -> bool:
        """Write the rest and go live, without an await, if the window holds it and it is one piece."""
        hub = self._hub
        # What is pending is noted only in channels that were there when it came; the one to be joined may
        # not have been. So nothing may be pending in the step that joins.
        if hub.flushed != hub.tail.seq:
            hub.flush()
        window = hub.tail.window
        if not window.before <= self.cursor <= hub.flushed:
            return False
        events = window.after(self.cursor, upto=hub.flushed)
        if events and events[-1].seq < hub.flushed:
            return False
        passed, seen = hub.newest.after(self._seen)
        if seen.tick < hub.newest.tick:
            return False
        body = opening + self._visible(events) + self._visible(passed)
        self._seen = seen
        self.cursor = hub.flushed
        if not self._caught_up_sent:
            self._caught_up_sent = True
            body += self._framing.control("caught_up", {}, event_id=hub.cursor_text(self.cursor))
        if events:
            hub.metrics.replays.labels("window").inc()
        blocked = self._connection.write(Chunk(body)) if body else None
        if blocked is not None:
            self._go_behind(blocked)
        else:
            self._go_live()
        return True

    def _go_live(self) -> None:
        self.live = True
        self._task = None
        self.channel = self._hub.channels.channel(self.view.sight.shared, self._framing)
        self._hub.join(self)

    def _visible(self, events: list[FeedEvent], *, for_others: bool = False) -> bytes:
        """The visible ones of *events*, which follow the cursor; kept *for_others* who come by here."""
        hub, view = self._hub, self.view
        visible = thin(view.shown(events), hub.latest)
        hub.count_deliveries(len(visible))
        body = self._framing.events(visible)
        # Not what ends here only because there is no more yet: going on from here, one would meet nobody.
        if for_others and (is_meeting_place(events[-1].seq) or events[-1].seq < hub.flushed):
            sight, framing = self.channel.sight, self._framing
            hub.replays.keep(
                self.cursor, events, body, deliveries=len(visible), sight=sight, framing=framing, view=view
            )
        return body

    async def _catch_up(self, blocked: Blocked | None) -> None:
        """From the cursor to the live feed; the reader's own task."""
        hub = self._hub
        try:
            await self._drain(blocked)
            meets_others = is_meeting_place(self.cursor)
            while True:
                replay = self._replay() if meets_others else None
                events = [] if replay is not None else await self._next_events()
                await hub.turns.take()
                # Not tried where it cannot be: the window would be copied from in vain, once for each piece.
                if hub.flushed - self.cursor <= PIECE_EVENTS and self._try_join():
                    return
                if replay is None and meets_others:
                    replay = self._replay()  # of who had the turn before
                if replay is not None:
                    self.cursor = replay.last
                    hub.count_deliveries(replay.deliveries)
                    hub.metrics.replays.labels("shared").inc()
                    await self._write(replay.body or self._sign_of_life())
                elif events:
                    body = self._visible(events, for_others=meets_others)
                    self.cursor = events[-1].seq
                    meets_others = meets_others or is_meeting_place(self.cursor)
                    await self._write(body or self._sign_of_life())
                elif self.cursor < hub.tail.floor:
                    await self._write(self._reset_block(Reset.EXPIRED))
                else:
                    passed, self._seen = hub.newest.after(self._seen)
                    await self._write(self._visible(passed))
        except TimeoutError:
            hub.metrics.slow_closes.inc()
            hub.metrics.goodbyes.labels(Goodbye.SLOW.value).inc()
            self.discard()
            self._connection.abort()
        except Exception:
            log.exception("reader_failed", tenant=hub.tenant)
            self.discard()
            self._connection.abort()

    async def _next_events(self) -> list[FeedEvent]:
        """What follows the cursor, from memory or from the log; while that is unreadable, heartbeats.

        Nothing if the cursor has fallen below the floor.
        """
        hub, tail = self._hub, self._hub.tail
        while self.cursor < tail.window.before:
            if self.cursor < tail.floor:
                return []
            try:
                events = await tail.pages.after(self.cursor, floor=tail.floor)
            except (LogError, Hole) as exc:
                if isinstance(exc, Hole):
                    await tail.found_hole(self.cursor)
                    if self.cursor < tail.floor:
                        return []
            else:
                # Never beyond what was flushed: joining expects the cursor at or before it.
                return piece(events[: min(hub.flushed, end_of_piece(self.cursor)) - self.cursor])
            await self._write(self._sign_of_life())
            await asyncio.sleep(LOG_RETRY_S * random.uniform(0.5, 1.5))
        return tail.window.after(self.cursor, upto=min(hub.flushed, end_of_piece(self.cursor)))

    def _replay(self) -> Replay | None:
        """What others at this cursor were sent."""
        hub = self._hub
        if self.cursor < hub.tail.floor:
            return None
        return hub.replays.after(self.cursor, sight=self.channel.sight, framing=self._framing, view=self.view)

    def _sign_of_life(self) -> bytes:
        """A heartbeat where one is due: an unreadable log, or a long way through hidden events, is no silence."""
        hub = self._hub
        return hub.clock.heartbeat(self.cursor, self._framing) if hub.now() >= self._heartbeat_due_s else b""

    async def _write(self, body: bytes) -> None:
        if body:
            self._heartbeat_due_s = self._hub.clock.heartbeat_due()
            await self._drain(self._connection.write(Chunk(body)))

    async def _drain(self, blocked: Blocked | None) -> None:
        """Wait until the socket has taken a write. Raises TimeoutError for a reader that does not read."""
        if blocked is not None:
            self._blocked = True
            async with asyncio.timeout(self._hub.settings.slow_close_s):
                await blocked
            self._blocked = False
