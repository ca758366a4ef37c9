"""Orders: what a customer has asked for, along its stages from empty to completed.

    empty --> initiated --> in_progress --> completed
      \\________/
          +--> cancelled

Only an initiated order waits in a queue or goes into a bay; leaving ``initiated`` takes it out of its queue in the
same batch. While it is in a bay its job decides. Source: domain.md.
"""

import enum
from typing import Annotated, ClassVar

from sync_core.domain.changes import Changes, RuleConflict
from sync_core.domain.command import CommandInput, command
from sync_core.domain.document import Document, Part
from sync_core.domain.fields import Amount, Currency, DocumentID, Label, Made, Names, Omittable, ShortText, Text
from sync_core.domain.items import Customer, GivenCustomer, GivenItems, Item, total
from sync_core.domain.queues import Queue
from sync_core.events import EventType
from sync_core.filters import tag

__all__ = ["COMMANDS", "EVENT_TYPES", "Order", "Stage", "enter_stage"]


class Stage(enum.StrEnum):
    EMPTY = "empty"
    INITIATED = "initiated"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    CANCELLED = "cancelled"


NEXT_STAGES: dict[Stage, frozenset[Stage]] = {
    Stage.EMPTY: frozenset({Stage.INITIATED, Stage.CANCELLED}),
    Stage.INITIATED: frozenset({Stage.IN_PROGRESS, Stage.CANCELLED}),
    Stage.IN_PROGRESS: frozenset({Stage.COMPLETED}),
    Stage.COMPLETED: frozenset(),
    Stage.CANCELLED: frozenset(),
}


class PaymentStatus(enum.StrEnum):
    PENDING = "pending"
    PAID = "paid"
    FAILED = "failed"
    REFUNDED = "refunded"


NEXT_PAYMENT: dict[PaymentStatus, frozenset[PaymentStatus]] = {
    PaymentStatus.PENDING: frozenset({PaymentStatus.PAID, PaymentStatus.FAILED}),
    PaymentStatus.FAILED: frozenset({PaymentStatus.PENDING}),
    PaymentStatus.PAID: frozenset({PaymentStatus.REFUNDED}),
    PaymentStatus.REFUNDED: frozenset(),
}


class Payment(Part):
    status: PaymentStatus
    amount: Amount
    currency: Currency
    method: Label | None = None
    reference: Label | None = None


class Order(Document):
    """One order."""

    kind: ClassVar[str] = "order"
    plural: ClassVar[str] = "orders"
    id_key: ClassVar[str] = "orderID"
    view_permission: ClassVar[str] = "view_orders"

    orderID: DocumentID
    stage: Stage
    status: ShortText | None = None
    items: tuple[Item, ...] = ()
    payment: Payment
    customer: Customer | None = None
    queueID: DocumentID | None = None
    bayID: DocumentID | None = None
    notes: ShortText | None = None
    createdAt: str
    updatedAt: str

    def tags(self) -> tuple[str, ...]:
        places = (("orderID", self.orderID), ("queueID", self.queueID), ("bayID", self.bayID))
        return tuple(tag(key, value) for key, value in places if value is not None)

    def grants(self) -> tuple[str, ...]:
        return self.tags()

    @property
    def state(self) -> str:
        return self.stage.value

    @property
    def is_open(self) -> bool:
        return self.stage not in (Stage.COMPLETED, Stage.CANCELLED)


EVENT_TYPES = (
    EventType("order_created", document="order"),
    EventType("order_updated", document="order"),
    EventType("order_stage_change", document="order"),
    EventType("order_deleted", document="order"),
)

OrderID = Annotated[DocumentID, Names("order")]


def enter_stage(shop: Changes, order: Order, stage: Stage, *, left_queue: bool = False, **changes: object) -> Order:
    """Move *order* to *stage* with further *changes*: the small event for boards, and the order's own.

    Boards of the queue or bay that it comes from hear of it as well as those of where it goes.
    """
    before = order
    if order.queueID is not None and stage is not Stage.INITIATED:
        if not left_queue:
            _leave_queue(shop, order)
        changes["queueID"] = None
    order = order.model_copy(update={**changes, "stage": stage, "updatedAt": shop.context.now})
    data = {"previousStage": before.stage.value, "newStage": stage.value}
    about = (*before.tags(), *order.tags())
    shop.emit("stage_change", {"order": {"orderID": order.orderID}, **data}, about=about, of=order)
    return shop.put(order, "order_stage_change", data)


def _leave_queue(shop: Changes, order: Order) -> None:
    queue = shop.find(Queue, order.queueID) if order.queueID is not None else None
    if queue is not None:
        shop.put(queue.without(order.orderID), "queue_updated", {"change": "left"})


def _not_in_bay(order: Order, wish: str) -> None:
    if order.bayID is not None:
        raise RuleConflict(
            f"Order {order.orderID} is in bay {order.bayID} and cannot be {wish}; finish or abort its job.", order
        )


