"""What time brings to the readers of a hub: heartbeats, silent advances, the end of their stay. All at once for all,
about every second; nothing here is a task or a timer per reader. Source: protocol.md 2.1.
"""

import random
from time import time_ns
from typing import TYPE_CHECKING

from sync_core.times import iso_from_ms
from sync_server.feed.channel import Channel
from sync_server.feed.connection import Chunk
from sync_server.feed.control import Goodbye
from sync_server.feed.framing import Framing

if TYPE_CHECKING:
    from sync_server.feed.hub import Hub
    from sync_server.feed.reader import Reader

__all__ = ["Clock"]

ADVANCE_SEQS = 1000
ADVANCE_S = 5.0
REJOIN_MS = (100, 1000)
"""How soon a reader comes back after a goodbye that is no failure."""


class Clock:
    """The timers of one hub's readers."""

    def __init__(self, hub: "Hub") -> None:
        self._hub = hub
        self._leaving: dict[int, dict[Reader, Goodbye]] = {}
        """Who is to leave, and why, by the second."""
        self._tick = int(hub.now())

    def admit(self, reader: "Reader", *, lifetime_s: float, farewell: Goodbye) -> None:
        """*reader* is told *farewell* after *lifetime_s*."""
        reader.leaves_tick = max(int(self._hub.now() + lifetime_s), self._tick + 1)
        self._leaving.setdefault(reader.leaves_tick, {})[reader] = farewell

    def forget(self, reader: "Reader") -> None:
        self._leaving.get(reader.leaves_tick, {}).pop(reader, None)

    def heartbeat_due(self) -> float:
        """When a reader that is written to now is due for a heartbeat."""
        return self._hub.now() + self._hub.settings.heartbeat_s * random.uniform(0.9, 1.1)

    def heartbeat(self, seq: int, framing: Framing) -> bytes:
        """A heartbeat for who has been brought up to *seq*."""
        hub = self._hub
        data = {
            "timestamp": iso_from_ms(time_ns() // 1_000_000),
            "head": hub.cursor_text(hub.tail.seq),
            "tailAgeMs": hub.tail.age_ms,
        }
        return framing.control("heartbeat", data, event_id=hub.cursor_text(seq))

    def sweep(self) -> None:
        """What is due by now."""
        hub, now = self._hub, self._hub.now()
        heartbeats: dict[Framing, Chunk] = {}
        for channel in hub.channels:
            if not channel.readers:
                continue
            if now >= channel.heartbeat_due_s:
                if not heartbeats:
                    hub.flush()  # their id must not run ahead of what is pending
                if channel.framing not in heartbeats:
                    heartbeats[channel.framing] = Chunk(self.heartbeat(hub.flushed, channel.framing))
                channel.heartbeat_due_s = self.heartbeat_due()
                self._send(channel, heartbeats[channel.framing])
            elif hub.flushed - channel.sent_seq > ADVANCE_SEQS and now - channel.advanced_s >= ADVANCE_S:
                channel.advanced_s = now
                self._send(channel, Chunk(channel.framing.advance(hub.cursor_text(hub.flushed))))
        while self._tick < int(now):
            self._tick += 1
            for reader, farewell in list(self._leaving.pop(self._tick, {}).items()):
                reader.close(farewell, retry_ms=random.randint(*REJOIN_MS))

    def _send(self, channel: Channel, chunk: Chunk) -> None:
        """Bring all of a channel's readers up to ``flushed``."""
        channel.sent_seq = self._hub.flushed
        self._hub.write(list(channel.readers), chunk)
