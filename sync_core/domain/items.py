"""What is ordered, and by whom: parts of an order, and what callers may send of them."""

from collections.abc import Iterable
from decimal import Decimal, localcontext
from typing import Annotated

from pydantic import AfterValidator, Field

from sync_core.domain.document import Part
from sync_core.domain.fields import EXACT, MAX_AMOUNT, Amount, Label, Whole, at_most_bytes, plain_extras

__all__ = ["Customer", "GivenCustomer", "GivenItems", "Item", "total"]

MAX_ITEMS = 200
MAX_ITEMS_BYTES = 128 * 1024
MAX_CUSTOMER_BYTES = 4 * 1024
"""With these, an order and what an event says beside it (a status and its note, a payment) stay below 256 KiB."""


class Item(Part):
    sku: Label
    name: Label
    quantity: Whole = Field(ge=1, le=10_000)
    unitPrice: Amount


class Customer(Part):
    name: Label | None = None
    phone: Label | None = None


def total(items: Iterable[Item]) -> Decimal:
    """What *items* come to."""
    with localcontext(EXACT):
        return sum((item.unitPrice * item.quantity for item in items), Decimal("0.00"))


def _payable(items: tuple[Item, ...]) -> tuple[Item, ...]:
    if total(items) > MAX_AMOUNT:
        raise ValueError(f"come to more than {MAX_AMOUNT}")
    return items


GivenItems = Annotated[
    tuple[Annotated[Item, AfterValidator(plain_extras)], ...],
    Field(max_length=MAX_ITEMS),
    AfterValidator(at_most_bytes(MAX_ITEMS_BYTES)),
    AfterValidator(_payable),
]
GivenCustomer = Annotated[Customer, AfterValidator(plain_extras), AfterValidator(at_most_bytes(MAX_CUSTOMER_BYTES))]
