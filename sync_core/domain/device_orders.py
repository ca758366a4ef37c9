"""What is ordered at a device: parts of a device, and what callers may send of them. Source: seed 003."""

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from sync_core.domain.document import Part
from sync_core.domain.fields import Amount, Label, LocalTimestamp, ShortText, Whole, at_most_bytes, plain_extras

__all__ = ["MAX_ORDERS", "DeviceOrder", "GivenOrder", "OrderIndex", "Quantity", "check_orders"]

MAX_ORDERS = 500
MAX_ORDERS_BYTES = 96 * 1024
"""With this a device and the orders that an event names beside it stay below 256 KiB."""


def _index(value: Any) -> Any:
    """A number also where it stands in a path, which is text."""
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 5 else value


OrderIndex = Annotated[Whole, Field(ge=0, lt=MAX_ORDERS), BeforeValidator(_index)]
"""Which of a device's orders, from 0. It moves when one before it goes: guard it with ``If-Match``."""
Quantity = Annotated[Whole, Field(ge=1, le=10_000)]


class DeviceOrder(Part):
    """What was ordered at a device, *price* for one."""

    name: Label
    price: Amount
    quantity: Quantity = 1
    notes: ShortText = ""
    firstOrderTime: LocalTimestamp | None = None
    lastOrderTime: LocalTimestamp | None = None

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
