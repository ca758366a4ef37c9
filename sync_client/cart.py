"""What is in a cart: its lines, and how two people's changes to them come together. Pure.

Each line has an id of its own, made where it was put in (``lineID``, kept with the item), so that two tills that
changed one cart can be told apart line by line. Nobody's line is dropped but by who took it out. A line that another
program has put in without an id has one made of what it is, the same for everybody who looks.
"""

from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, to_json

from sync_client.errors import InvalidCommand
from sync_client.ids import new_id
from sync_core.domain.items import GivenItems, Item
from sync_core.faults import faults_of

__all__ = ["LINE_KEY", "Items", "beyond", "checked_items", "line_id", "lines", "merged", "with_line", "with_lines"]

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


def lines(items: Iterable[Item]) -> dict[str, Item]:
    """By their ids; where there is none, or one twice, by what tells them apart, which is their id then."""
    found: dict[str, Item] = {}
    for item in items:
        key = first = line_id(item) or _made_id(item)
        number = 1
        while key in found:
            number += 1
            key = f"{first}.{number}"
        found[key] = item if line_id(item) == key else item.model_copy(update={LINE_KEY: key})
    return found


def _made_id(item: Item) -> str:
    return sha256(f"{item.sku}\n{item.name}".encode()).hexdigest()[:12]


def with_lines(items: Iterable[Item]) -> Items:
    """Each with an id that no other line has."""
    return tuple(lines(items).values())


def beyond(sold: Items, items: Items) -> Items:
    """What of *items* was not *sold*: other lines, and what there is more of in a line."""
    were = lines(sold)
    left: list[Item] = []
    for key, item in lines(items).items():
        more = item.quantity - (were[key].quantity if key in were else 0)
        if more > 0:
            left.append(item.model_copy(update={"quantity": more}))
    return tuple(left)


def merged(base: Items, mine: Items, theirs: Items) -> Items:
    """*theirs* with what I have done to *base*: lines that either has put in, counts added up.

    A line that one has taken out is gone, if the other has left it as it was.
    """
    were, ours, others = lines(base), lines(mine), lines(theirs)
    both: list[Item] = []
    for key, their in others.items():
        if key in ours:
            both.append(_together(were.get(key), ours[key], their))
        elif key not in were or were[key] != their:  # I never saw it, or took out what they have changed since
            both.append(their)
    for key, our in ours.items():
        if key not in others and (key not in were or were[key] != our):
            both.append(our)
    return tuple(both)


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
