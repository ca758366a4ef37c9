"""Attacks on running servers: many at the same moment, in two processes of one server; and what its log tells."""

import asyncio
import hmac
import json
import re
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import pytest
from pymongo import MongoClient

from sync_server.log.base import EventLog
from sync_server.log.mongo import MongoLog
from sync_server.log.open import new_epoch
from sync_server.log.sqlite import SQLiteLog
from tests.access.credentials import CONFIG, PROVIDER_SECRET, SECRET, bearer, token
from tests.accounts.office import PASSWORD, Clock, Office
from tests.mongod import External, ReplicaSet
from tests.server.commands import run
from tests.server.publishing import EVENT, EVENTS, POLL, assert_problem
from tests.servers import SyncServer
from tests.streams import Stream, stream

PROMISED_S = 5.0
AUTH = "/api/v1/auth"
HOOK_SECRET = "of-the-hook-0123456789abcdefghijklm"
CONFIG = CONFIG.replace(
    "[[access.jwt]]", 'trusted_proxies = ["127.0.0.1"]\ncors_origins = ["https://shop.example"]\n[[access.jwt]]', 1
)
CONFIG += f"""
[webhooks.cms]
secret = "{HOOK_SECRET}"
event_type = "status_update"
"""


class Place(NamedTuple):
    """A running server, on MongoDB with two workers; and a way to its log from the outside, as commands have it."""

    server: SyncServer
    open_log: Callable[[], EventLog]

    async def add_user(self, name: str, *roles: str) -> None:
        event_log = self.open_log()
        await event_log.open()
        office = Office(event_log, clock=Clock())
        await office.add_user(name, *roles)
        await office.aclose()
        await event_log.aclose()

    def do(self, *arguments: str) -> str:
        """What a command of the server prints, run beside it."""
        return run(*arguments, cwd=self.server.directory).stdout.strip()


