"""Commands and replicas against the real server: what is shown ends equal to what the server has, each command once."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from playwright.async_api import BrowserContext

from e2e.fault_proxy import FaultProxy
from tests.js.shop import Tab, open_tab, until
from tests.js.site import Site
from tests.servers import SyncServer

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(120)]

ITEM = {"sku": "wash", "name": "Wash <b>&</b> wax", "quantity": 1, "unitPrice": "12.50"}
REPLICA = """() => {
  window.failed = [];
  client.on('sync_failed', ({ data: { action, problem, current } }) => {
    failed.push([action.given.orderID, problem.detail, current]);
  });
  window.replica = client.replica();
  window.send = (name, given) => client.send(name, given).outcome.then(({ status }) => status);
}"""
KINDS = {"orders": "orderID", "queues": "queueID", "bays": "bayID"}


@pytest_asyncio.fixture(loop_scope="session")
async def api(server: SyncServer) -> AsyncIterator[httpx2.AsyncClient]:
    """Another till, without a browser."""
    async with httpx2.AsyncClient(base_url=f"{server.base_url}/api/v1", trust_env=False, timeout=20) as client:
        yield client


async def post(api: httpx2.AsyncClient, path: str, **body: Any) -> dict[str, Any]:
    answer = await api.post(path, json=body)
    assert answer.status_code in (200, 201), answer.text
    content: dict[str, Any] = answer.json()
    return content


async def open_board(context: BrowserContext, site: Site, **options: Any) -> Tab:
    tab = await open_tab(context, site, options=options)
    await tab.page.evaluate(REPLICA)
    await tab.until("replica.status === 'ready'")
    return tab


async def snapshot(api: httpx2.AsyncClient) -> dict[str, Any]:
    """All open documents, by kind and id."""
    content = (await api.get("/sync/snapshot", params={"limit": 1000})).json()
    assert "pageToken" not in content
    return {kind: {document[key]: document for document in content[kind]} for kind, key in KINDS.items()}


async def shown(tab: Tab) -> dict[str, Any]:
    """The same out of the tab's replica."""
    found: dict[str, Any] = {}
    for kind, key in KINDS.items():
        found[kind] = {document[key]: document for document in await tab.get(f"replica.list('{kind}')")}
    return found


async def test_a_day_in_the_shop_ends_alike_everywhere(
    context: BrowserContext, shop: Site, api: httpx2.AsyncClient
) -> None:
    tabs = [await open_board(context, shop) for _ in range(2)]
    await post(api, "/queues", queueID="day-q", name="Day")
    await post(api, "/bays", bayID="day-b", name="Day")
    for n in range(6):
        await post(api, "/orders", orderID=f"day-{n}", items=[ITEM])
        await post(api, "/queues/day-q/entries", orderID=f"day-{n}", priority=n % 2)
    called = await tabs[0].get("send('queues.callNext', { queueID: 'day-q', bayID: 'day-b', jobID: 'day-j' })")
    progress = await tabs[1].get("send('bays.reportProgress', { bayID: 'day-b', jobID: 'day-j', progress: 40 })")
    finished = await tabs[0].get("send('bays.finishJob', { bayID: 'day-b', jobID: 'day-j' })")
    assert (called, progress, finished) == ("applied", "applied", "applied")
    await post(api, "/orders/day-0/stage", newStage="cancelled")
    assert (await api.delete("/orders/day-2")).status_code == 200
    await post(api, "/orders", orderID="day-2", items=[])
    last = await post(api, "/orders", orderID="day-end")
    for tab in tabs:
        await tab.until("replica.get('orders', 'day-end') !== undefined")
        assert await shown(tab) == await snapshot(api)
        assert tab.errors == []
    assert last["order"]["stage"] == "empty"


