"""``GET /api/v1/sync/events``: the Server-Sent Events response.

The handler pins the cursor, sends the head and the opening, hands the reader to the hub and then only waits
for the disconnect; from there on the hub writes. It takes the ASGI server's own ``send``: anything that wraps
it would be paid for at every event and every reader. Source: protocol.md 2.1.
"""

from starlette.types import Receive, Scope, Send

from sync_server.feed.admission import Admission
from sync_server.feed.connection import connect, delimit_by_close
from sync_server.feed.feed import Feed
from sync_server.feed.framing import GZIPPED, SSE
from sync_server.feed.reader import Reader
from sync_server.feed.request import FeedRequest

__all__ = ["EventStream"]


_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store, no-transform"),
    (b"x-accel-buffering", b"no"),
    (b"x-content-type-options", b"nosniff"),
]
_GZIP_HEADERS = [*_HEADERS, (b"content-encoding", b"gzip"), (b"vary", b"accept-encoding")]


class EventStream:
    """The ASGI endpoint. Raises Problem before the response has begun, never after."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed

    async def __call__(self, scope: Scope, receive: Receive, send: Send, *, begin: Send) -> None:
        """Serve one reader until it or the server ends it; *begin* sends the head, *send* all that follows."""
        reader = await self._open(scope, send, begin)
        if reader is None:
            return
        # For as long as the stream lasts nothing is held here but the reader.
        try:
            while (await receive())["type"] != "http.disconnect":
                pass
        finally:
            reader.discard()

    async def _open(self, scope: Scope, send: Send, begin: Send) -> Reader | None:
        """The head and the opening; None where that is all (HEAD)."""
        admission = await Admission.of(self._feed, FeedRequest.parse(scope))
        if scope["http_version"] == "1.0":
            delimit_by_close(send)
        is_gzipped = self._feed.settings.compression and _takes_gzip(scope)
        headers = _GZIP_HEADERS if is_gzipped else _HEADERS
        await begin({"type": "http.response.start", "status": 200, "headers": headers})
        if scope["method"] == "HEAD":
            await send({"type": "http.response.body", "body": b""})
            return None
        return admission.admit(connect(send), GZIPPED if is_gzipped else SSE, max_age_s=self._feed.settings.max_age_s)


def _takes_gzip(scope: Scope) -> bool:
    """Whether the client's ``Accept-Encoding`` names gzip, and not with a weight of zero."""
    named = b",".join(value for name, value in scope["headers"] if name == b"accept-encoding").decode("latin-1").lower()
    for coding in named.split(","):
        name, _, weight = coding.replace(" ", "").partition(";q=")
        if name in ("gzip", "x-gzip", "*"):
            return weight.strip("0.") != "" or not weight
    return False
