"""Where a server is asked: the paths that it and its clients, or several of its modules, have to know."""

__all__ = ["FEED_SOCKET_PATH", "OUTCOME_PATH", "POLL_PATH", "PREFIX", "SNAPSHOT_PATH", "STREAM_PATH"]

PREFIX = "/api/v1"
STREAM_PATH = f"{PREFIX}/sync/events"
"""Followed by GET, published to by POST."""
POLL_PATH = f"{PREFIX}/sync/poll"
FEED_SOCKET_PATH = f"{PREFIX}/sync/ws"
SNAPSHOT_PATH = f"{PREFIX}/sync/snapshot"
"""The current state: for replicas, and for readers whose cursor leads nowhere."""
OUTCOME_PATH = f"{PREFIX}/commands/{{key}}"
