"""Cursors: where a reader stands in a tenant's log.

A cursor is ``<epoch>.<seq>``. *epoch* names one life of the log (it changes when a log is rebuilt or
restored), *seq* counts its events from 1 without holes. Third parties treat the text as opaque; our own
code compares cursors of the same epoch by seq. Source: protocol.md 1.
"""

import re
from dataclasses import dataclass

__all__ = ["EARLIEST", "NOW", "Cursor", "MalformedCursor", "epoch_from_bytes", "is_cursor"]

EARLIEST = "earliest"
"""Sentinel: from the oldest event that is still there."""
NOW = "now"
"""Sentinel: only what is published from here on (the default)."""

_CURSOR = re.compile(r"([0-9a-z]{8})\.(0|[1-9][0-9]{0,17})", re.ASCII)
# Crockford's alphabet: no i, l, o, u, so an id read over the telephone stays the same id.
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


class MalformedCursor(ValueError):
    """The text is not a cursor. It may have come from another product or been cut."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place between two events of a log: everything up to and including *seq* lies behind it."""

    epoch: str
    seq: int

    @classmethod
    def parse(cls, text: str) -> "Cursor":
        """The cursor that *text* writes. Raises MalformedCursor."""
        match = _CURSOR.fullmatch(text)
        if match is None:
            raise MalformedCursor(f"not a cursor: {text[:40]!r}")
        return cls(match[1], int(match[2]))

    def __str__(self) -> str:
        return f"{self.epoch}.{self.seq}"


def is_cursor(text: str) -> bool:
    """Whether *text* writes a cursor; a sentinel is none."""
    return _CURSOR.fullmatch(text) is not None


def epoch_from_bytes(random: bytes) -> str:
    """A new epoch of 8 base32 characters out of 5 random bytes (40 bits)."""
    if len(random) != 5:
        raise ValueError("an epoch is made of exactly 5 random bytes")
    number = int.from_bytes(random, "big")
    return "".join(_ALPHABET[(number >> shift) & 31] for shift in range(35, -1, -5))
