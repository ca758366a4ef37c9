"""What is in a cart: its lines, and how two people's changes to them come together. Pure.

Each line has an id of its own, made where it was put in (``lineID``, kept with the item), so that two tills that
changed one cart can be told apart line by line. Nobody's line is dropped but by who took it out.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, to_json

from sync_client.errors import InvalidCommand
from sync_client.ids import new_id
from sync_core.domain.items import GivenItems, Item
from sync_core.faults import faults_of

__all__ = ["LINE_KEY", "Items", "checked_items", "line_id", "merged", "with_line"]

LINE_KEY = "lineID"
Items = tuple[Item, ...]
_ITEMS: TypeAdapter[Items] = TypeAdapter(GivenItems)


def checked_items(items: Sequence[Item | Mapping[str, Any]]) -> Items:
    """*items* by the server's own rules. Raises InvalidCommand with every fault."""
    try:
        return _ITEMS.validate_json(to_json(list(items)), strict=True)
    except ValidationError as exc:
        raise InvalidCommand("session.items", tuple(faults_of(exc))) from None
    except PydanticSerializationError as exc:
        raise InvalidCommand("session.items", ()) from exc


def line_id(item: Item) -> str:
    """The id of a line; "" for one that another program has put in without."""
    value = (item.__pydantic_extra__ or {}).get(LINE_KEY)
    return value if isinstance(value, str) else ""


def with_line(item: Item | Mapping[str, Any]) -> dict[str, Any]:
    """Its content with a line's id, made if it has none."""
    content = item.model_dump(mode="json", exclude_none=True) if isinstance(item, Item) else dict(item)
    return {**content, LINE_KEY: content.get(LINE_KEY) or new_id()}


def merged(base: Items, mine: Items, theirs: Items) -> Items:
    """*theirs* with what I have done to *base*: lines that either has put in, counts added up.

    A line that one has taken out is gone, if the other has left it as it was.
    """
    were, ours, others = _lines(base), _lines(mine), _lines(theirs)
    lines: list[Item] = []
    for key, their in others.items():
        if key in ours:
            lines.append(_together(were.get(key), ours[key], their))
        elif key not in were or were[key] != their:  # I never saw it, or took out what they have changed since
            lines.append(their)
    for key, our in ours.items():
        if key not in others and (key not in were or were[key] != our):
            lines.append(our)
    return tuple(lines)


def _lines(items: Iterable[Item]) -> dict[tuple[str, ...], Item]:
    """By what tells them apart: their id, or what they are and how many of that were before."""
    lines: dict[tuple[str, ...], Item] = {}
    for item in items:
        number = 0
        key: tuple[str, ...] = (line_id(item),) if line_id(item) else (item.sku, item.name, "0")
        while key in lines:
            number += 1
            key = (*key[:-1], str(number)) if len(key) > 1 else (key[0], "", str(number))
        lines[key] = item
    return lines


def _together(was: Item | None, mine: Item, theirs: Item) -> Item:
    """One line that both have."""
    if mine in (was, theirs):
        return theirs
    if theirs == was:
        return mine
    if was is None:
        return theirs.model_copy(update={"quantity": max(mine.quantity, theirs.quantity)})
    quantity = mine.quantity + theirs.quantity - was.quantity
    return theirs.model_copy(update={"quantity": min(max(quantity, 1), 10_000)})
