"""What every response has, whatever the route; and the endpoints for those who run the server."""

from collections.abc import AsyncIterator, Iterator
from typing import Any, cast

import httpx2
import pytest
from starlette.requests import Request
from starlette.responses import Response

from sync_core.problems import Conflict, Unavailable
from sync_server.api.health import Health
from sync_server.api.publish import Publish
from sync_server.asgi import Application
from sync_server.feed.feed import Feed
from sync_server.log.base import EventLog
from tests.server.publishing import EVENT, EVENTS, POLL, assert_problem, published, send
from tests.servers import SyncServer


class Endpoint:
    """Stands for a route: raises what it is told to."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def __call__(self, http: Request) -> Response:
        raise self._error


class Silent:
    """Stands for the health endpoints."""

    async def alive(self, http: Request) -> Response:
        return Response()

    ready = metrics = alive


@pytest.fixture
async def failing() -> AsyncIterator[Any]:
    """A function: a client of an application whose publish endpoint raises the given error."""
    clients: list[httpx2.AsyncClient] = []

    def make(error: Exception) -> httpx2.AsyncClient:
        application = Application(
            cast(EventLog, None), cast(Feed, None), cast(Publish, Endpoint(error)), cast(Health, Silent())
        )
        transport = httpx2.ASGITransport(application)
        clients.append(httpx2.AsyncClient(transport=transport, base_url="http://test"))
        return clients[-1]

    yield make
    for client in clients:
        await client.aclose()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SyncServer]:
    with SyncServer(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(scope="module")
def client(server: SyncServer) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=server.base_url, timeout=30, trust_env=False) as client:
        yield client


async def test_a_fault_of_ours_is_a_500_that_tells_nothing_but_where_to_look(failing: Any) -> None:
    reply = await failing(RuntimeError("hunter2")).post(EVENTS, headers={"X-Request-ID": "abc"})
    assert_problem(reply, 500)
    assert reply.headers["x-request-id"] == "abc"
    assert "abc" in reply.json()["detail"]
    assert "hunter2" not in reply.text
    assert "Traceback" not in reply.text


async def test_a_problem_says_when_to_try_again(failing: Any) -> None:
    reply = await failing(Unavailable("not now", retry_after_s=7)).post(EVENTS)
    assert_problem(reply, 503)
    assert reply.headers["retry-after"] == "7"
    assert reply.headers["cache-control"] == "no-store"


async def test_a_problem_without_a_time_names_none(failing: Any) -> None:
    reply = await failing(Conflict("no", extensions={"current": 7})).post(EVENTS)
    assert_problem(reply, 409)
    assert "retry-after" not in reply.headers
    assert reply.json()["current"] == 7


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", POLL, EVENTS, "/nowhere"])
def test_every_response_has_an_id_of_its_own(client: httpx2.Client, path: str) -> None:
    replies = [client.head(path) for _ in range(2)]
    assert len({reply.headers["x-request-id"] for reply in replies}) == 2


def test_alive_and_ready(client: httpx2.Client) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ready", "log": "ok", "draining": False}


def test_the_metrics_count_what_happens(client: httpx2.Client) -> None:
    published(client, EVENT, EVENT)
    client.get(POLL).raise_for_status()
    reply = client.get("/metrics")
    assert reply.headers["content-type"].startswith("text/plain")
    for name in ("readers", "tail_age", "append"):
        assert name in reply.text


def test_a_refused_request_leaves_the_connection_usable(client: httpx2.Client) -> None:
    for document in ("{", {"eventType": "x", "data": {}}, b" " * 2_000_000):
        assert send(client, document).status_code in (400, 413, 422)
        assert send(client, EVENT).status_code == 201


@pytest.mark.parametrize("path", ["/ws", "/ws/tracking", "/api/v1/sync/ws"])
def test_who_asks_a_socket_s_address_without_one_is_told_what_it_is(client: httpx2.Client, path: str) -> None:
    reply = client.get(path)
    assert_problem(reply, 404)
    assert reply.json()["detail"] == f"At {path} there is a WebSocket: connect with ws:// or wss://."
