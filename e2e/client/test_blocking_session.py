"""``client.session`` without asyncio."""

import uuid
from pathlib import Path
from typing import Any

import httpx2
import pytest

from sync_client.blocking import SyncClient
from sync_client.errors import CommandFailed, NoReplica
from sync_client.saving import SaveState
from sync_client.session import SESSION_KINDS
from sync_client.states import State
from tests.servers import SyncServer

COLA: dict[str, Any] = {"sku": "COLA", "name": "كولا", "unitPrice": "2.50"}


def test_a_cart_is_edited_saved_and_sold(running_server: SyncServer, tmp_path: Path) -> None:
    user = f"user-{uuid.uuid4().hex[:8]}"
    options: dict[str, Any] = {"replica": SESSION_KINDS, "subject": user, "trust_env": False, "cache_dir": tmp_path}
    with SyncClient(running_server.base_url, client_name="till-1", **options) as client:
        client.wait_for(State.CONNECTED)
        cart = client.session
        assert cart.open(till="till-1").items == ()
        line = cart.add(**COLA)
        cart.change(line, quantity=2)
        cart.remove(cart.add(**COLA))
        assert (cart.state, cart.is_kept) == (SaveState.CHANGED, False)
        cart.save()
        assert cart.is_kept
        for view in cart.watch(timeout_s=20):
            if view.state is SaveState.SAVED:
                break
        with SyncClient(running_server.base_url, client_name="till-2", **options) as other:
            other.wait_for(State.CONNECTED)
            assert other.session.open(till="till-2").other_till == "till-1"
            assert [item.quantity for item in other.session.items] == [2]
        with pytest.raises(CommandFailed):
            cart.assign_to_tab("no-such-tab").done(20)
        answer = cart.complete({"method": "cash"}).done(20)
        assert answer["transaction"]["total"] == "5.00"
        assert cart.items == ()
    found = httpx2.get(f"{running_server.base_url}/api/v1/order-sessions/active", params={"userId": user})
    assert found.json()["order_session"] is None


def test_without_its_kinds_there_is_no_session(running_server: SyncServer) -> None:
    with pytest.raises(NoReplica):
        _ = SyncClient(running_server.base_url, replica=True).session
