"""Which file stands at a path. One that is removed while it is open, or replaced, takes along what is written to it."""

from pathlib import Path
from typing import NamedTuple

__all__ = ["Identity", "identity_of"]


class Identity(NamedTuple):
    """Of a file as the operating system tells files apart."""

    device: int
    number: int


def identity_of(path: Path) -> Identity | None:
    """None where there is no file. Raises OSError where that cannot be found out."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return Identity(stat.st_dev, stat.st_ino)
