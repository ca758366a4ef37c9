"""What the server may answer, and what the client makes of it; how often it asks is part of each."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from e2e.client.harness import Shop, eventually, numbers
from e2e.fault_proxy import FaultProxy, response
from sync_client import Event, State
from sync_client.states import Policy

WEBFORMAT = "%a, %d %b %Y %H:%M:%S GMT"


def http_date(in_s: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=in_s)).strftime(WEBFORMAT)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("retry_after", "least_s"),
    [("2", 2.0), (http_date(3600), 60.0), ("99999999999999", 60.0), ("garbage", 0.0), ("-1", 0.0)],
    ids=["seconds", "date", "huge", "garbage", "negative"],
)
async def test_retry_after_is_obeyed_by_all_requests(shop: Shop, status: int, retry_after: str, least_s: float) -> None:
    shop.proxy.stream.status = shop.proxy.plain.status = status
    shop.proxy.stream.headers = shop.proxy.plain.headers = {"Retry-After": retry_after}
    async with shop.client() as client:
        await client.wait_for(State.ERROR, timeout_s=10)
        wait_s = client.health.next_retry_s
        assert wait_s is not None
        assert least_s - 0.5 <= wait_s <= 901
        if least_s == 2.0:
            await eventually(lambda: len(shop.proxy.requests) == 2, within_s=10)
            first, second = shop.proxy.requests
            assert second.at_s - first.at_s >= 2
        elif least_s:
            client.connect()  # not even then
            await asyncio.sleep(0.3)
            assert len(shop.proxy.requests) == 1
        else:
            shop.proxy.stream.clear()
            await client.wait_for(State.CONNECTED, timeout_s=10)


async def test_401_renews_the_token_once_then_fails_and_asks_no_more(shop: Shop) -> None:
    asked = []

    def provider() -> str:
        asked.append(1)
        return f"token-{len(asked)}"

    async with shop.following(token=provider) as (client, got):
        await shop.publish(2)
        await eventually(lambda: len(got) == 2)
        before = len(shop.proxy.requests)
        shop.proxy.stream.status = shop.proxy.plain.status = 401
        shop.proxy.cut_all()
        await client.wait_for(State.FAILED, timeout_s=15)
        await shop.publish(3)
        await asyncio.sleep(1.5)
        refused = shop.proxy.requests[before:]
        assert [r.headers["authorization"] for r in refused] == ["Bearer token-1", "Bearer token-2"]
        assert client.health.status == "error"
        shop.proxy.stream.clear()
        shop.proxy.plain.clear()
        client.connect()
        await eventually(lambda: len(got) == 5)
        assert numbers(got) == list(range(5))


async def test_another_token_ends_failed(shop: Shop) -> None:
    shop.proxy.stream.status = 403
    async with shop.client(token="old") as client:
        await client.wait_for(State.FAILED, timeout_s=10)
        assert len(shop.proxy.requests) == 1
        shop.proxy.stream.clear()
        client.set_token("new")
        await client.wait_for(State.CONNECTED, timeout_s=10)
        assert shop.proxy.requests[-1].headers["authorization"] == "Bearer new"


async def test_204_closes_for_good(shop: Shop) -> None:
    shop.proxy.stream.status = 204
    async with shop.client() as client:
        await client.wait_for(State.CLOSED, timeout_s=10)
        await asyncio.sleep(1.5)
        assert len(shop.proxy.requests) == 1


@pytest.mark.parametrize("status", [400, 404, 405, 410])
async def test_a_refusal_is_final(shop: Shop, status: int) -> None:
    shop.proxy.stream.status = status
    async with shop.client() as client:
        await client.wait_for(State.FAILED, timeout_s=10)
        await asyncio.sleep(1.2)
        assert len(shop.proxy.requests) == 1


async def test_a_page_instead_of_a_stream_is_final(shop: Shop) -> None:
    page = response(200, headers={"Content-Type": "text/html"}, body=b"<h1>Sign in to the wireless network</h1>")
    shop.proxy.stream.answers = [page]
    async with shop.client() as client:
        await client.wait_for(State.FAILED, timeout_s=10)
        assert "text/html" in client.health.reason


async def test_an_unattended_client_tries_again_by_itself(shop: Shop) -> None:
    shop.proxy.stream.status = 403
    policy = Policy(unattended=True, unattended_s=0.5)
    async with shop.client(policy=policy) as client:
        await client.wait_for(State.FAILED, timeout_s=10)
        shop.proxy.stream.clear()
        await client.wait_for(State.CONNECTED, timeout_s=10)


async def test_a_redirect_to_another_origin_does_not_carry_the_token(shop: Shop) -> None:
    async with FaultProxy("127.0.0.1", shop.server.port) as elsewhere:
        target = f"{elsewhere.url}/api/v1/sync/events"
        shop.proxy.stream.answers = [response(307, headers={"Location": target})]
        async with shop.client(token="secret") as client:
            await client.wait_for(State.CONNECTED, timeout_s=10)
            assert shop.proxy.requests[0].headers["authorization"] == "Bearer secret"
            (seen,) = elsewhere.requests
            assert "authorization" not in seen.headers
            assert "x-client-id" not in seen.headers


async def test_a_redirect_within_the_origin_keeps_the_token(shop: Shop) -> None:
    shop.proxy.stream.answers = [response(307, headers={"Location": "/api/v1/sync/events"})]
    async with shop.client(token="secret") as client:
        await client.wait_for(State.CONNECTED, timeout_s=10)
        assert [r.headers["authorization"] for r in shop.proxy.requests] == ["Bearer secret"] * 2


async def test_redirects_in_a_circle_end(shop: Shop) -> None:
    shop.proxy.stream.status = 307
    shop.proxy.stream.headers = {"Location": "/api/v1/sync/events"}
    async with shop.client() as client:
        await client.wait_for(State.FAILED, timeout_s=10)
        assert len(shop.proxy.requests) == 6


@pytest.mark.parametrize("fault", ["refused", "500"])
async def test_a_dead_server_is_asked_a_bounded_number_of_times(shop: Shop, fault: str) -> None:
    for kind in (shop.proxy.stream, shop.proxy.plain):
        kind.refused = fault == "refused"
        kind.status = 500 if fault == "500" else None
    fast = {"rng": lambda: 0.001}  # next to no jitter: the worst case
    async with shop.client(**fast) as client:
        await client.wait_for(State.POLLING, timeout_s=20)
        await eventually(lambda: client.health.breaker == "open", within_s=10)
        count = len(shop.proxy.requests)
        assert count <= 5 + 5
        await asyncio.sleep(1.5)
        assert len(shop.proxy.requests) == count
        assert client.health.status == "offline"


async def test_pages_of_nonsense_while_polling_are_survived(shop: Shop) -> None:
    shop.proxy.stream.status = 500
    async with shop.client(policy=Policy(max_reconnect_attempts=1), rng=lambda: 0.05) as client:
        got: list[Event] = []
        client.on()(got.append)
        await eventually(lambda: client.cursor)
        assert client.state is State.POLLING
        nonsense = (b"<html>", b"[]", b'{"events": 5}', b'{"events": [5]}', b'{"cursor": {}}', b"\xff\xfe")
        shop.proxy.plain.answers = [
            response(200, headers={"Content-Type": "application/json"}, body=body) for body in nonsense
        ]
        await eventually(lambda: not shop.proxy.plain.answers)
        await shop.publish(2)
        await eventually(lambda: numbers(got) == [0, 1])
