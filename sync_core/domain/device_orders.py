"""What is ordered at a device: parts of a device, and what callers may send of them. Source: seed 003."""

import re
from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from sync_core.domain.document import Part
from sync_core.domain.fields import Amount, Label, ShortText, Whole, at_most_bytes, plain_extras

__all__ = ["MAX_ORDERS", "DeviceOrder", "GivenOrder", "Moment", "OrderIndex", "Quantity", "check_orders"]

MAX_ORDERS = 500
MAX_ORDERS_BYTES = 96 * 1024
"""With this a device and the orders that an event names beside it stay below 256 KiB."""

_MOMENT = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,9})?(Z|[+-]\d{2}:\d{2})", re.ASCII)


def _moment(text: str) -> str:
    try:
        if _MOMENT.fullmatch(text):
            datetime.fromisoformat(text)
            return text
    except ValueError:
        pass
    raise ValueError("a time is ISO 8601 text with an offset, such as 2026-02-03T02:25:33+03:00")


def _index(value: Any) -> Any:
    """A number also where it stands in a path, which is text."""
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 5 else value


Moment = Annotated[str, AfterValidator(_moment)]
"""A time as its till wrote it, whose clock a person may want to see: with its offset."""
OrderIndex = Annotated[Whole, BeforeValidator(_index), Field(ge=0, lt=MAX_ORDERS)]
"""Which of a device's orders, from 0. It moves when one before it goes: guard it with ``If-Match``."""
Quantity = Annotated[Whole, Field(ge=1, le=10_000)]


class DeviceOrder(Part):
    """What was ordered at a device, *price* for one."""

    name: Label
    price: Amount
    quantity: Quantity = 1
    notes: ShortText = ""
    firstOrderTime: Moment | None = None
    lastOrderTime: Moment | None = None

    def timed(self, now: str) -> "DeviceOrder":
        """The same with times: without one it was ordered when the server heard of it."""
        first = self.firstOrderTime or self.lastOrderTime or now
        return self.model_copy(update={"firstOrderTime": first, "lastOrderTime": self.lastOrderTime or first})


GivenOrder = Annotated[DeviceOrder, AfterValidator(plain_extras)]


def check_orders(orders: tuple[DeviceOrder, ...]) -> None:
    """Raises ValueError for more than a device can hold."""
    if len(orders) > MAX_ORDERS:
        raise ValueError(f"are more than {MAX_ORDERS}")
    at_most_bytes(MAX_ORDERS_BYTES)(orders)
