"""The feed's WebSocket messages, read as the events that the stream would have brought. Pure; see docs/transports.md.

It is to messages what ``SSEDecoder`` is to bytes, so that nobody behind it knows the difference: envelopes are an
event's data as they came, the feed's own messages lose their wrapping, ``{"id"}`` alone moves the cursor, and what is
none of these is an event that nobody will understand, to be kept aside.
"""

import json
from typing import Any

from sync_core.cursor import is_cursor
from sync_core.events import CONTROL_EVENTS
from sync_core.sse import ServerSentEvent

__all__ = ["MessageDecoder"]

_ANSWERS = frozenset({"error", "pong"})
"""What the server says to who speaks to it, which this client does not."""
MAX_RETRY_MS = 10**15 - 1
"""The same bound as for a stream's ``retry``."""


class MessageDecoder:
    """One message in, its events out. *last_event_id* is where a reader with a stored cursor begins."""

    def __init__(self, *, last_event_id: str = "") -> None:
        self.last_event_id = last_event_id
        self.retry_ms: int | None = None

    def start_stream(self) -> None:
        """Another socket begins; the cursor stays."""

    def feed(self, data: bytes) -> list[ServerSentEvent]:
        """The event of a whole message; none for what only moves the cursor, or for b"", the end."""
        if not data:
            return []
        text = data.decode("utf-8", "replace")
        message = _object(text)
        if message is None:
            return [ServerSentEvent("message", text, self.last_event_id)]
        kind, given = message.get("eventType"), message.get("id")
        if isinstance(given, str) and is_cursor(given):
            self.last_event_id = given
        if kind is None and "data" not in message:
            return []
        if not isinstance(kind, str) or not kind:
            return [ServerSentEvent("message", text, self.last_event_id)]
        if kind in _ANSWERS and "data" not in message:
            return []
        if kind in CONTROL_EVENTS:
            text = json.dumps(self._unwrapped(message.get("data")))
        return [ServerSentEvent(kind, text, self.last_event_id)]

    def _unwrapped(self, data: Any) -> Any:
        retry_ms = data.get("retryMs") if isinstance(data, dict) else None
        if type(retry_ms) is int and 0 <= retry_ms <= MAX_RETRY_MS:
            self.retry_ms = retry_ms
        return data


def _object(text: str) -> dict[str, Any] | None:
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) else None
