"""Tabs: what a table or guest has had and will pay together. Sessions are put on a tab; settling it is the sale.

Source: seed 004, domain-more.md C.
"""

import enum
from typing import Annotated, ClassVar

from pydantic import AfterValidator, TypeAdapter, ValidationError

from sync_core.domain.changes import Changes, RuleConflict
from sync_core.domain.command import CommandInput, command
from sync_core.domain.document import Document
from sync_core.domain.fields import Amount, DocumentID, Label, Made, Names, Numbered, at_most_bytes, plain_extras
from sync_core.domain.items import MAX_ITEMS, GivenItems, Item, total
from sync_core.domain.transactions import Paid, record
from sync_core.events import EventType
from sync_core.filters import tag

__all__ = ["COMMANDS", "EVENT_TYPES", "GivenPaid", "NewTransactionID", "Tab", "TabID", "put_on"]

MAX_PAID_BYTES = 8 * 1024
_ITEMS: TypeAdapter[tuple[Item, ...]] = TypeAdapter(GivenItems)

TabID = Annotated[DocumentID, Numbered, Names("tab")]
NewTransactionID = Annotated[Annotated[DocumentID, Numbered, Names("transaction")] | None, Made()]
GivenPaid = Annotated[Paid, AfterValidator(plain_extras), AfterValidator(at_most_bytes(MAX_PAID_BYTES))]


class TabStatus(enum.StrEnum):
    OPEN = "open"
    SETTLED = "settled"


class Tab(Document):
    """One tab; *sessions* are those that were put on it."""

    kind: ClassVar[str] = "tab"
    plural: ClassVar[str] = "tabs"
    id_key: ClassVar[str] = "tabID"
    view_permission: ClassVar[str] = "view_tabs"

    tabID: DocumentID
    name: Label
    status: TabStatus = TabStatus.OPEN
    items: tuple[Item, ...] = ()
    total: Amount
    sessions: tuple[str, ...] = ()
    transactionID: DocumentID | None = None
    createdAt: str
    updatedAt: str

    def tags(self) -> tuple[str, ...]:
        return (tag("tabID", self.tabID), *(tag("sessionID", session) for session in self.sessions))

    @property
    def state(self) -> str:
        return self.status.value

    @property
    def is_open(self) -> bool:
        return self.status is TabStatus.OPEN


EVENT_TYPES = (EventType("tab_updated", document="tab"),)


def put_on(shop: Changes, tab: Tab, items: tuple[Item, ...], *, session: str) -> Tab:
    """Add a session's *items* to *tab*. Raises RuleConflict if it is settled or would hold too much."""
    _open(tab)
    items = (*tab.items, *items)
    if not _fits(items) or len(tab.sessions) >= MAX_ITEMS:
        raise RuleConflict(f"Tab {tab.tabID} is full; settle it and open another one.", tab)
    added = {"items": items, "total": total(items), "sessions": (*tab.sessions, session)}
    return shop.put(tab.model_copy(update={**added, "updatedAt": shop.context.now}), "tab_updated", {"change": "added"})


def _fits(items: tuple[Item, ...]) -> bool:
    try:
        _ITEMS.validate_python(items)
    except ValidationError:
        return False
    return True


def _open(tab: Tab) -> None:
    if not tab.is_open:
        raise RuleConflict(f"Tab {tab.tabID} is settled.", tab)


class CreateTab(CommandInput):
    tabID: Annotated[TabID | None, Made()] = None
    name: Label


@command("POST", "/tabs", target=Tab, permission="use_tabs", emits=["tab_updated"], creates=True)
def create(shop: Changes, given: CreateTab) -> None:
    """Open a tab."""
    assert given.tabID is not None
    now = shop.context.now
    tab = Tab(tabID=given.tabID, name=given.name, total=total(()), createdAt=now, updatedAt=now)
    shop.create(tab, "tab_updated", {"change": "created"})


class EditTab(CommandInput):
    tabID: TabID
    name: Label


@command("PATCH", "/tabs/{tabID}", target=Tab, permission="use_tabs", emits=["tab_updated"])
def edit(shop: Changes, given: EditTab) -> None:
    """Rename a tab."""
    tab = shop.get(Tab, given.tabID)
    changed = tab.model_copy(update={"name": given.name, "updatedAt": shop.context.now})
    shop.put(changed, "tab_updated", {"change": "edited"})


class SettleTab(CommandInput):
    tabID: TabID
    transactionID: NewTransactionID = None
    payment: GivenPaid | None = None


@command(
    "POST",
    "/tabs/{tabID}/settle",
    target=Tab,
    permission="use_tabs",
    emits=["tab_updated", "transaction_created"],
    guarded=True,
)
def settle(shop: Changes, given: SettleTab) -> None:
    """Have a tab paid: all that is on it becomes one transaction of who settles it."""
    tab = shop.get(Tab, given.tabID)
    _open(tab)
    if not tab.items:
        raise RuleConflict(f"There is nothing on tab {tab.tabID}.", tab)
    assert given.transactionID is not None
    record(
        shop, tab.items, transaction_id=given.transactionID, user=shop.context.user, payment=given.payment,
        tabID=tab.tabID,
    )  # fmt: skip
    done = {"status": TabStatus.SETTLED, "transactionID": given.transactionID, "updatedAt": shop.context.now}
    shop.put(tab.model_copy(update=done), "tab_updated", {"change": "settled"})


class DeleteTab(CommandInput):
    tabID: TabID


@command("DELETE", "/tabs/{tabID}", target=Tab, permission="use_tabs", emits=["tab_updated"])
def delete(shop: Changes, given: DeleteTab) -> None:
    """Delete a tab on which nothing is."""
    tab = shop.get(Tab, given.tabID)
    if tab.items:
        raise RuleConflict(f"There are {len(tab.items)} items on tab {tab.tabID}.", tab)
    shop.delete(tab, "tab_updated")


COMMANDS = (create, edit, settle, delete)
