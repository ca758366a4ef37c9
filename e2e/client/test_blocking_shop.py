"""Documents, commands and the outbox without asyncio: all of it, in the program's own thread."""

import inspect
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from sync_client import (
    State,
    blocking_collections,
    blocking_outbox,
    blocking_session,
    collections,
    outbox,
    sent,
    session,
)
from sync_client.blocking import SyncClient
from sync_client.client import SyncClient as AsyncClient
from sync_client.conflicts import Conflict
from sync_client.errors import ClientError, CommandFailed, ConfigurationError, InvalidCommand, NoReplica
from tests.servers import SyncServer, wait_until


@pytest.fixture
def client(running_server: SyncServer, tmp_path: Path) -> Iterator[SyncClient]:
    """Connected, and it has the documents."""
    with make(running_server, tmp_path) as client:
        client.wait_for(State.CONNECTED, timeout_s=10)
        wait_until(lambda: client.orders.fresh)
        yield client


def make(server: SyncServer, directory: Path, **options: Any) -> SyncClient:
    return SyncClient(
        server.base_url, client_name="kiosk", cache_dir=directory / "cache", replica=True, trust_env=False, **options
    )


def test_a_command_is_shown_at_once_and_has_an_answer(client: SyncClient, order_id: str) -> None:
    given = client.orders.create(order_id, notes="first")
    entry = client.orders.get(order_id)
    assert entry is not None
    assert entry.document.notes == "first"
    assert (given.id, given.name) == (order_id, "order.create")
    assert given.done(10)["order"]["version"] == 1
    entry = client.orders.get(order_id)
    assert entry is not None
    assert (entry.pending, order_id in client.orders, len(client.orders) >= 1) == (False, True, True)
    assert order_id in [each.document.id for each in client.orders]


def test_a_refusal_is_raised_and_can_be_retried_or_discarded(client: SyncClient, order_id: str) -> None:
    refused = client.orders.set_status(order_id, "ready")
    with pytest.raises(CommandFailed, match="There is no order"):
        refused.done(10)
    assert [entry.key for entry in client.outbox.failed] == [refused.key]
    client.orders.create(order_id).done(10)
    assert client.outbox.retry(refused.key).done(10)["order"]["status"] == "ready"
    client.bays.delete("no-such-bay")
    client.outbox.flush(10)
    (failed,) = client.outbox
    client.outbox.discard(failed.key)
    assert (list(client.outbox), len(client.outbox), client.outbox.queued, client.outbox.in_flight) == ([], 0, [], [])
    with pytest.raises(ClientError, match="no command"):
        client.outbox.discard(failed.key)


def test_what_is_wrong_is_told_before_anything_is_sent(client: SyncClient, order_id: str) -> None:
    with pytest.raises(InvalidCommand, match="currency"):
        client.orders.create(order_id, currency="dollars")
    with pytest.raises(AttributeError, match="create"):
        client.orders.explode(order_id)
    assert client.orders.get(order_id) is None


def test_a_hook_is_called_in_the_thread_that_waits(client: SyncClient, order_id: str) -> None:
    client.orders.create(order_id).done(10)
    called: list[threading.Thread] = []

    @client.outbox.on_conflict
    def merge(conflict: Conflict) -> dict[str, Any]:
        called.append(threading.current_thread())
        return {"notes": conflict.current["order"]["notes"] + " and mine"}

    httpx2.patch(f"{client.base_url}/api/v1/orders/{order_id}", json={"notes": "theirs"}, trust_env=False)
    given = client.orders.edit(order_id, notes="mine", if_match=1)
    assert given.done(10)["order"]["notes"] == "theirs and mine"
    assert called == [threading.current_thread()]
    with pytest.raises(ConfigurationError):
        client.outbox.on_conflict(_async_hook)


async def _async_hook(conflict: Conflict) -> None: ...


def test_one_document_is_watched_until_nothing_changes(client: SyncClient, order_id: str) -> None:
    client.orders.create(order_id)
    seen: list[str | None] = []
    for entry in client.orders.watch(order_id, timeout_s=2):
        status = entry.document.status
        seen.append(status)
        if status is None and not entry.pending:
            client.orders.set_status(order_id, "ready")
        elif status == "ready" and not entry.pending:
            break
    assert (seen[0], seen[-1]) == (None, "ready")
    watching = client.orders.watch(order_id, timeout_s=0.05)
    assert [entry.document.status for entry in watching] == ["ready"]


def test_a_watched_collection_is_handed_out_itself(client: SyncClient, order_id: str) -> None:
    watching = client.orders.watch(timeout_s=10)
    assert next(watching).fresh
    client.orders.create(order_id)
    assert order_id in next(watching)
    client.close()
    assert list(watching) == []


def test_a_client_without_a_replica_says_how_to_get_one(running_server: SyncServer, tmp_path: Path) -> None:
    with SyncClient(running_server.base_url, cache_dir=tmp_path, trust_env=False) as client:
        for look in (lambda: client.orders, lambda: client.outbox):
            with pytest.raises(NoReplica, match="replica=True"):
                look()
        with pytest.raises(AttributeError):
            client.nonsense  # noqa: B018


def names(it: Any) -> dict[str, set[str]]:
    """Public names of a class or object, with their parameters."""
    found = {name: inspect.getattr_static(it, name) for name in dir(it) if not name.startswith("_")}
    return {name: set(inspect.signature(f).parameters) if callable(f) else set() for name, f in found.items()}


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (blocking_outbox.Outbox, outbox.Outbox),
        (blocking_outbox.Sent, sent.Sent),
        (blocking_collections.Collection, collections.Collection),
        (blocking_session.Session, session.Session),
    ],
    ids=lambda cls: cls.__module__,
)
def test_it_has_everything_that_the_other_has(ours: type, theirs: type) -> None:
    ours_, theirs_ = names(ours), names(theirs)
    for internal in ("settle", "then", "run", "stir", "end", "aclose"):
        theirs_.pop(internal, None)
    assert {name: missing for name in theirs_ if (missing := theirs_[name] - ours_[name])} == {}


def test_the_clients_have_the_same_documents_and_commands(client: SyncClient) -> None:
    other = AsyncClient("http://127.0.0.1:9", replica=True)
    assert {"orders", "queues", "bays", "outbox"} <= set(dir(client)) & {*dir(other), "outbox"}
    for kind in ("orders", "queues", "bays"):
        mine, theirs = getattr(client, kind), getattr(other, kind)
        assert set(dir(theirs)) - set(dir(mine)) == set()
        commands = set(dir(theirs)) - set(dir(type(theirs))) - set(vars(theirs))
        assert len(commands) >= 3
        for name in commands:
            assert inspect.signature(getattr(mine, name)) == inspect.signature(getattr(theirs, name))
