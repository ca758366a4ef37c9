"""Documents and their commands without asyncio."""

import threading
from pathlib import Path
from typing import Any

import pytest

from e2e.client.test_blocking import make, process_until
from sync_client import CommandFailed, Event, InvalidCommand, NoReplica
from sync_client.blocking import SyncClient
from tests.servers import SyncServer

ITEM = {"sku": "W1", "name": "Wash", "quantity": 1, "unitPrice": "3.00"}


@pytest.fixture
def kiosk(running_server: SyncServer, tmp_path: Path, order_id: str) -> Any:
    with make(running_server, tmp_path, replica=True, hide_own=False, filter={"orderID": order_id}) as client:
        process_until(client, lambda: client.orders.fresh)
        yield client


def test_documents_are_looked_at_as_in_the_async_client(kiosk: SyncClient, order_id: str) -> None:
    assert (kiosk.orders.get(order_id), len(kiosk.orders), list(kiosk.orders)) == (None, 0, [])
    sent = kiosk.orders.create(order_id, items=[ITEM])
    shown = kiosk.orders.get(order_id)
    assert shown is not None
    assert shown.document.stage == "initiated"
    assert sent.done(timeout_s=10)["order"]["version"] == 1
    entry = kiosk.orders.get(order_id)
    assert entry is not None
    assert not entry.pending
    assert [entry.document.id for entry in kiosk.orders] == [order_id]
    assert order_id in kiosk.orders
    assert kiosk.orders.age_s is not None


def test_watching_runs_callbacks_in_between_and_in_this_thread(kiosk: SyncClient, order_id: str) -> None:
    threads: set[str] = set()
    kiosk.on("status_update")(lambda event: threads.add(threading.current_thread().name))
    kiosk.orders.create(order_id).done(timeout_s=10)
    watch, states = kiosk.orders.watch(order_id, timeout_s=20), []
    for n in range(3):
        states.append(next(watch))
        kiosk.orders.set_status(order_id, str(n)).done(timeout_s=10)
    while states[-1].document.status != "2" or states[-1].pending:
        states.append(next(watch))
    process_until(kiosk, lambda: threads)
    assert threads == {threading.current_thread().name}
    assert [state.document.version for state in states] == sorted(state.document.version for state in states)


def test_a_watch_ends_when_nothing_changes_for_a_while(kiosk: SyncClient, order_id: str) -> None:
    assert list(kiosk.orders.watch(order_id, timeout_s=0.1)) == [None]
    assert [collection is kiosk.orders for collection in kiosk.orders.watch(timeout_s=0.1)]


def test_what_the_server_refuses_is_raised_where_it_is_asked_for(kiosk: SyncClient, order_id: str) -> None:
    failed: list[Event] = []
    kiosk.on("sync_failed")(failed.append)
    sent = kiosk.orders.set_status(order_id, "x")
    with pytest.raises(CommandFailed, match="There is no order"):
        sent.done(timeout_s=10)
    process_until(kiosk, lambda: failed)
    with pytest.raises(InvalidCommand, match="newStage"):
        kiosk.orders.change_stage(order_id, "polished")


def test_without_documents_it_says_what_to_do(running_server: SyncServer, tmp_path: Path) -> None:
    with make(running_server, tmp_path) as client, pytest.raises(NoReplica, match="replica=True"):
        client.orders  # noqa: B018
