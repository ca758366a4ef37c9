"""A server that asks who calls: tickets for streams, tokens that expire, a session's cookies, rights that change."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from playwright.async_api import BrowserContext, Page

from tests.access.credentials import CONFIG, bearer, token
from tests.js.shop import Tab, until
from tests.js.site import Site
from tests.servers import SyncServer, clean_environment

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(120)]

PASSWORD = "a long enough password"
FOLLOW = """async ([withToken]) => {
  const { SyncClient } = await import('/js/sync.js');
  window.seen = [];
  window.states = [];
  window.client = new SyncClient(withToken ? { token: () => freshToken() } : {});
  client.on('*', (event) => { seen.push(event); });
  client.onStateChange(({ after, reason }) => { states.push(`${after} ${reason}`.trim()); });
  client.connect();
}"""


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SyncServer]:
    with SyncServer(tmp_path_factory.mktemp("guarded"), config=CONFIG) as server:
        yield server


@pytest.fixture
def door(site: Site, guarded: SyncServer) -> Site:
    """The site in front of that server."""
    site.upstream = ("127.0.0.1", guarded.port)
    return site


async def follow(page: Page, site: Site, *, with_token: bool = True) -> Tab:
    tab = Tab(page)
    await page.goto(site.url("/page"))
    await page.evaluate(FOLLOW, [with_token])
    return tab


async def publish(server: SyncServer, numbers: range) -> None:
    events = [{"eventType": "stage_change", "data": {"newStage": "x", "n": n}, "orderID": "A"} for n in numbers]
    async with httpx2.AsyncClient(base_url=server.base_url, trust_env=False, headers=bearer("admin")) as client:
        reply = await client.post("/api/v1/sync/events", json={"events": events})
    assert reply.status_code == 201, reply.text


async def test_streams_get_tickets_and_no_address_holds_a_token(page: Page, door: Site, guarded: SyncServer) -> None:
    secret = token("admin")
    await page.expose_function("freshToken", lambda: secret)
    tab = await follow(page, door)
    await tab.until("client.isReady")
    await publish(guarded, range(3))
    await tab.until("seen.length === 3")
    await door.cut()
    await until(lambda: len(door.streams) == 2)
    await publish(guarded, range(3, 5))
    await tab.until("seen.length === 5")
    tickets = [request.target.partition("ticket=")[2] for request in door.streams]
    assert len(set(tickets)) == 2
    assert all(tickets)
    assert not any(secret in request.target for request in door.requests)
    assert await tab.numbers() == [0, 1, 2, 3, 4]


async def test_a_token_that_expires_is_renewed_without_a_gap(page: Page, door: Site, guarded: SyncServer) -> None:
    asked: list[str] = []

    def fresh() -> str:
        asked.append(token("admin", lifetime_s=2.5 if not asked else 300))
        return asked[-1]

    await page.expose_function("freshToken", fresh)
    tab = await follow(page, door)
    await tab.until("client.isReady")
    for n in range(12):
        await publish(guarded, range(n, n + 1))
        await asyncio.sleep(0.25)  # a steady shop while the token grows old
    await tab.until("seen.length === 12")
    assert await tab.numbers() == list(range(12))
    assert len(asked) == 2
    assert "reconnecting token_expired" in await tab.get("states")


async def test_a_token_that_nobody_knows_is_asked_for_once_more(page: Page, door: Site) -> None:
    asked: list[str] = []
    await page.expose_function("freshToken", lambda: asked.append("x") or "nonsense")
    tab = await follow(page, door)
    await tab.until("client.state === 'failed'")
    assert (len(asked), door.streams) == (2, [])
    assert "401" in await tab.get("client.health.reason")


async def test_a_session_follows_and_changes_with_its_cookies(
    page: Page, context: BrowserContext, door: Site, guarded: SyncServer
) -> None:
    await asyncio.to_thread(add_user, guarded, "rita")
    tab = await follow(page, door, with_token=False)
    await tab.until("client.state === 'failed'")
    login: dict[str, Any] = await tab.get(
        f"""fetch('/api/v1/auth/login', {{
          method: 'POST', headers: {{'Content-Type': 'application/json'}},
          body: JSON.stringify({{username: 'rita', password: '{PASSWORD}'}}),
        }}).then((answer) => answer.json())"""
    )
    assert login["user"]["username"] == "rita"
    await page.evaluate("client.setToken()")
    await tab.until("client.isReady")
    outcome = await tab.get("client.send('orders.create', { orderID: 'by-cookie' }).outcome")
    assert outcome["status"] == "applied", outcome
    assert await tab.get("document.cookie.includes('order_sync_csrf=')") is True


async def test_what_is_queued_waits_for_the_login(page: Page, door: Site, guarded: SyncServer) -> None:
    allowed = False
    await page.expose_function("freshToken", lambda: token("admin") if allowed else "nonsense")
    tab = await follow(page, door)
    await page.evaluate("void (window.sent = client.send('orders.create', { orderID: 'later' }).outcome)")
    await tab.until("client.actions.paused === 'unauthorized' && client.state === 'failed'")
    allowed = True
    await page.evaluate("client.setToken(() => freshToken())")
    assert (await tab.get("sent"))["status"] == "applied"


def add_user(server: SyncServer, name: str) -> None:
    argv = [sys.executable, "-m", "sync_server", "user", "add", name, "--role", "admin"]
    subprocess.run(
        argv, cwd=server.directory, env=clean_environment(), input=f"{PASSWORD}\n", text=True, check=True,
        capture_output=True, timeout=60,
    )  # fmt: skip
