"""However large a caller makes a document: each event about it fits."""

from typing import Any

import pytest
from pydantic_core import to_json

from sync_core.domain import bays, orders, waiting
from sync_core.domain.items import MAX_CUSTOMER_BYTES, MAX_ITEMS_BYTES
from sync_core.domain.queues import MAX_ENTRIES, Entry, Queue
from sync_core.events import MAX_EVENT_BYTES
from tests.core.domain.shop import ITEM, Shop, open_shop

WORST = "\x01"
"""Takes six bytes in JSON, more than any other character."""


def filled(content: dict[str, Any], most_bytes: int) -> dict[str, Any]:
    """*content* with another field, so that it takes *most_bytes*."""
    return content | {"more": "x" * (most_bytes - len(to_json(content)) - len(',"more":""'))}


@pytest.mark.parametrize("in_bay", [False, True])
def test_every_event_about_the_largest_order_fits(in_bay: bool) -> None:
    long_id = "x" * 64
    shop = open_shop(orders_in=[])
    shop.do(bays.create, bayID=long_id, name=WORST * 200)
    items = [filled(ITEM, MAX_ITEMS_BYTES - 2)]  # the brackets around it
    customer = filled({"name": WORST * 200}, MAX_CUSTOMER_BYTES)
    shop.do(orders.create, orderID=long_id, items=items, customer=customer, notes=WORST * 2000)
    label = WORST * 200
    for status in ("failed", "pending", "paid"):
        shop.do(orders.set_payment, orderID=long_id, status=status, amount="1", method=label, reference=label)
    if in_bay:
        shop.do(bays.start_job, bayID=long_id, orderID=long_id, jobID=long_id, service=WORST * 200)
        shop.do(bays.report_progress, bayID=long_id, jobID=long_id, progress=1)
    shop.do(orders.set_status, orderID=long_id, status=WORST * 2000, note=WORST * 2000)
    if in_bay:
        shop.do(bays.abort_job, bayID=long_id, jobID=long_id, reason=WORST * 2000)
    shop.do(waiting.enter, queueID="q1", orderID=long_id)
    shop.do(orders.edit, orderID=long_id, items=items, customer=customer, notes=WORST * 2000)
    shop.do(orders.change_stage, orderID=long_id, newStage="in_progress")
    shop.do(orders.set_payment, orderID=long_id, status="refunded", amount="1", method=label, reference=label)
    sizes = [len(text.encode()) for text in shop.log]
    assert MAX_ITEMS_BYTES < max(sizes) < MAX_EVENT_BYTES - 4096, "and the order may still grow by a field or two"


@pytest.mark.parametrize("most", [MAX_ITEMS_BYTES - 1, MAX_ITEMS_BYTES])
def test_items_one_byte_too_many_are_refused(most: int) -> None:
    with pytest.raises(ValueError, match="bytes as JSON"):
        Shop().do(orders.create, items=[filled(ITEM, most)])


def test_every_event_about_the_fullest_queue_fits() -> None:
    shop = open_shop()
    entries = tuple(
        Entry(ticket=2**53, orderID=f"{n:064}", priority=-1000, enteredAt="2026-11-18T11:06:40.003Z")
        for n in range(MAX_ENTRIES - 1)
    )
    shop.keep(Queue(queueID="q1", name=WORST * 200, entries=entries, nextTicket=2**53, version=1))
    shop.do(waiting.enter, queueID="q1", orderID="o1")
    assert len(shop.queue().entries) == MAX_ENTRIES
    assert max(len(text.encode()) for text in shop.log) < MAX_EVENT_BYTES / 2
