"""``sync-client outbox``: looking changes nothing, and what a person decides the client does."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from e2e.client.harness import Shop, eventually
from e2e.client.test_programs import cli
from sync_client import State, SyncClient
from sync_client.options import Options, outbox_path
from sync_client.outbox_file import OutboxFile
from sync_client.pending import OutboxEntry
from sync_core.domain.catalog import DOMAIN


def where(shop: Shop) -> tuple[str, ...]:
    return (shop.proxy.url, "--name", "till", "--cache-dir", str(shop.directory / "cache"))


def file_of(shop: Shop) -> Path:
    return outbox_path(shop.proxy.url, Options(client_name="till", cache_dir=shop.directory / "cache"))


@asynccontextmanager
async def online(shop: Shop) -> AsyncIterator[SyncClient]:
    async with shop.client("till", replica=True) as client:
        await client.wait_for(State.CONNECTED, timeout_s=10)
        yield client


@pytest.fixture
async def failed(shop: Shop, order_id: str) -> str:
    """The key of a command that failed: the order was not there yet. Another waits behind it."""
    async with online(shop) as client:
        await client.orders.set_status(order_id, "ready")
        await eventually(lambda: client.outbox.failed)
        shop.proxy.plain.refused = shop.proxy.stream.refused = True
        shop.proxy.cut_all()
        await eventually(lambda: client.state is not State.CONNECTED)
        await client.orders.create(order_id)
        key = client.outbox.failed[0].key
    shop.proxy.plain.clear()
    shop.proxy.stream.clear()
    return key


def kept(shop: Shop) -> list[OutboxEntry]:
    """What is in the file."""
    file = OutboxFile(file_of(shop), DOMAIN)
    try:
        return file.load()
    finally:
        file.close()


def in_short(entries: list[OutboxEntry]) -> list[tuple[str, str]]:
    return [(entry.name, entry.state.value) for entry in entries]


async def test_it_shows_what_waits_and_what_failed_and_changes_nothing(shop: Shop, failed: str, order_id: str) -> None:
    before = {file.name: file.read_bytes() for file in file_of(shop).parent.iterdir()}
    status, out, err = await cli("outbox", "show", *where(shop), COLUMNS="400")
    assert (status, err) == (0, "")
    assert "1 queued, 0 in flight, 1 failed" in out
    assert all(text in out for text in (failed, "order.set_status", "status=ready", "There is no order", order_id))
    status, out, err = await cli("outbox", "show", *where(shop), "--json")
    rows: list[dict[str, Any]] = json.loads(out)["commands"]
    assert (status, err) == (0, "")
    assert [(row["key"], row["command"], row["state"]) for row in rows[:1]] == [(failed, "order.set_status", "failed")]
    assert {file.name: file.read_bytes() for file in file_of(shop).parent.iterdir()} == before


async def test_a_retried_command_goes_out_behind_those_that_wait(shop: Shop, failed: str, order_id: str) -> None:
    status, out, err = await cli("outbox", "retry", failed[:8], *where(shop))
    assert (status, out, err) == (0, "", "order.set_status is queued again.\n")
    assert in_short(kept(shop)) == [("order.create", "queued"), ("order.set_status", "queued")]
    async with online(shop) as client:
        await client.outbox.flush(10)
        assert client.outbox.failed == []
        entry = client.orders.get(order_id)
        assert entry is not None
        assert entry.document.status == "ready"


async def test_discarding_asks_where_something_would_be_lost(shop: Shop, failed: str) -> None:
    status, out, _ = await cli("outbox", "discard", failed, *where(shop))
    assert (status, "Discard it?" in out) == (0, False)
    (waiting,) = kept(shop)
    status, out, _ = await cli("outbox", "discard", waiting.key, *where(shop))
    assert (status, "order.create waits to be sent" in out, len(kept(shop))) == (1, True, 1)
    status, _, err = await cli("outbox", "discard", waiting.key, *where(shop), "--yes")
    assert (status, err) == (0, "order.create is discarded.\n")
    assert kept(shop) == []


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("retry", "nonesuch"), "no command of the outbox has a key that is or begins with 'nonesuch'"),
        (("discard", "x"), "no command of the outbox has a key"),
    ],
)
async def test_wrong_use_is_a_line_and_a_status(shop: Shop, failed: str, argv: tuple[str, ...], words: str) -> None:
    status, out, err = await cli("outbox", *argv, *where(shop))
    assert (status, out, words in err) == (1, "", True)


async def test_an_outbox_that_is_not_there_is_told(shop: Shop) -> None:
    status, _, err = await cli("outbox", "show", *where(shop))
    assert (status, "there is no outbox of 'till'" in err) == (1, True)


async def test_what_a_client_has_open_can_be_looked_at_and_not_changed(shop: Shop, failed: str) -> None:
    shop.proxy.plain.refused = shop.proxy.stream.refused = True
    async with shop.client("till", replica=True):
        status, out, _ = await cli("outbox", "show", *where(shop))
        assert (status, "1 queued, 0 in flight, 1 failed" in out) == (0, True)
        status, _, err = await cli("outbox", "discard", failed, *where(shop))
        assert (status, "in use" in err) == (1, True)


async def test_what_is_no_outbox_is_named_and_left_alone(shop: Shop) -> None:
    path = file_of(shop)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"no outbox" * 100)
    for command in (("show",), ("discard", "abcdef")):
        status, _, err = await cli("outbox", *command, *where(shop))
        assert (status, str(path) in err, "Traceback" in err) == (1, True, False)
    assert path.read_bytes() == b"no outbox" * 100