async def test_a_change_is_shown_at_once_and_then_as_the_server_has_it(
    context: BrowserContext, shop: Site, api: httpx2.AsyncClient
) -> None:
    await post(api, "/orders", orderID="once", items=[ITEM])
    tab = await open_board(context, shop)
    seen = await tab.get(
        """(async () => {
          const stages = [];
          replica.subscribe(() => {
            const { document, pending } = replica.entry('orders', 'once');
            stages.push(`${document.stage} ${document.version} ${pending.length}`);
          });
          await client.send('orders.changeStage', { orderID: 'once', newStage: 'in_progress' }).outcome;
          return [...new Set(stages)];
        })()"""
    )
    assert (seen[0], seen[-1]) == ("in_progress 1 1", "in_progress 2 0")
    assert set(seen[1:-1]) <= {"in_progress 2 1"}, "the feed may be quicker than the answer"


async def test_a_refused_change_reverts_and_says_why(
    context: BrowserContext, shop: Site, api: httpx2.AsyncClient
) -> None:
    await post(api, "/orders", orderID="late", items=[ITEM])
    tab = await open_board(context, shop)
    await context.set_offline(True)
    await tab.until("client.state !== 'connected' && !client.health.isOnline")
    await post(api, "/orders/late/stage", newStage="cancelled")
    await tab.page.evaluate("void client.send('orders.changeStage', { orderID: 'late', newStage: 'in_progress' })")
    assert await tab.get("replica.get('orders', 'late').stage") == "in_progress"
    await context.set_offline(False)
    await tab.until("failed.length === 1")
    ((order_id, detail, current),) = await tab.get("failed")
    assert (order_id, current["order"]["stage"]) == ("late", "cancelled")
    assert "cancelled" in detail
    assert await tab.get("[replica.get('orders', 'late').stage, replica.entry('orders', 'late').failed.state]") == [
        "cancelled", "failed",
    ]  # fmt: skip


async def test_twenty_actions_queued_offline_survive_a_reload_and_are_applied_once(
    context: BrowserContext, shop: Site, api: httpx2.AsyncClient
) -> None:
    tab = await open_board(context, shop)
    await context.set_offline(True)
    await tab.page.evaluate(
        """async () => {
          const given = (n) => ({ orderID: `offline-${n}`, items: [] });
          await Promise.all(Array.from({ length: 20 }, (_, n) => client.send('orders.create', given(n)).saved));
        }"""
    )
    shop.upstream = None  # the page can be loaded again, and the server still cannot be reached
    await context.set_offline(False)
    await tab.page.goto(shop.url("/page"))
    await tab.connect()
    await tab.page.evaluate(REPLICA)
    await tab.until("client.actions.pending.length === 20")
    shop.upstream = ("127.0.0.1", int(str(api.base_url).split(":")[2].split("/")[0]))
    await tab.page.evaluate("client.retryNow()")
    await tab.until("client.actions.list.length === 0 && replica.status === 'ready'")
    orders = (await snapshot(api))["orders"]
    made = [orders[f"offline-{n}"] for n in range(20)]
    assert [order["version"] for order in made] == [1] * 20
    assert [order["createdAt"] for order in made] == sorted(order["createdAt"] for order in made)
    await tab.until("replica.list('orders').filter(({ orderID }) => orderID.startsWith('offline-')).length === 20")


async def test_a_lost_answer_does_not_do_it_twice(
    context: BrowserContext, site: Site, server: SyncServer, api: httpx2.AsyncClient
) -> None:
    await post(api, "/orders", orderID="lost", items=[ITEM])
    async with FaultProxy("127.0.0.1", server.port) as proxy:
        site.upstream = ("127.0.0.1", proxy.port)
        tab = await open_board(context, site)
        proxy.plain.cut_after_bytes = 1  # the server hears it, and cannot be heard
        await tab.page.evaluate("void (window.sent = send('orders.setStatus', { orderID: 'lost', status: 'called' }))")
        await until(lambda: len([r for r in proxy.plain_requests if r.method == "POST"]) >= 2)
        proxy.plain.clear()
        assert await tab.get("sent") == "applied"
    order = (await api.get("/orders/lost")).json()["order"]
    assert (order["status"], order["version"]) == ("called", 2)


