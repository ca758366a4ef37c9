"""Whose sessions are whose: a foreign user is refused on every route, admins are not, tills see who and not what."""

import os
import uuid
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from pymongo import MongoClient

from tests.access.credentials import CONFIG, bearer
from tests.server.shop import API, new_id
from tests.servers import SyncServer

ITEM: dict[str, Any] = {"sku": "COLA", "name": "كولا", "quantity": 1, "unitPrice": "2.50"}


@pytest.fixture(scope="module", params=["sqlite", "mongodb"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SyncServer]:
    """With access control, on each store."""
    directory = tmp_path_factory.mktemp("sessions")
    if request.param == "sqlite":
        with SyncServer(directory, config=CONFIG) as server:
            yield server
        return
    mongod, name = request.getfixturevalue("mongod"), f"test_{os.getpid()}_{uuid.uuid4().hex[:8]}"
    log = f'[log]\nstore = "mongodb"\n[log.mongodb]\nuri = "{mongod.uri}"\ndatabase = "{name}"\n'
    with SyncServer(directory, config=CONFIG + log) as server:
        yield server
    with MongoClient(mongod.uri) as client:  # type: MongoClient[dict[str, object]]
        client.drop_database(name)


class Person:
    """Somebody who calls the API with roles, perhaps bound to something."""

    def __init__(self, http: httpx2.Client, name: str, *roles: str, **more: Any) -> None:
        self.name = name
        self._http = http
        self._headers = bearer(*roles, sub=name, **more)

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> httpx2.Response:
        given = {} if body is None else {"json": body}
        return self._http.request(method, API + path, headers=self._headers | headers, **given)

    def do(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        reply = self.call(method, path, body)
        assert reply.status_code in (200, 201), reply.text
        return reply.json()  # type: ignore[no-any-return]


@pytest.fixture
def http(server: SyncServer) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=server.base_url, timeout=60, trust_env=False) as http:
        yield http


@pytest.fixture
def ann(http: httpx2.Client) -> Person:
    return Person(http, new_id("ann"), "cashier")


@pytest.fixture
def bob(http: httpx2.Client) -> Person:
    return Person(http, new_id("bob"), "cashier")


@pytest.fixture
def boss(http: httpx2.Client) -> Person:
    return Person(http, "boss", "admin")


def begin(person: Person, **given: Any) -> dict[str, Any]:
    body = {"items": [ITEM], "tillId": "till-1"} | given
    return person.do("POST", "/order-sessions", body)["order_session"]  # type: ignore[no-any-return]


def test_a_foreign_user_is_refused_on_every_route(ann: Person, bob: Person, boss: Person) -> None:
    tab = bob.do("POST", "/tabs", {"name": "Bob's"})["tab"]["tabID"]
    left, session = begin(ann), None
    ann.do("POST", f"/order-sessions/{left['id']}/logout")
    session = begin(ann)
    before = boss.do("GET", f"/order-sessions?userID={ann.name}")["order_sessions"]
    path = f"/order-sessions/{session['id']}"
    calls: list[tuple[str, str, Any]] = [
        ("GET", path, None), ("PUT", path, {"items": []}), ("PUT", path, {}), ("DELETE", path, None),
        ("POST", f"{path}/complete", None), ("POST", f"{path}/assign-to-tab", {"tabId": tab}),
        ("POST", f"{path}/logout", None), ("POST", f"/order-sessions/{left['id']}/recover", None),
        ("POST", "/order-sessions", {"userId": ann.name}), ("GET", f"/order-sessions?userID={ann.name}", None),
        ("GET", f"/order-sessions/active?userId={ann.name}", None), ("GET", f"/session-slots/{ann.name}", None),
    ]  # fmt: skip
    for method, at, body in calls:
        for headers in ({}, {"If-Match": '"1"'}, {"If-Match": '"9"'}, {"Idempotency-Key": new_id("key")}):
            reply = bob.call(method, at, body, **headers)
            assert (reply.status_code, method, at) == (403, method, at), reply.text
            assert "COLA" not in reply.text
    assert boss.do("GET", f"/order-sessions?userID={ann.name}")["order_sessions"] == before
    assert ann.call("GET", path).status_code == 200


def test_lists_snapshot_and_history_are_ones_own(ann: Person, bob: Person, boss: Person) -> None:
    mine, his = begin(ann), begin(bob)
    sold = bob.do("POST", f"/order-sessions/{his['id']}/complete")["transaction"]
    for at in ("/order-sessions", "/order-sessions?tillID=till-1", "/sync/snapshot?kinds=order_sessions"):
        assert [one["id"] for one in ann.do("GET", at)["order_sessions"]] == [mine["id"]]
    assert ann.do("GET", "/transactions")["transactions"] == []
    assert ann.call("GET", f"/transactions/{sold['transactionID']}").status_code == 403
    assert {mine["id"], his["id"]} <= {one["id"] for one in boss.do("GET", "/order-sessions")["order_sessions"]}


def test_events_reach_their_user_and_admins(ann: Person, bob: Person, boss: Person) -> None:
    before = boss.do("GET", "/sync/poll")["head"]
    session = begin(ann)
    ann.do("POST", f"/order-sessions/{session['id']}/complete")

    def told(person: Person) -> list[str]:
        events = person.do("GET", f"/sync/poll?after={before}&sessionID={session['id']}")["events"]
        return sorted(event["eventType"] for event in events)

    everything = sorted(["session_updated", "session_slot_updated", "session_completed", "transaction_created",
                         "session_slot_updated"])  # fmt: skip
    assert told(ann) == told(boss) == everything
    assert told(bob) == []


def test_an_admin_sees_and_acts_for_everybody(ann: Person, boss: Person) -> None:
    session = begin(ann)
    path = f"/order-sessions/{session['id']}"
    assert boss.do("GET", f"/order-sessions/active?userId={ann.name}")["order_session"] == session
    changed = boss.do("PUT", path, {"items": [ITEM, ITEM]})["order_session"]
    assert changed["userId"] == ann.name
    made = boss.do("POST", "/order-sessions", {"userId": new_id("carl")})["order_session"]
    boss.do("DELETE", f"/order-sessions/{made['id']}")
    ann.do("POST", f"{path}/complete")
    assert ann.call("DELETE", path).status_code == 409, "history"
    boss.do("DELETE", path)
    assert ann.call("GET", path).status_code == 404


def test_a_tills_own_key_sees_who_is_there_and_not_what_they_sell(http: httpx2.Client, ann: Person) -> None:
    here, there = new_id("till"), new_id("till")
    till = Person(http, here, "till", bound=[f"tillID={here}"])
    session = begin(ann, tillId=here)
    told = till.do("GET", f"/order-sessions/active?tillId={here}")
    assert set(told) == {"atTill", "cursor"}
    assert [(one["userId"], one["id"]) for one in told["atTill"]] == [(ann.name, session["id"])]
    assert "items" not in told["atTill"][0]
    refused = [f"/order-sessions/active?tillId={there}", "/order-sessions/active", "/order-sessions",
               f"/order-sessions/{session['id']}"]  # fmt: skip
    assert [till.call("GET", at).status_code for at in refused] == [403] * 4
    unbound = Person(http, there, "till")
    assert unbound.call("GET", f"/order-sessions/active?tillId={here}").status_code == 403
    person = ann.do("GET", f"/order-sessions/active?tillId={there}")
    assert "atTill" not in person
    assert person["activeOnTill"] == here


def test_who_is_bound_to_a_till_does_not_see_what_others_have_there(http: httpx2.Client, ann: Person) -> None:
    session = begin(ann, tillId="till-9")
    bound = Person(http, new_id("dan"), "cashier", bound=["tillID=till-9"])
    assert bound.call("GET", f"/order-sessions/{session['id']}").status_code == 403
    assert bound.do("GET", "/order-sessions?tillID=till-9")["order_sessions"] == []
    own = begin(bound, tillId="till-8")
    assert bound.do("GET", f"/order-sessions/{own['id']}")["order_session"] == own