@pytest.fixture(scope="module", params=["sqlite", "mongodb"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    directory = tmp_path_factory.mktemp(f"adversary-{request.param}")
    config, name = CONFIG, f"test_{uuid.uuid4().hex}"
    mongod: ReplicaSet | External | None = None

    def open_log() -> EventLog:
        if mongod is None:
            return SQLiteLog(directory / "sync.db", new_epoch=new_epoch, exclusive=False)
        return MongoLog(mongod.uri, name, new_epoch=new_epoch, driver="pymongo")

    if request.param == "mongodb":
        mongod = request.getfixturevalue("mongod")
        config += f'[server]\nworkers = 2\n[log]\nstore = "mongodb"\n[log.mongodb]\nuri = "{mongod.uri}"\n'
        config += f'database = "{name}"\n'
    with SyncServer(directory, config=config) as server:
        yield Place(server, open_log)
        text = server.log_text()
    if mongod is not None:
        with MongoClient[dict[str, Any]](mongod.uri) as client:
            client.drop_database(name)
    assert "Traceback" not in text
    secrets = [PASSWORD, SECRET, PROVIDER_SECRET, HOOK_SECRET, "eyJ", "osk_", "ticket=", "Bearer", "[0-9a-f]{64}"]
    told = re.search("|".join(secrets), text)
    assert told is None, "a secret stands in the log"


@pytest.fixture
async def http(place: Place) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=place.server.base_url, timeout=60, trust_env=False) as client:
        client.headers["X-Forwarded-For"] = f"192.0.2.{uuid.uuid4().int % 250 + 1}"
        yield client


# -- at the same moment -------------------------------------------------------------------------------------


async def test_of_many_who_show_one_ticket_at_once_one_gets_in(place: Place, http: httpx2.AsyncClient) -> None:
    for _ in range(3):
        ticket = (await http.post(f"{AUTH}/tickets", headers=bearer("viewer"))).json()["ticket"]

        async def show(ticket: str = ticket) -> int:
            async with stream(place.server.port, ticket=ticket) as opened:
                return opened.status

        assert Counter(await asyncio.gather(*(show() for _ in range(16)))) == {200: 1, 401: 15}


async def test_of_a_signed_request_sent_many_times_at_once_one_counts(http: httpx2.AsyncClient) -> None:
    before = (await http.get(POLL, headers=bearer("viewer"))).json()["head"]
    body, now = json.dumps({"status": "ready"}).encode(), str(int(time.time()))
    signature = hmac.new(HOOK_SECRET.encode(), now.encode() + b"." + body, sha256).hexdigest()
    headers = {"Content-Type": "application/json", "X-Timestamp": now, "X-Signature": signature}
    replies = await asyncio.gather(
        *(http.post("/api/v1/webhooks/cms", content=body, headers=headers) for _ in range(16))
    )
    assert Counter(reply.status_code for reply in replies) == {201: 1, 409: 15}
    page = (await http.get(POLL, params={"after": before}, headers=bearer("viewer"))).json()
    assert [event["eventType"] for event in page["events"]] == ["status_update"]


async def test_guessing_from_many_addresses_at_once_is_counted_by_the_name(
    place: Place, http: httpx2.AsyncClient
) -> None:
    await place.add_user("victim", "admin")

    async def guess(number: int, password: str) -> httpx2.Response:
        given = {"username": "victim", "password": password}
        return await http.post(f"{AUTH}/login", json=given, headers={"X-Forwarded-For": f"203.0.113.{number}"})

    replies = await asyncio.gather(*(guess(n, f"guess number {n}") for n in range(40)))
    assert Counter(reply.status_code for reply in replies) == {401: 6, 429: 34}
    assert all(int(reply.headers["retry-after"]) >= 1 for reply in replies if reply.status_code == 429)
    # Nor does the right one tell that it is.
    assert_problem(await guess(99, PASSWORD), 429)


# -- what is taken away -------------------------------------------------------------------------------------


async def opened(place: Place, stack: AsyncExitStack, *, credential: str, count: int = 8) -> list[Stream]:
    """Streams, so many that each worker has some."""
    streams = [await stack.enter_async_context(stream(place.server.port, token=credential)) for _ in range(count)]
    for one in streams:
        assert one.status == 200
        await one.until("caught_up")
    return streams


async def test_what_a_command_takes_away_ends_in_every_worker(place: Place, http: httpx2.AsyncClient) -> None:
    async with AsyncExitStack() as stack:
        lost_key = await asyncio.to_thread(place.do, "key", "new", "till", "--role", "viewer")
        await place.add_user("ann", "viewer")
        login = (await http.post(f"{AUTH}/login", json={"username": "ann", "password": PASSWORD})).json()
        # New keys and sessions count at once in every process; the streams are opened without waiting.
        kept = await opened(place, stack, credential=token("viewer"))
        lost = await opened(place, stack, credential=lost_key)
        by_role = await opened(place, stack, credential=login["token"])
        await asyncio.to_thread(place.do, "key", "revoke", lost_key.split("_")[1])
        await asyncio.to_thread(place.do, "user", "access", "ann", "--role", "cashier")
        done_s = time.monotonic()
        for one in [*lost, *by_role]:
            assert (await one.until("goodbye", timeout_s=PROMISED_S)).data == '{"reason":"access_changed"}'
        assert time.monotonic() - done_s < PROMISED_S
        for credential in (lost_key, login["token"]):
            for _ in range(8):
                who = {"Authorization": f"Bearer {credential}", "Connection": "close"}
                assert (await http.get(f"{AUTH}/me", headers=who)).status_code == 401
        assert not any(event.event == "goodbye" for one in kept for event in one.seen)


# -- what is shown ------------------------------------------------------------------------------------------


LONG, DEEP = "x" * 9000, "[" * 3000


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {LONG}"}, {"Authorization": f"Bearer a.{LONG}.c"}, {"Authorization": "Bearer ..."},
        {"Authorization": f"Bearer {token('admin', more=LONG)}"},
        {"Authorization": f"Bearer osk_{LONG}"}, {"Cookie": f"order_sync_session={LONG}"},
        {"Cookie": "order_sync_session=" + token("admin")}, {"Authorization": "Bearer eyJhbGciOiJub25lIn0.e30."},
        {"Authorization": "Negotiate abc"}, {"Authorization": f"Bearer {token('admin')}, Bearer {token('admin')}"},
    ],
    ids=lambda headers: str(headers)[:40],
)  # fmt: skip
async def test_what_is_no_credential_is_refused_everywhere(http: httpx2.AsyncClient, headers: dict[str, str]) -> None:
    for method, path in (("GET", POLL), ("GET", EVENTS), ("POST", EVENTS), ("POST", f"{AUTH}/tickets")):
        reply = await http.request(method, path, headers=headers, json=EVENT if method == "POST" else None)
        assert_problem(reply, 401)


