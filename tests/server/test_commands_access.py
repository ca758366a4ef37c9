"""Commands and reads of callers who may not do and see everything. Source: protocol.md 2 and 4."""

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from time import time_ns
from typing import Any

import httpx2
import pytest
from prometheus_client import CollectorRegistry
from starlette.routing import Router
from starlette.types import Receive, Scope, Send

from sync_core.domain.catalog import DOMAIN
from sync_core.problems import Problem
from sync_server.access.caller import OPEN_CALLER, Caller
from sync_server.access.rights import OPEN_RIGHTS, Rights
from sync_server.api.documents import Documents
from sync_server.api.problem import problem_response
from sync_server.api.routing import merged
from sync_server.commands.dispatch import Dispatch
from sync_server.commands.routes import command_routes
from sync_server.log.appender import Appender
from sync_server.log.open import open_log
from sync_server.metrics import Metrics
from tests.server.shop import API, ITEM
from tests.serving import sqlite_settings

ALL = frozenset(
    {command.permission for command in DOMAIN.commands} | {kind.view_permission for kind in DOMAIN.kinds.values()}
)

As = Callable[[Caller], httpx2.AsyncClient]


def caller(*, without: str = "", bound: set[str] | None = None, principal: str = "user-7") -> Caller:
    """With all permissions but one, bound to these tags."""
    return replace(OPEN_CALLER, principal=principal, rights=Rights(ALL - {without}, bound=frozenset(bound or ())))


@pytest.fixture
async def calling(tmp_path: Path) -> AsyncIterator[As]:
    """A function: a client of the routes as a given caller. All have one log."""
    log = open_log(sqlite_settings(tmp_path).log)
    await log.open()

    def wall_ms() -> int:
        return time_ns() // 1_000_000

    appender = Appender(log, on_commit=lambda *_: None, metrics=Metrics(CollectorRegistry()), wall_ms=wall_ms)
    documents, dispatch = Documents(DOMAIN, log, wall_ms=wall_ms), Dispatch(DOMAIN, appender)
    router = Router(merged([*documents.routes(), *command_routes(dispatch)]))
    clients: list[httpx2.AsyncClient] = []

    def make(who: Caller) -> httpx2.AsyncClient:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            scope.setdefault("state", {})["caller"] = who
            try:
                await router(scope, receive, send)
            except Problem as problem:
                await problem_response(problem)(scope, receive, send)

        clients.append(httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url=f"http://test{API}"))
        return clients[-1]

    yield make
    for client in clients:
        await client.aclose()
    await appender.aclose()
    await log.aclose()


async def post(client: httpx2.AsyncClient, path: str, body: Any, status: int = 201, **headers: str) -> dict[str, Any]:
    reply = await client.post(path, json=body, headers=headers)
    assert reply.status_code == status, reply.text
    answer: dict[str, Any] = reply.json()
    return answer


@pytest.fixture
async def boss(calling: As) -> httpx2.AsyncClient:
    """Who may do everything, in a shop with two orders that wait in a queue, and two bays."""
    boss = calling(replace(OPEN_CALLER, rights=OPEN_RIGHTS))
    await post(boss, "/queues", {"queueID": "hall", "name": "Hall"})
    for number in (1, 2):
        await post(boss, "/bays", {"bayID": f"bay-{number}", "name": "Bay"})
        await post(boss, "/orders", {"orderID": f"order-{number}", "items": [ITEM]})
        await post(boss, "/queues/hall/entries", {"orderID": f"order-{number}"})
    return boss


async def test_without_its_permission_a_command_is_refused_before_its_body_is_read(calling: As) -> None:
    for command in DOMAIN.commands:
        client = calling(caller(without=command.permission))
        path = command.path.replace("{", "").replace("}", "")
        reply = await client.request(command.method, path, content=b"no JSON")
        assert reply.status_code == 403, path
        assert command.permission in reply.json()["detail"]


