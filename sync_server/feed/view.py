"""What one reader is to be shown: its filter, less its own echo."""

from dataclasses import dataclass

from sync_core.filters import Filter
from sync_server.feed.window import FeedEvent

__all__ = ["View"]


@dataclass(frozen=True, slots=True)
class View:
    """*client_id* asks for echo suppression: events that it caused are hidden, if *principal* did too."""

    filter: Filter
    client_id: str | None
    principal: str

    def sees(self, event: FeedEvent) -> bool:
        """Whether *event* is for this reader."""
        return self.filter.matches(event.event_type, event.tags) and not self.caused(event)

    def caused(self, event: FeedEvent) -> bool:
        """Whether *event* is this reader's own, which it asked not to be told again."""
        return self.client_id is not None and event.client_id == self.client_id and event.principal == self.principal
