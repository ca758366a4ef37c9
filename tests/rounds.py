"""How often a test does what it does: less in the suite than in `make chaos`."""

import os

__all__ = ["rounds"]


def rounds(name: str, default: int) -> int:
    """SYNC_TEST_<name>, or *default*."""
    return int(os.environ.get(f"SYNC_TEST_{name}", default))
