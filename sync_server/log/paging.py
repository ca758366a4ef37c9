"""A page of documents, put together kind by kind: where a store has to look next, and when the page is full.

A store looks at one range of ids after the other and says how far it came. A page ends at its limit of documents,
at about a megabyte, or where it has looked at SCAN_ROWS of a kind: then it may be empty, and leads on all the same.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sync_core.domain.document import Ref
from sync_server.log.base import Selection
from sync_server.log.records import StoredDocument

__all__ = ["PAGE_BYTES", "SCAN_ROWS", "Paging", "Range"]

PAGE_BYTES = 1024 * 1024
"""A page of large documents is cut here, so that no reader can ask for gigabytes."""
SCAN_ROWS = 5000
"""Documents of a kind that are looked at for one page: some 10 ms, in which others wait."""


@dataclass(frozen=True, slots=True)
class Range:
    """The documents of *kind* behind the id *after*: SCAN_ROWS are to be looked at, *limit* selected, at most."""

    kind: str
    after: str
    limit: int


class Paging:
    """One page on its way: its *documents*, and where the *next* one begins (None: this is the last).

    Raises ValueError where *after* is of no kind of *selection*.
    """

    def __init__(self, selection: Selection, *, after: Ref | None, limit: int) -> None:
        if after is not None and after.kind not in selection.kinds:
            raise ValueError(f"a page cannot begin behind a {after.kind}: the selection holds {selection.kinds}")
        begin = 0 if after is None else selection.kinds.index(after.kind)
        self._places = [Ref(kind, "") for kind in selection.kinds[begin:]]
        if after is not None:
            self._places[0] = after
        self._places.reverse()
        self._limit = limit
        self._size_bytes = 0
        self.documents: list[StoredDocument] = []
        self.next: Ref | None = None

    def wanted(self) -> Range | None:
        """Where to look now; None once the page is complete."""
        if self.next is not None or not self._places:
            return None
        return Range(*self._places[-1], limit=self._limit - len(self.documents))

    def fitting(self, sizes: Iterable[int]) -> int:
        """How many documents of these *sizes* (of their bodies) still go into the page; into an empty one, one does."""
        count, total = 0, self._size_bytes
        for size in sizes:
            total += size
            if total > PAGE_BYTES and (count or self.documents):
                break
            count += 1
        return count

    def take(self, documents: Sequence[StoredDocument], *, upto: str | None) -> None:
        """What was found where ``wanted`` said, as far as it fits. *upto* is the last id that was looked at; None if
        there is nothing behind it."""
        place = self._places.pop()
        self.documents += documents
        self._size_bytes += sum(len(document.body) for document in documents)
        if upto is not None:
            self.next = Ref(place.kind, upto)
