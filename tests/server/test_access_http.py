"""Logins, cookies, headers, limits over a real socket; and a log that tells nothing of all that."""

import asyncio
import itertools
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.access.credentials import CONFIG, bearer
from tests.accounts.office import PASSWORD, office
from tests.server.publishing import EVENT, EVENTS, POLL, assert_problem
from tests.servers import SyncServer

AUTH = "/api/v1/auth"
ORIGIN = "https://shop.example"
MORE = f"""
cors_origins = ["{ORIGIN}"]
trusted_proxies = ["127.0.0.1", "10.0.0.0/8"]
[limits]
logins = "12/minute"
publishes = "20/minute"
connects = "30/minute"
streams_per_principal = 2
bytes_per_minute = 300000
"""
"""Each test uses an address and a name of its own, so that the limits do not bring them together."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SyncServer]:
    directory = tmp_path_factory.mktemp("access")
    config = CONFIG.replace("[[access.jwt]]", MORE.partition("[limits]")[0] + "[[access.jwt]]", 1)
    server = SyncServer(directory, config=config + "[limits]" + MORE.partition("[limits]")[2])
    asyncio.run(add_users(directory))
    with server:
        yield server
        text = server.log_text()
        assert "Traceback" not in text
        assert not re.search(rf"{PASSWORD}|eyJ|osk_|ticket=|Bearer", text), "a secret stands in the log"


async def add_users(directory: Path) -> None:
    async with office(directory) as desk:
        await desk.add_user("ann", "cashier")
        await desk.add_user("bob", "viewer")


_addresses = itertools.count(1)


@pytest.fixture
def http(server: SyncServer) -> Iterator[httpx2.Client]:
    """A client with an address of its own: it says that it comes through a proxy."""
    address = f"192.0.2.{next(_addresses)}"
    with httpx2.Client(base_url=server.base_url, timeout=30, trust_env=False) as client:
        client.headers["X-Forwarded-For"] = address
        yield client


def login(http: httpx2.Client, name: str = "ann", password: str = PASSWORD, **more: Any) -> httpx2.Response:
    return http.post(f"{AUTH}/login", json={"username": name, "password": password}, **more)


# -- sessions -----------------------------------------------------------------------------------------------


def test_a_login_gives_a_cookie_for_browsers_and_a_token_for_programs(http: httpx2.Client) -> None:
    reply = login(http)
    assert reply.status_code == 200
    content = reply.json()
    assert content["user"] == {"username": "ann", "tenant": "default", "roles": ["cashier"], "bound": []}
    session, csrf = reply.headers.get_list("set-cookie")
    assert re.fullmatch(r"order_sync_session=[\w.-]+; HttpOnly; Path=/; SameSite=lax", session)
    assert re.fullmatch(r"order_sync_csrf=[\w.-]+; Path=/; SameSite=lax", csrf)
    assert reply.headers["cache-control"] == "no-store"
    assert http.get(f"{AUTH}/me").json()["principal"] == "user:ann"
    http.cookies.clear()
    assert http.get(f"{AUTH}/me").status_code == 401
    me = http.get(f"{AUTH}/me", headers={"Authorization": f"Bearer {content['token']}"}).json()
    assert (me["principal"], me["roles"], me["expiresAt"]) == ("user:ann", ["cashier"], content["expiresAt"])


def test_over_https_the_cookie_is_secure(http: httpx2.Client) -> None:
    reply = login(http, headers={"X-Forwarded-Proto": "https"})
    assert all("; Secure" in cookie for cookie in reply.headers.get_list("set-cookie"))
    assert reply.headers["strict-transport-security"]


def test_a_cookie_needs_its_csrf_token_to_change_anything(http: httpx2.Client) -> None:
    token = login(http).json()["csrfToken"]
    assert_problem(http.post("/api/v1/orders", json={}), 403)
    assert_problem(http.post("/api/v1/orders", json={}, headers={"X-CSRF-Token": token[:-1] + "x"}), 403)
    assert http.post("/api/v1/orders", json={}, headers={"X-CSRF-Token": token}).status_code == 201
    assert token == http.cookies["order_sync_csrf"]
    assert http.get("/api/v1/orders").status_code == 200


def test_a_form_of_another_site_cannot_log_anybody_in(http: httpx2.Client) -> None:
    form = {"username": "ann", "password": PASSWORD}
    assert_problem(http.post(f"{AUTH}/login", data=form), 415)
    text = f'{{"username": "ann", "password": "{PASSWORD}"}}'
    assert_problem(http.post(f"{AUTH}/login", content=text, headers={"Content-Type": "text/plain"}), 415)


def test_a_logout_ends_the_session_and_no_other_one(http: httpx2.Client) -> None:
    other = login(http).json()["token"]
    first = login(http).json()
    assert http.post(f"{AUTH}/logout").status_code == 403
    reply = http.post(f"{AUTH}/logout", headers={"X-CSRF-Token": first["csrfToken"]})
    assert reply.status_code == 204
    assert all("Max-Age=0" in cookie for cookie in reply.headers.get_list("set-cookie"))
    assert http.get(f"{AUTH}/me", headers={"Authorization": f"Bearer {first['token']}"}).status_code == 401
    assert http.get(f"{AUTH}/me", headers={"Authorization": f"Bearer {other}"}).status_code == 200


def test_only_a_session_can_be_logged_out_of(http: httpx2.Client) -> None:
    assert_problem(http.post(f"{AUTH}/logout", headers=bearer()), 400)


@pytest.mark.parametrize(
    "body",
    ["{", "[]", "{}", '{"username": "ann"}', '{"username": 1, "password": 2}', '{"username": "", "password": "x"}',
     '{"username": "ann", "password": "x", "admin": true}', '{"username": "ann", "password": "%s"}' % ("x" * 2000)],
)  # fmt: skip
def test_a_login_of_another_form_is_refused_without_repeating_it(http: httpx2.Client, body: str) -> None:
    reply = http.post(f"{AUTH}/login", content=body, headers={"Content-Type": "application/json"})
    assert reply.status_code in (400, 422)
    assert "xxxx" not in reply.text


def test_guessing_is_locked_out_and_told_when_to_come_again(http: httpx2.Client) -> None:
    replies = [login(http, "bob", f"guess number {n}") for n in range(8)]
    assert [reply.status_code for reply in replies] == [401] * 6 + [429] * 2
    assert int(replies[-1].headers["retry-after"]) in range(1, 16)
    assert login(http, "bob").status_code == 429
    assert login(http, "ann").status_code == 200


def test_logins_from_one_address_are_limited(http: httpx2.Client) -> None:
    replies = [http.post(f"{AUTH}/login", json={}) for _ in range(13)]
    assert replies[-2].status_code == 422
    assert replies[-1].status_code == 429
    assert replies[-1].json()["detail"] == "Too many logins; slow down."
    assert int(replies[-1].headers["retry-after"]) <= 60


# -- tickets ------------------------------------------------------------------------------------------------


def test_a_ticket_opens_one_stream(http: httpx2.Client) -> None:
    ticket = http.post(f"{AUTH}/tickets", headers=bearer("viewer", sub="ticket")).json()["ticket"]
    with http.stream("GET", EVENTS, params={"ticket": ticket, "orderID": "A"}) as reply:
        assert reply.status_code == 200
        assert b'"filter":{"orderID":["A"]}' in next(reply.iter_raw())
    assert_problem(http.get(EVENTS, params={"ticket": ticket}), 401)


# -- limits -------------------------------------------------------------------------------------------------


def test_publishing_too_often_is_refused_with_a_time(http: httpx2.Client) -> None:
    who = bearer("integrator", sub="often")
    statuses = [http.post(EVENTS, json=EVENT, headers=who).status_code for _ in range(22)]
    assert statuses == [201] * 20 + [429] * 2
    reply = http.post(EVENTS, json=EVENT, headers=who)
    assert_problem(reply, 429)
    assert 1 <= int(reply.headers["retry-after"]) <= 60
    # Nobody else at that address publishes either, but elsewhere they do.
    assert http.post(EVENTS, json=EVENT, headers=bearer("integrator", sub="other")).status_code == 429
    elsewhere = bearer("integrator", sub="other") | {"X-Forwarded-For": "198.51.100.7"}
    assert http.post(EVENTS, json=EVENT, headers=elsewhere).status_code == 201
    # And the one who did too much is known anywhere.
    assert http.post(EVENTS, json=EVENT, headers=who | {"X-Forwarded-For": "198.51.100.8"}).status_code == 429


def test_streams_at_a_time_are_limited_and_given_back(http: httpx2.Client) -> None:
    who = bearer("viewer", sub="streams")
    with http.stream("GET", EVENTS, headers=who) as one, http.stream("GET", EVENTS, headers=who) as two:
        assert (one.status_code, two.status_code) == (200, 200)
        reply = http.get(EVENTS, headers=who)
        assert_problem(reply, 429)
        assert reply.headers["retry-after"]
    deadline_s = time.monotonic() + 5
    while True:
        with http.stream("GET", EVENTS, headers=who) as reply:
            if reply.status_code == 200:
                return
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def test_bytes_are_limited_while_they_come(http: httpx2.Client) -> None:
    who = bearer("integrator", sub="bytes")
    big = EVENT | {"data": {"newStage": "x", "text": "y" * 100_000}}
    statuses = [http.post(EVENTS, json=big, headers=who).status_code for _ in range(3)]
    assert statuses == [201, 201, 429]

    def pieces() -> Iterator[bytes]:
        yield b"{"
        for _ in range(100):
            yield b" " * 10_000

    headers = bearer("integrator", sub="pieces") | {"Content-Type": "application/json"}
    headers["X-Forwarded-For"] = "198.51.100.9"
    assert http.post(EVENTS, content=pieces(), headers=headers).status_code == 429


# -- proxies ------------------------------------------------------------------------------------------------


def test_what_a_client_writes_in_front_of_the_proxies_own_address_counts_for_nothing(http: httpx2.Client) -> None:
    """Or everybody would have as many addresses as they like."""
    statuses = set()
    for number in range(14):
        forwarded = f"{number}.1.1.1, 203.0.113.5, 10.0.0.1"
        statuses.add(http.post(f"{AUTH}/login", json={}, headers={"X-Forwarded-For": forwarded}).status_code)
    assert statuses == {422, 429}


# -- headers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/healthz", "/nowhere", POLL, f"{AUTH}/me", "/docs"])
def test_every_answer_carries_the_headers_that_bound_a_browser(http: httpx2.Client, path: str) -> None:
    reply = http.get(path, headers=bearer("viewer", sub="headers"))
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["referrer-policy"] == "no-referrer"
    assert reply.headers["x-frame-options"] == "DENY"
    assert "frame-ancestors 'none'" in reply.headers["content-security-policy"]
    assert len(reply.headers.get_list("content-security-policy")) == 1
    assert "strict-transport-security" not in reply.headers
    assert reply.headers["vary"] == "Origin"


def test_the_stream_has_each_header_once(http: httpx2.Client) -> None:
    with http.stream("GET", EVENTS, headers=bearer("viewer", sub="once") | {"Origin": ORIGIN}) as reply:
        names = [name.lower() for name, _ in reply.headers.multi_items()]
        assert sorted(names) == sorted(set(names))
        assert reply.headers["access-control-allow-origin"] == ORIGIN


def test_pages_of_a_named_origin_may_call_and_no_others(http: httpx2.Client) -> None:
    who = bearer("viewer", sub="cors")
    reply = http.get(POLL, headers=who | {"Origin": ORIGIN})
    assert reply.headers["access-control-allow-origin"] == ORIGIN
    assert reply.headers["access-control-allow-credentials"] == "true"
    refused = http.get(POLL, headers={"Origin": ORIGIN})
    assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, ORIGIN)
    for origin in ("https://evil.example", "null", ORIGIN + ".evil.example", ORIGIN.upper(), "http://shop.example", ""):
        reply = http.get(POLL, headers=who | {"Origin": origin})
        assert not [name for name in reply.headers if name.startswith("access-control")], origin


def test_a_browser_that_asks_beforehand_is_told_without_a_credential(http: httpx2.Client) -> None:
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,x-csrf-token"}
    reply = http.options(EVENTS, headers=asked | {"Origin": ORIGIN})
    assert reply.status_code == 204
    assert reply.headers["access-control-allow-origin"] == ORIGIN
    assert "POST" in reply.headers["access-control-allow-methods"]
    assert "Authorization" in reply.headers["access-control-allow-headers"]
    assert http.options(EVENTS, headers=asked | {"Origin": "https://evil.example"}).status_code == 401
    assert http.options(EVENTS, headers={"Origin": ORIGIN}).status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Request-ID": "a\tSet-Cookie: x=1"}, {"X-Request-ID": "x" * 100}, {"X-Forwarded-Proto": "javascript"},
        {"X-Forwarded-For": "<script>"}, {"Origin": ORIGIN + "\tx"}, {"Host": "evil.example"},
        {"X-Forwarded-Host": "evil.example"},
    ],
)  # fmt: skip
def test_nothing_of_a_request_comes_back_in_a_header(http: httpx2.Client, headers: dict[str, str]) -> None:
    reply = http.get(f"{AUTH}/me", headers=bearer("viewer", sub="echo") | headers)
    assert reply.status_code == 200
    text = str(reply.headers.multi_items())
    for value in headers.values():
        assert value == ORIGIN or value not in text
    assert "evil" not in text


def test_a_name_with_line_breaks_makes_no_header(http: httpx2.Client) -> None:
    reply = login(http, "ann\r\nSet-Cookie: admin=1", "wrong")
    assert reply.status_code == 401
    assert "set-cookie" not in reply.headers


# -- without proxies ----------------------------------------------------------------------------------------


def test_without_trusted_proxies_nobody_chooses_an_address(tmp_path: Path) -> None:
    config = CONFIG + '[limits]\nlogins = "3/minute"\n'
    with (
        SyncServer(tmp_path, config=config) as server,
        httpx2.Client(base_url=server.base_url, trust_env=False, timeout=30) as client,
    ):
        forwarded = [{"X-Forwarded-For": f"1.1.1.{n}"} for n in range(4)]
        statuses = [client.post(f"{AUTH}/login", json={}, headers=headers).status_code for headers in forwarded]
        assert statuses == [422, 422, 422, 429]
        reply = client.get("/healthz", headers={"X-Forwarded-Proto": "https"})
        assert "strict-transport-security" not in reply.headers