async def test_without_a_kinds_permission_its_documents_are_nowhere(calling: As, boss: httpx2.AsyncClient) -> None:
    client = calling(caller(without="view_orders"))
    for path in ("/orders", "/orders/order-1", "/sync/snapshot?kinds=orders"):
        assert (await client.get(path)).status_code == 403
    shown = set((await client.get("/sync/snapshot")).json())
    assert {"queues", "bays", "cursor"} <= shown
    assert "orders" not in shown
    answer = await post(client, "/queues/hall/call-next", {"bayID": "bay-1"}, 200)
    assert set(answer) == {"queue", "bay", "cursor"}
    assert (await boss.get("/orders/order-1")).json()["order"]["stage"] == "in_progress"


async def test_who_is_bound_finds_its_own_only(calling: As, boss: httpx2.AsyncClient) -> None:
    client = calling(caller(bound={"orderID=order-1", "bayID=bay-1"}))
    assert [o["orderID"] for o in (await client.get("/orders")).json()["orders"]] == ["order-1"]
    snapshot = (await client.get("/sync/snapshot", params={"limit": 1})).json()
    found = [snapshot]
    while "pageToken" in found[-1]:
        found.append(
            (await client.get("/sync/snapshot", params={"limit": 1, "pageToken": found[-1]["pageToken"]})).json()
        )
    assert [o["orderID"] for page in found for o in page["orders"]] == ["order-1"]
    assert [b["bayID"] for page in found for b in page["bays"]] == ["bay-1"]
    assert [q for page in found for q in page["queues"]] == []
    assert (await client.get("/orders/order-1")).status_code == 200
    assert (await client.get("/orders/order-2")).status_code == 404
    assert (await boss.get("/orders/order-2")).status_code == 200


async def test_who_is_bound_acts_on_what_it_sees_only(calling: As, boss: httpx2.AsyncClient) -> None:
    client = calling(caller(bound={"orderID=order-1", "bayID=bay-1"}))
    before = (await boss.get("/orders")).json()
    await post(client, "/orders/order-2/status", {"status": "x"}, 404)
    await post(client, "/orders/order-2/status", {"status": "x"}, 404, **{"If-Match": '"2"'})
    await post(client, "/queues/hall/call-next", {"bayID": "bay-1"}, 404)
    refused = await post(client, "/bays/bay-1/jobs", {"orderID": "order-2"}, 422)
    assert refused["errors"][0]["path"] == "orderID"
    unknown = await post(client, "/bays/bay-1/jobs", {"orderID": "order-9"}, 422)
    assert unknown["errors"][0]["message"].replace("9", "2") == refused["errors"][0]["message"]
    taken = await post(client, "/orders", {"orderID": "order-2"}, 409)
    assert taken["current"] == {}
    assert (await boss.get("/orders")).json() == before
    await post(client, "/orders/order-1/status", {"status": "x"}, 200)


async def test_an_answer_holds_what_its_caller_sees(calling: As, boss: httpx2.AsyncClient) -> None:
    client = calling(caller(bound={"orderID=order-1", "bayID=bay-1"}))
    answer = await post(client, "/bays/bay-1/jobs", {"orderID": "order-1"}, **{"Idempotency-Key": "k"})
    assert set(answer) == {"order", "bay", "cursor"}  # the queue that it left is not for it to see
    again = await post(client, "/bays/bay-1/jobs", {"orderID": "order-1"}, **{"Idempotency-Key": "k"})
    assert again == answer
    assert (await client.get("/commands/k")).json() == {"key": "k", "state": "applied", **answer}
    narrower = calling(caller(bound={"bayID=bay-2"}))
    again = await post(narrower, "/bays/bay-1/jobs", {"orderID": "order-1"}, **{"Idempotency-Key": "k"})
    assert set(again) == {"cursor"}
    assert (await boss.get("/queues/hall")).json()["queue"]["entries"][0]["orderID"] == "order-2"


async def test_a_key_belongs_to_its_principal(calling: As, boss: httpx2.AsyncClient) -> None:
    mine, other = calling(caller()), calling(caller(principal="user-8"))
    await post(mine, "/orders", {"orderID": "a"}, **{"Idempotency-Key": "k"})
    assert (await other.get("/commands/k")).json()["state"] == "unknown"
    await post(other, "/orders", {"orderID": "b"}, **{"Idempotency-Key": "k"})
    assert {o["orderID"] for o in (await boss.get("/orders")).json()["orders"]} >= {"a", "b"}
