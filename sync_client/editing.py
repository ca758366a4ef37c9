"""A cart as a person edits it: its lines, in memory, and how many of the changes are kept."""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sync_client.cart import LINE_KEY, Items, checked_items, line_id, lines, with_line, with_lines
from sync_client.errors import ClientError
from sync_client.ids import new_id
from sync_core.domain.items import Item

__all__ = ["EditedCart"]


class EditedCart:
    """*check* raises ClientError where it cannot be edited; *stir* is called after a change."""

    def __init__(
        self, *, check: Callable[[], None], stir: Callable[[], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._check = check
        self._stir = stir
        self._clock = clock
        self.items: Items = ()
        """Each has its ``lineID``."""
        self.edits = 0
        self.kept = 0
        """So many of the edits are on disk or at the server."""
        self.changed_s = 0.0
        """When the first of the others was made."""
        self.leaving: Items | None = None
        """What is being sold, put on a tab or left for later in this moment."""

    @property
    def is_kept(self) -> bool:
        return self.edits == self.kept

    def show(self, items: Items) -> None:
        """Others, which are kept."""
        self.items, self.kept = with_lines(items), self.edits

    def edited(self, items: Items) -> None:
        """Others, which are still to be kept."""
        if self.is_kept:
            self.changed_s = self._clock()
        self.items = items
        self.edits += 1

    # -- what people do ---------------------------------------------------------------------------------

    def add(self, item: dict[str, Any]) -> str:
        """Put it in; the id of its line. Raises InvalidCommand, ClientError."""
        line = str(item.get(LINE_KEY) or new_id())
        self.replace([*self.items, {"quantity": 1, **item, LINE_KEY: line}])
        return line

    def change(self, line: str, fields: Mapping[str, Any]) -> None:
        """Raises InvalidCommand, ClientError where there is no such line."""
        self._check_line(line)
        self.replace([{**with_line(item), **fields} if line_id(item) == line else item for item in self.items])

    def remove(self, line: str) -> None:
        """Raises ClientError where there is none."""
        self._check_line(line)
        self.replace([item for item in self.items if line_id(item) != line])

    def _check_line(self, line: str) -> None:
        if not any(line_id(item) == line for item in self.items):
            raise ClientError(f"there is no line {line[:80]} in the cart")

    def replace(self, items: Iterable[Item | Mapping[str, Any]]) -> None:
        """Other items in place of all. Raises InvalidCommand, ClientError."""
        self._check()
        checked = with_lines(checked_items([with_line(item) for item in items]))
        if self.leaving is not None:
            there = lines(checked)
            for key, item in lines(self.leaving).items():
                if key not in there or with_line(there[key]) != with_line(item):
                    raise ClientError(f"{item.name[:80]} is being left with the cart; it cannot be changed any more")
        self.edited(checked)
        self._stir()

    # -- leaving ----------------------------------------------------------------------------------------

    def next(self) -> None:
        """What is ``leaving`` is left; what was put in meanwhile is in the next cart."""
        left = lines(self.leaving or ())
        more = tuple(item for key, item in lines(self.items).items() if key not in left)
        self.show(())
        if more:
            self.edited(more)