async def test_a_long_ticket_is_refused(http: httpx2.AsyncClient) -> None:
    for ticket in (LONG * 3, f"{LONG}.{LONG}", DEEP, "%00", "ä", token("admin")):
        assert_problem(await http.get(EVENTS, params={"ticket": ticket}), 401)


async def test_a_page_elsewhere_does_nothing_with_a_visitors_cookies(place: Place, http: httpx2.AsyncClient) -> None:
    await place.add_user("vic", "admin")
    session = (await http.post(f"{AUTH}/login", json={"username": "vic", "password": PASSWORD})).json()
    cookie = f"order_sync_session={session['token']}; order_sync_csrf={session['csrfToken']}"
    for origin in ("https://evil.example", "https://shop.example", "null", place.server.base_url):
        visitor = {"Cookie": cookie, "Origin": origin}
        for method, path in (("POST", "/api/v1/orders"), ("POST", EVENTS), ("POST", f"{AUTH}/tickets"),
                             ("POST", f"{AUTH}/logout"), ("DELETE", "/api/v1/orders/x")):  # fmt: skip
            reply = await http.request(method, path, headers=visitor, json={})
            assert_problem(reply, 403)
        reply = await http.get(POLL, headers=visitor)
        may_read = reply.headers.get("access-control-allow-origin")
        assert may_read == (origin if origin == "https://shop.example" else None)
    # A form says no JSON, even with everything else in order.
    good = {"Cookie": cookie, "X-CSRF-Token": session["csrfToken"]}
    assert_problem(await http.post("/api/v1/orders", headers=good, data={"orderID": "x"}), 415)
    assert (await http.post("/api/v1/orders", headers=good, json={})).status_code == 201


# -- limits -------------------------------------------------------------------------------------------------


RATES = """
[limits]
connects = "4/minute"
reads = "4/minute"
publishes = "4/minute"
commands = "4/minute"
logins = "4/minute"
bytes_per_minute = 2000
streams_per_principal = 2
streams_per_address = 3
streams = 5
"""


def test_every_limit_says_when_to_come_again(tmp_path: Path) -> None:
    with (
        SyncServer(tmp_path, config=CONFIG + RATES) as server,
        httpx2.Client(base_url=server.base_url, trust_env=False, timeout=30) as http,
    ):
        large = {"orderID": "x", "notes": "y" * 1000}
        asked: dict[str, tuple[str, str, Any]] = {
            "connects": ("HEAD", EVENTS, None), "reads": ("GET", POLL, None), "publishes": ("POST", EVENTS, EVENT),
            "commands": ("POST", "/api/v1/orders", {}), "logins": ("POST", f"{AUTH}/login", {}),
            "hooks": ("POST", "/api/v1/webhooks/cms", {}), "bytes": ("POST", "/api/v1/orders", large),
        }  # fmt: skip
        for number, (name, (method, path, body)) in enumerate(asked.items()):
            who = bearer("admin", sub=name) | {"X-Forwarded-For": f"192.0.2.{number}"}
            replies = [http.request(method, path, headers=who, json=body) for _ in range(5)]
            assert 429 not in [reply.status_code for reply in replies[: 1 if name == "bytes" else 4]], name
            reply = replies[-1]
            assert (name, reply.status_code) == (name, 429)
            assert 1 <= int(reply.headers["retry-after"]) <= 60

        def watch(sub: str, number: int) -> httpx2.Response:
            who = bearer("viewer", sub=sub) | {"X-Forwarded-For": f"198.51.100.{number}"}
            return http.send(http.build_request("GET", EVENTS, headers=who), stream=True)

        held = [watch("ann", 1), watch("ann", 2)]
        for sub, number, status in (
            ("ann", 3, 429),
            ("b", 1, 200),
            ("c", 1, 200),
            ("d", 1, 429),
            ("e", 4, 200),
            ("f", 5, 503),
        ):
            reply = watch(sub, number)
            assert (sub, reply.status_code) == (sub, status)
            assert status == 200 or int(reply.headers["retry-after"]) >= 1
            held.append(reply)
        for reply in held:
            reply.close()
