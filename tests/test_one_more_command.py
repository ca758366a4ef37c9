"""A command is declared in one file. Beside a copy of sync_core that has one more, and nothing else, everything has it:
the server its route, /openapi.json and /asyncapi.json, both clients their method and the picture of its effect; and
the module of declarations that the browser loads is made anew by one program.
"""

from collections.abc import Iterator

import httpx2
import pytest

from tests.changed_core import changed_core, said
from tests.servers import SyncServer

ONE_MORE = '''

from sync_core.domain.fields import Whole


class Praise(CommandInput):
    orderID: OrderID
    words: ShortText
    stars: Whole = 5


@command("POST", "/orders/{orderID}/praise", target=Order, permission="edit_orders", emits=["order_updated"])
def praise(shop: Changes, given: Praise) -> None:
    """Note what a customer liked."""
    order = shop.get(Order, given.orderID)
    shop.put(order.model_copy(update={"notes": f"{given.words} ({given.stars})"}), "order_updated")


COMMANDS = (*COMMANDS, praise)
'''

ASYNCIO = """
import asyncio, inspect, json, sys
from sync_client import SyncClient, State

async def main(url, order):
    async with SyncClient(url, replica=True, cache=False) as client:
        await client.wait_for(State.CONNECTED, timeout_s=20)
        async for _ in client.orders.watch():
            if client.orders.fresh:
                break
        sent = await client.orders.praise(order, "fast")
        shown = client.orders.get(order)
        answer = await sent.done(20)
        signature = str(inspect.signature(client.orders.praise))
        return [signature, shown.document.notes, shown.pending, answer["order"]["notes"]]

print(json.dumps(asyncio.run(main(*sys.argv[1:]))))
"""

BLOCKING = """
import inspect, json, sys
from sync_client.blocking import SyncClient

url, order = sys.argv[1:]
with SyncClient(url, replica=True, cache=False) as client:
    for _ in client.orders.watch(timeout_s=20):
        if client.orders.fresh:
            break
    sent = client.orders.praise(order, "clean", stars=4)
    shown = client.orders.get(order)
    answer = sent.done(20)
    signature = str(inspect.signature(client.orders.praise))
    print(json.dumps([signature, shown.document.notes, shown.pending, answer["order"]["notes"]]))
"""


JAVASCRIPT = """
import json
from sync_core.domain.catalog import DOMAIN
from sync_server.reference.javascript import declared
print(json.dumps(declared(DOMAIN)))
"""


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of programs that have one more command."""
    return changed_core(tmp_path_factory.mktemp("changed"), "domain/orders.py", lambda text: text + ONE_MORE)


@pytest.fixture(scope="module")
def server(changed: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[SyncServer]:
    with SyncServer(tmp_path_factory.mktemp("server"), env=changed) as server:
        yield server


def order(server: SyncServer) -> str:
    """A new one's id."""
    made = httpx2.post(f"{server.base_url}/api/v1/orders", json={}).raise_for_status().json()
    return str(made["order"]["orderID"])


def test_the_server_has_its_route(server: SyncServer) -> None:
    reply = httpx2.post(f"{server.base_url}/api/v1/orders/{order(server)}/praise", json={"words": "kind"})
    assert (reply.status_code, reply.json()["order"]["notes"]) == (200, "kind (5)")
    refused = httpx2.post(f"{server.base_url}/api/v1/orders/{order(server)}/praise", json={"stars": "x"})
    assert (refused.status_code, [e["path"] for e in refused.json()["errors"]]) == (422, ["words", "stars"])


def test_the_server_documents_it(server: SyncServer) -> None:
    openapi = httpx2.get(f"{server.base_url}/openapi.json").json()
    operation = openapi["paths"]["/api/v1/orders/{orderID}/praise"]["post"]
    assert (operation["operationId"], operation["summary"]) == ("orders_praise", "Note what a customer liked.")
    assert set(openapi["components"]["schemas"]["Praise"]["properties"]) == {"words", "stars"}
    asyncapi = httpx2.get(f"{server.base_url}/asyncapi.json").json()
    assert "orders_praise" in asyncapi["components"]["messages"]["order_updated"]["x-made-by"]


@pytest.mark.parametrize(("program", "notes"), [(ASYNCIO, "fast (5)"), (BLOCKING, "clean (4)")])
def test_a_client_has_its_method_and_shows_its_effect_before_the_answer(
    program: str, notes: str, server: SyncServer, changed: dict[str, str]
) -> None:
    signature, shown, is_pending, answered = said(program, server.base_url, order(server), env=changed)
    assert signature.startswith("(orderID: str, words: str, stars: int = 5, *, if_match: int | None = None)")
    assert (shown, is_pending, answered) == (notes, True, notes)


def test_the_browser_s_declarations_are_made_with_it(changed: dict[str, str]) -> None:
    line = "  'orders.praise': { method: 'POST', path: '/orders/{orderID}/praise' },"
    assert line in said(JAVASCRIPT, env=changed).splitlines()
