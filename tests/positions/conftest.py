"""A running application on each store."""

from tests.feed.conftest import start, start_sqlite

__all__ = ["start", "start_sqlite"]