async def test_what_one_tab_queues_another_sends(context: BrowserContext, shop: Site, api: httpx2.AsyncClient) -> None:
    tabs = [await open_board(context, shop) for _ in range(2)]
    (follower,) = [tab for tab in tabs if await tab.get("client.health.role") == "follower"]
    assert await follower.get("send('orders.create', { orderID: 'shared' })") == "applied"
    for tab in tabs:
        await tab.until("replica.get('orders', 'shared')?.version === 1 && client.actions.list.length === 0")


async def test_a_tab_that_dies_while_it_sends_leaves_its_actions_to_the_next(
    context: BrowserContext, site: Site, server: SyncServer, api: httpx2.AsyncClient
) -> None:
    async with FaultProxy("127.0.0.1", server.port) as proxy:
        site.upstream = ("127.0.0.1", proxy.port)
        tabs = [await open_board(context, site) for _ in range(2)]
        roles = [await tab.get("client.health.role") for tab in tabs]
        leader, follower = tabs[roles.index("leader")], tabs[roles.index("follower")]
        proxy.plain.stalled = True
        await leader.page.evaluate(
            "Promise.all([0, 1, 2].map((n) => client.send('orders.create', { orderID: `orphan-${n}` }).saved))"
        )
        await until(lambda: any(request.method == "POST" for request in proxy.plain_requests))
        await leader.page.close()
        proxy.plain.clear()
        await follower.until("client.actions.list.length === 0 && client.health.role === 'leader'")
    orders = (await snapshot(api))["orders"]
    assert [orders[f"orphan-{n}"]["version"] for n in range(3)] == [1, 1, 1]


async def test_a_copy_of_one_bay_holds_what_is_in_it(
    context: BrowserContext, shop: Site, api: httpx2.AsyncClient
) -> None:
    for bay in ("one", "two"):
        await post(api, "/bays", bayID=f"bay-{bay}", name=bay)
    await post(api, "/orders", orderID="in-bay", items=[ITEM])
    tab = await open_board(context, shop)  # the stream lets everything through; the copy does not
    await tab.page.evaluate("window.bay = client.replica({ filter: { bayID: 'bay-one' } })")
    await tab.until("bay.status === 'ready'")
    inside = "bay.list('orders').map(({ orderID }) => orderID)"
    assert await tab.get(inside) == []
    started = await post(api, "/bays/bay-one/jobs", orderID="in-bay", service="wash", expectedSeconds=60)
    await tab.until(f"({inside}).includes('in-bay')")
    await post(api, f"/bays/bay-one/jobs/{started['bay']['job']['jobID']}/abort", reason="broken")
    await tab.until(f"!({inside}).includes('in-bay')")
    assert await tab.get("replica.get('orders', 'in-bay').stage") == "initiated"


async def test_a_replica_is_right_after_a_kill_in_the_middle(
    context: BrowserContext, site: Site, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with SyncServer(tmp_path_factory.mktemp("killed")) as server:
        site.upstream = ("127.0.0.1", server.port)
        tab = await open_board(context, site)
        await tab.page.evaluate(
            "void (window.sent = Array.from({ length: 60 }, (_, n) => send('orders.create', { orderID: `k${n}` })))"
        )
        await tab.until("replica.list('orders').some(({ version }) => version === 1)")
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
        await tab.page.evaluate("client.retryNow()")
        await tab.until("client.actions.list.length === 0")
        assert await tab.get("Promise.all(sent)") == ["applied"] * 60
        async with httpx2.AsyncClient(base_url=f"{server.base_url}/api/v1", trust_env=False) as api:
            truth = await snapshot(api)
        await tab.until("client.health.caughtUp")
        assert await shown(tab) == truth
        assert {order["version"] for order in truth["orders"].values()} == {1}
        assert len(truth["orders"]) == 60
