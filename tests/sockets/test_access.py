"""Who may open a socket: credentials, origins, and what ends a socket when access does."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx2
import pytest
from websockets.exceptions import ConnectionClosed

from sync_core.problems import Forbidden
from sync_server.sockets.origin import Origins
from tests.access.credentials import ACCESS, bearer, token
from tests.accounts.office import PASSWORD, office
from tests.feed.conftest import Start
from tests.serving import Served, stage_change
from tests.sockets.client import closed_with, refused, socket
from tests.sockets.routes import PATH, echo, serve_at

AUTH = "/api/v1/auth"
OWN_PAGE = "https://shop.example"


@pytest.fixture
async def served(tmp_path: Path, start_sqlite: Start) -> AsyncIterator[Served]:
    async with office(tmp_path) as desk:
        await desk.add_user("ann", "cashier")
    async with start_sqlite(access={**ACCESS, "cors_origins": [OWN_PAGE]}, limits={"streams_per_principal": 3}) as it:
        yield it


@asynccontextmanager
async def login(served: Served) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=served.url, trust_env=False) as http:
        reply = await http.post(f"{AUTH}/login", json={"username": "ann", "password": PASSWORD})
        http.headers["X-CSRF-Token"] = reply.json()["csrfToken"]
        yield http


async def test_a_token_in_the_header_opens_a_socket_and_nothing_else_does(served: Served) -> None:
    async with socket(served, headers=bearer("viewer")) as client:
        assert (await client.next())["data"]["access"] != "open"
    status, problem = await refused(served)
    assert (status, problem["status"]) == (401, 401)
    assert (await refused(served, headers={"Authorization": "Bearer x"}))[0] == 401
    assert (await refused(served, headers=bearer("viewer", lifetime_s=-5)))[0] == 401


async def test_a_cookie_counts_for_pages_of_this_server(served: Served) -> None:
    async with login(served) as http:
        cookie = f"order_sync_session={http.cookies['order_sync_session']}"
        for origin in (f"http://127.0.0.1:{served.port}", f"https://127.0.0.1:{served.port}", OWN_PAGE):
            async with socket(served, headers={"Cookie": cookie, "Origin": origin}) as client:
                await client.until("caught_up")
        for origin in ("http://evil.example", "null", f"http://127.0.0.1:{served.port + 1}", "http://shop.example"):
            assert (await refused(served, headers={"Cookie": cookie, "Origin": origin}))[0] == 403


async def test_a_ticket_opens_one_socket(served: Served) -> None:
    async with login(served) as http:
        ticket = (await http.post(f"{AUTH}/tickets")).json()["ticket"]
        async with socket(served, ticket=ticket, orderID="A") as client:
            assert (await client.until("connected"))["data"]["filter"] == {"orderID": ["A"]}
        assert (await refused(served, ticket=ticket))[0] == 401
        assert (await refused(served, ticket="x"))[0] == 401
        fresh = (await http.post(f"{AUTH}/tickets")).json()["ticket"]
        assert (await refused(served, ticket=fresh, headers=bearer("viewer")))[0] == 400


async def test_the_first_message_may_say_who_calls_where_the_protocol_lets_it(served: Served) -> None:
    serve_at(served, echo, late=True, greeting_s=0.5)
    async with socket(served, PATH) as client:
        greeting = {"type": "connect", "token": token("viewer"), "clientId": "till-1"}
        assert await client.ask(greeting) == greeting
        assert await client.ask({"type": "x"}) == {"type": "x"}
    for first in (
        {"type": "connect"},
        {"type": "x", "token": token("viewer")},
        {"type": "connect", "token": "nonsense"},
    ):
        async with socket(served, PATH) as client:
            await client.say(first)
            assert await closed_with(client) == ("UNAUTHORIZED", 1008)
    async with socket(served, PATH) as client:
        assert (await client.end())[0] == 1001  # in silence
    # Whoever shows something in the handshake is judged by it.
    assert (await refused(served, PATH, headers={"Authorization": "Bearer x"}))[0] == 401
    async with socket(served, PATH, headers={"Cookie": "order_sync_session=stale"}) as client:
        assert (await client.ask(greeting))["type"] == "connect"
    async with socket(served, PATH, headers=bearer("viewer")) as client:
        assert await client.ask({"type": "x"}) == {"type": "x"}


@pytest.mark.parametrize("said", [{"type": "ping"}, "no json", {"no": "type"}], ids=str)
async def test_nothing_puts_off_saying_who_one_is(served: Served, said: object) -> None:
    serve_at(served, echo, late=True, greeting_s=0.5)
    async with socket(served, PATH) as client, asyncio.timeout(5):
        with suppress(ConnectionClosed):
            while True:
                await client.ask(said)
                await asyncio.sleep(0.1)  # the stranger's own rhythm: within the rate, and never silent for long
        assert await client.end() == (1001, "no greeting for 0.5 s")


async def test_a_token_that_runs_out_ends_the_socket(served: Served) -> None:
    async with socket(served, headers=bearer("viewer", lifetime_s=4)) as client:  # time enough to come in
        assert (await client.end())[0] == 1001
        assert client.seen[-1]["data"]["reason"] == "token_expired"
    serve_at(served, echo)
    async with socket(served, PATH, headers=bearer("viewer", exp=time.time() + 4)) as client:
        answer = await client.ask({"type": "x"})
        while answer["type"] == "x":
            await asyncio.sleep(0.1)
            answer = await client.ask({"type": "x"})
        assert answer["code"] == "UNAUTHORIZED"
        assert (await client.end())[0] == 1008


async def test_a_session_that_ends_ends_its_sockets(served: Served) -> None:
    async with (
        login(served) as http,
        socket(served, headers={"Cookie": f"order_sync_session={http.cookies['order_sync_session']}"}) as client,
    ):
        await client.until("caught_up")
        assert (await http.post(f"{AUTH}/logout")).status_code == 204
        assert (await client.end())[0] == 1001
        assert client.seen[-1]["data"]["reason"] == "access_changed"


async def test_who_does_not_follow_is_dismissed_too(served: Served) -> None:
    serve_at(served, echo, late=True)
    async with login(served) as http:
        session = http.cookies["order_sync_session"]
        async with (
            socket(served, PATH, headers={"Cookie": f"order_sync_session={session}"}) as by_cookie,
            socket(served, PATH) as late,
            socket(served, PATH, headers=bearer("viewer")) as other,
        ):
            await late.ask({"type": "connect", "token": session})
            await by_cookie.ask({"type": "x"})
            assert (await http.post(f"{AUTH}/logout")).status_code == 204
            assert (await late.end())[0] == 1001
            assert (await by_cookie.end())[0] == 1001
            assert await other.ask({"type": "x"}) == {"type": "x"}


async def test_a_socket_shows_what_its_caller_may_see(served: Served) -> None:
    """Live and replayed, as over the stream."""

    async def tell(n: int, audience: list[str] | None) -> None:
        event = stage_change(n) if audience is None else stage_change(n, audience=audience)
        async with httpx2.AsyncClient(
            base_url=served.url, trust_env=False, headers=bearer("admin", sub="boss")
        ) as http:
            assert (await http.post("/api/v1/sync/events", json=event)).status_code == 201

    async with (
        socket(served, headers=bearer("viewer", sub="bob")) as bob,
        socket(served, headers=bearer("cashier", sub="eve")) as eve,
    ):
        for client in (bob, eve):
            await client.until("caught_up")
        await tell(1, ["user:bob"])
        await tell(2, ["role:cashier"])
        await tell(3, None)
        for client, numbers in ((bob, [1, 3]), (eve, [2, 3])):
            await client.until(lambda message: message.get("data", {}).get("n") == 3)
            assert [e["data"]["n"] for e in client.envelopes] == numbers
    async with socket(served, headers=bearer("viewer", sub="bob"), lastEventId="earliest") as bob:
        await bob.until("caught_up")
        assert [e["data"]["n"] for e in bob.envelopes] == [1, 3]


async def test_handshakes_count_as_connects(tmp_path: Path, start_sqlite: Start) -> None:
    async with start_sqlite(access=ACCESS, limits={"connects": "3/minute"}) as served:
        for _ in range(3):
            async with socket(served, headers=bearer("viewer")):
                pass
        assert (await refused(served, headers=bearer("viewer")))[0] == 429
        assert (await refused(served, headers=bearer("viewer", sub="another")))[0] == 429  # by its address


async def test_sockets_count_as_streams(served: Served) -> None:
    headers = bearer("viewer")
    async with socket(served, headers=headers), socket(served, headers=headers), socket(served, headers=headers):
        assert (await refused(served, headers=headers))[0] == 429
        async with socket(served, headers=bearer("viewer", sub="other")):
            pass


@pytest.mark.parametrize(
    ("scheme", "origin", "host", "good"),
    [
        ("ws", "http://a.example:8080", "a.example:8080", True),
        ("ws", "HTTP://A.example:8080", "a.EXAMPLE:8080", True),
        ("ws", "https://a.example", "a.example", True),
        ("wss", "https://a.example", "a.example", True),
        ("https", "https://a.example", "a.example", True),
        ("wss", "http://a.example", "a.example", False),
        ("ws", "http://a.example.evil", "a.example", False),
        ("ws", "http://evil@a.example", "a.example", False),
        ("ws", "file://", "a.example", False),
        ("ws", "", "a.example", False),
        ("ws", "https://shop.example", "a.example", True),
        ("ws", "http://shop.example", "a.example", False),
    ],
)
def test_origins(scheme: str, origin: str, host: str, good: bool) -> None:
    scope = {"scheme": scheme, "headers": [(b"host", host.encode()), (b"origin", origin.encode())]}
    if good:
        Origins([OWN_PAGE]).check(scope)
        return
    with pytest.raises(Forbidden):
        Origins([OWN_PAGE]).check(scope)


def test_two_origins_or_hosts_are_none() -> None:
    own = [(b"host", b"a"), (b"origin", b"http://a")]
    for more in ((b"origin", b"http://a"), (b"host", b"a")):
        with pytest.raises(Forbidden):
            Origins().check({"scheme": "ws", "headers": [*own, more]})
    Origins().check({"scheme": "ws", "headers": [(b"host", b"a")]})  # a program
