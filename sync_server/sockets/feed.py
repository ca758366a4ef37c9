"""``/api/v1/sync/ws``: the feed over a WebSocket, with the stream's parameters. Source: docs/transports.md.

Each event is one text message, its envelope; so are the feed's own (``{"id", "eventType": "connected", "data"}``).
``{"id"}`` alone moves the cursor on. A client may say ``{"eventType": "ping"}``, and nothing else.
"""

from sync_core.paths import FEED_SOCKET_PATH
from sync_server.feed.admission import Admission
from sync_server.feed.feed import Feed
from sync_server.feed.framing import MESSAGES
from sync_server.feed.request import FeedRequest
from sync_server.sockets.door import SocketRoute
from sync_server.sockets.limits import SocketLimits
from sync_server.sockets.socket import Socket

__all__ = ["feed_route"]
MESSAGES_PER_S = 10


def feed_route(feed: Feed, *, streams: int) -> SocketRoute:
    """At most *streams* of them: they are streams like any other, and counted as such too."""

    async def talk(socket: Socket) -> None:
        socket.kind_key = "eventType"
        socket.id_key = None  # an id is a cursor here
        admission = await Admission.of(feed, FeedRequest.parse(socket.scope))
        await socket.accept()
        socket.attach(admission, MESSAGES, max_age_s=feed.settings.max_age_s)
        async for _ in socket:
            await socket.error("INVALID_MESSAGE", 'Here only {"eventType": "ping"} is understood.')

    # Readers may be silent for ever: whether they are there, the ping of the protocol tells.
    limits = SocketLimits(connections=streams, messages_per_s=MESSAGES_PER_S, idle_s=None)
    return SocketRoute(FEED_SOCKET_PATH, talk, limits)
