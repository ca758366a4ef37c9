"""Transactions: what was sold, and how it was paid. Made by completing a session or settling a tab, never changed.

Source: seed 004, domain-more.md C.
"""

from decimal import Decimal
from typing import ClassVar

from sync_core.domain.changes import Changes
from sync_core.domain.document import Document, Part
from sync_core.domain.fields import Amount, DocumentID, Label, ShortText
from sync_core.domain.items import Item, total
from sync_core.events import EventType
from sync_core.filters import tag
from sync_core.labels import ADMINS, person_label

__all__ = ["EVENT_TYPES", "Paid", "Transaction", "record"]


class Paid(Part):
    """How a customer paid, as the till knows it."""

    method: Label | None = None
    reference: Label | None = None
    note: ShortText | None = None


class Transaction(Document):
    """One sale. *userID* is who sold it."""

    kind: ClassVar[str] = "transaction"
    plural: ClassVar[str] = "transactions"
    id_key: ClassVar[str] = "transactionID"
    view_permission: ClassVar[str] = "view_transactions"
    owner_key: ClassVar[str] = "userID"

    transactionID: DocumentID
    userID: str
    sessionID: DocumentID | None = None
    tabID: DocumentID | None = None
    tillID: DocumentID | None = None
    items: tuple[Item, ...]
    total: Amount
    payment: Paid | None = None
    createdAt: str

    def tags(self) -> tuple[str, ...]:
        keys = ("transactionID", "userID", "sessionID", "tabID", "tillID")
        return tuple(tag(key, value) for key in keys if (value := getattr(self, key)) is not None)

    def grants(self) -> tuple[str, ...]:
        return ()

    def audience(self) -> tuple[str, ...]:
        return (person_label(self.userID), ADMINS)

    @property
    def is_open(self) -> bool:
        return False


EVENT_TYPES = (EventType("transaction_created", document="transaction"),)


def record(
    shop: Changes, items: tuple[Item, ...], *, transaction_id: str, user: str, payment: Paid | None, **about: str | None
) -> Transaction:
    """Write down the sale of *items* to be paid by *payment*; *about* are the session, tab and till that it came from.

    Raises RuleConflict where there is such a transaction.
    """
    amount: Decimal = total(items)
    sold = Transaction(
        transactionID=transaction_id, userID=user, items=items, total=amount, payment=payment,
        createdAt=shop.context.now, **about,
    )  # fmt: skip
    return shop.create(sold, "transaction_created")