class CreateOrder(CommandInput):
    orderID: Annotated[OrderID | None, Made()] = None
    items: GivenItems = ()
    customer: GivenCustomer | None = None
    notes: ShortText | None = None
    currency: Currency = "USD"


@command("POST", "/orders", target=Order, permission="create_orders", emits=["order_created"], creates=True)
def create(shop: Changes, given: CreateOrder) -> None:
    """Take a new order: initiated if it has items, else empty."""
    assert given.orderID is not None
    now = shop.context.now
    order = Order(
        orderID=given.orderID,
        stage=Stage.INITIATED if given.items else Stage.EMPTY,
        items=given.items,
        payment=Payment(status=PaymentStatus.PENDING, amount=total(given.items), currency=given.currency),
        customer=given.customer,
        notes=given.notes,
        createdAt=now,
        updatedAt=now,
    )
    shop.create(order, "order_created")


class ChangeStage(CommandInput):
    orderID: OrderID
    newStage: Stage


@command(
    "POST",
    "/orders/{orderID}/stage",
    target=Order,
    permission="change_order_stage",
    emits=["stage_change", "order_stage_change", "queue_updated"],
)
def change_stage(shop: Changes, given: ChangeStage) -> None:
    """Move an order along its stages; whoever waits in a queue leaves it."""
    order = shop.get(Order, given.orderID)
    _not_in_bay(order, "moved")
    if given.newStage not in NEXT_STAGES[order.stage]:
        raise RuleConflict(f"Order {order.orderID} is {order.stage} and cannot become {given.newStage}.", order)
    enter_stage(shop, order, given.newStage)


class SetStatus(CommandInput):
    orderID: OrderID
    status: Text
    note: ShortText | None = None


@command("POST", "/orders/{orderID}/status", target=Order, permission="edit_orders", emits=["status_update"])
def set_status(shop: Changes, given: SetStatus) -> None:
    """Say in free words how an order stands."""
    order = shop.get(Order, given.orderID)
    changed = order.model_copy(update={"status": given.status, "updatedAt": shop.context.now})
    shop.put(changed, "status_update", given.model_dump(exclude={"orderID"}, exclude_none=True))


class SetPayment(CommandInput):
    orderID: OrderID
    status: PaymentStatus
    amount: Amount
    currency: Currency | None = None
    method: Label | None = None
    reference: Label | None = None


@command("POST", "/orders/{orderID}/payment", target=Order, permission="take_payments", emits=["payment_update"])
def set_payment(shop: Changes, given: SetPayment) -> None:
    """Record what became of an order's payment."""
    order = shop.get(Order, given.orderID)
    payment = order.payment
    if given.status not in NEXT_PAYMENT[payment.status]:
        raise RuleConflict(
            f"The payment of order {order.orderID} is {payment.status} and cannot become {given.status}.", order
        )
    wanted = {name: value for name, value in given if name != "orderID" and value is not None}
    payment = payment.model_copy(update=wanted)
    changed = order.model_copy(update={"payment": payment, "updatedAt": shop.context.now})
    shop.put(changed, "payment_update", payment.model_dump(mode="json", exclude_none=True))


class EditOrder(CommandInput):
    orderID: OrderID
    items: Omittable[GivenItems] = None
    customer: GivenCustomer | None = None
    notes: ShortText | None = None


@command("PATCH", "/orders/{orderID}", target=Order, permission="edit_orders", emits=["order_updated"], guarded=True)
def edit(shop: Changes, given: EditOrder) -> None:
    """Change an order's items, customer or notes; what is null is taken away, what is absent stays.

    What is to be paid follows the items, until it is paid.
    """
    order = shop.get(Order, given.orderID)
    if not order.is_open and given.items is not None:
        raise RuleConflict(f"Order {order.orderID} is {order.stage}; its items stand.", order)
    wanted: dict[str, object] = {name: value for name, value in given if name in given.model_fields_set}
    if given.items is not None and order.payment.status in (PaymentStatus.PENDING, PaymentStatus.FAILED):
        wanted["payment"] = order.payment.model_copy(update={"amount": total(given.items)})
    shop.put(order.model_copy(update={**wanted, "updatedAt": shop.context.now}), "order_updated")


class DeleteOrder(CommandInput):
    orderID: OrderID


@command(
    "DELETE",
    "/orders/{orderID}",
    target=Order,
    permission="delete_orders",
    emits=["order_deleted", "queue_updated"],
)
def delete(shop: Changes, given: DeleteOrder) -> None:
    """Delete an order that is not in a bay; its queue forgets it."""
    order = shop.get(Order, given.orderID)
    _not_in_bay(order, "deleted")
    _leave_queue(shop, order)
    shop.delete(order, "order_deleted")


COMMANDS = (create, change_stage, set_status, set_payment, edit, delete)
