"""Order sessions over HTTP, as seed 004 has them, on both stores."""

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures import MongoDatabase
from tests.server.shop import Shop, new_id
from tests.server.test_commands_races import CALLERS, Call, at_once, statuses
from tests.servers import SyncServer

ITEM: dict[str, Any] = {"sku": "COLA", "name": "كولا", "quantity": 1, "unitPrice": "2.50"}
PATH = "/order-sessions"


@pytest.fixture
def user() -> str:
    """Somebody whom no other test knows."""
    return new_id("user")


def begin(shop: Shop, user: str, **given: Any) -> dict[str, Any]:
    """A new session."""
    body = {"userId": user, "items": [ITEM], "tillId": "till-1"} | given
    return shop.do("POST", PATH, body)["order_session"]  # type: ignore[no-any-return]


def active(shop: Shop, **parameters: Any) -> dict[str, Any]:
    return shop.get(f"{PATH}/active", **parameters)


def test_the_life_of_a_session(shop: Shop, user: str) -> None:
    with shop.emitting("session_updated", "session_slot_updated") as events:
        reply = shop.call("POST", PATH, {"userId": user, "items": [ITEM], "status": "active", "tillId": 1})
    made = reply.json()["order_session"]
    path = f"{PATH}/{made['sessionID']}"
    assert reply.status_code == 201
    assert reply.headers["location"] == f"/api/v1{path}"
    assert reply.headers["etag"] == '"1"'
    assert {name: made[name] for name in made if not name.endswith("At")} == {
        "sessionID": made["id"], "id": made["id"], "userId": user, "tillId": "1", "items": [ITEM], "status": "active",
        "version": 1,
    }  # fmt: skip
    assert events[0]["data"]["order_session"] == made
    assert events[0] | {"sessionID": made["id"], "userID": user, "tillID": "1"} == events[0]
    assert shop.get(path)["order_session"] == made
    changed = shop.do("PUT", path, {"items": [ITEM, ITEM]}, **{"If-Match": '"1"'})["order_session"]
    assert (len(changed["items"]), changed["tillId"]) == (2, "1")
    sold = shop.do("POST", f"{path}/complete")
    assert sold["transaction"]["total"] == "5.00"
    assert (sold["order_session"]["status"], sold["session_slot"]["deleted"]) == ("completed", True)
    assert shop.get(f"/transactions/{sold['transaction']['transactionID']}")["transaction"] == sold["transaction"]
    assert active(shop, userId=user)["order_session"] is None


def test_where_one_goes_on(shop: Shop, user: str) -> None:
    assert active(shop, userId=user) | {"cursor": ""} == {
        "order_session": None, "recoverable": None, "activeOnTill": None, "cursor": "",
    }  # fmt: skip
    first = begin(shop, user)
    assert active(shop, userId=user)["order_session"] == first
    shop.do("POST", f"{PATH}/{first['id']}/logout")
    second = begin(shop, user, tillId="till-2")
    found = active(shop, userId=user, tillId="till-1")
    assert found["order_session"] == second
    assert found["recoverable"]["id"] == first["id"]
    assert found["recoverable"]["logoutTime"] == found["recoverable"]["updatedAt"]
    assert found["activeOnTill"] == "till-2"
    assert active(shop, userId=user, tillId="till-2")["activeOnTill"] is None
    assert active(shop, userId=user)["activeOnTill"] is None, "nobody has said which till asks"
    shop.do("DELETE", f"{PATH}/{second['id']}")
    back = shop.do("POST", f"{PATH}/{first['id']}/recover", {"tillId": 9})["order_session"]
    assert (back["status"], back["tillId"], back["items"]) == ("active", "9", first["items"])
    assert "logoutTime" not in back
    assert active(shop, userId=user)["recoverable"] is None


def test_a_till_that_starts_sees_who_is_active_there(shop: Shop, user: str) -> None:
    till = new_id("till")
    session, other = begin(shop, user, tillId=till), begin(shop, new_id("user"), tillId=till)
    told = active(shop, tillId=till)["atTill"]
    assert sorted(one["userId"] for one in told) == sorted([user, other["userId"]])
    assert all("items" not in one for one in told)
    shop.do("POST", f"{PATH}/{session['id']}/logout")
    assert [one["id"] for one in active(shop, tillId=till)["atTill"]] == [other["id"]]


def test_to_create_over_an_active_session_takes_its_version(shop: Shop, user: str) -> None:
    first = begin(shop, user)
    body = {"userId": user, "items": [ITEM, ITEM]}
    refused = shop.call("POST", PATH, body)
    assert refused.status_code == 409
    assert refused.json()["current"]["order_session"] == first
    stale = shop.call("POST", PATH, body, headers={"If-Match": '"7"'})
    assert (stale.status_code, stale.json()["type"]) == (409, "stale")
    assert stale.json()["current"]["order_session"] == first
    saved = shop.do("POST", PATH, body, **{"If-Match": '"1"'})["order_session"]
    assert (saved["id"], saved["version"], len(saved["items"]), saved["tillId"]) == (first["id"], 2, 2, "till-1")
    nobody = shop.call("POST", PATH, {"userId": new_id("user")}, headers={"If-Match": "*"})
    assert nobody.status_code == 404


def test_every_change_may_be_guarded(shop: Shop, user: str) -> None:
    tab = shop.do("POST", "/tabs", {"name": "Table 7"})["tab"]["tabID"]
    path = f"{PATH}/{begin(shop, user)['id']}"
    calls: list[tuple[str, str, Any]] = [
        ("PUT", "", {"items": []}), ("POST", "/complete", None), ("POST", "/assign-to-tab", {"tabId": tab}),
        ("POST", "/logout", None), ("DELETE", "", None),
    ]  # fmt: skip
    for method, action, body in calls:
        reply = shop.call(method, path + action, body, headers={"If-Match": '"9"'})
        assert (reply.status_code, reply.json()["type"]) == (409, "stale"), action
        assert reply.json()["current"]["order_session"]["version"] == 1


def test_on_a_tab(shop: Shop, user: str) -> None:
    tab = shop.do("POST", "/tabs", {"tabID": new_id("tab"), "name": "Table 7"})["tab"]["tabID"]
    session = begin(shop, user)
    with shop.emitting("tab_updated", "session_assigned_to_tab", "session_slot_updated"):
        answer = shop.do("POST", f"{PATH}/{session['id']}/assign-to-tab", {"tabId": tab})
    assert (answer["order_session"]["status"], answer["order_session"]["tabId"]) == ("assigned_to_tab", tab)
    assert answer["tab"]["items"] == session["items"]
    unknown = shop.call("POST", f"{PATH}/{begin(shop, user)['id']}/assign-to-tab", {"tabId": 404_404})
    assert (unknown.status_code, unknown.json()["errors"][0]["path"]) == (422, "tabId")
    assert shop.do("POST", f"/tabs/{tab}/settle")["transaction"]["total"] == "2.50"


def test_the_history_is_paged_and_filtered(shop: Shop, user: str) -> None:
    ids = []
    for _ in range(5):
        ids.append(begin(shop, user)["id"])
        shop.do("POST", f"{PATH}/{ids[-1]}/complete")
    last = begin(shop, user)
    found: list[dict[str, Any]] = []
    page: dict[str, Any] = {"nextPageToken": None}
    while "nextPageToken" in page:
        token = {"pageToken": page["nextPageToken"]} if page["nextPageToken"] else {}
        page = shop.get(PATH, userID=user, status="completed", limit=2, **token)
        found += page["order_sessions"]
    assert sorted(one["id"] for one in found) == sorted(ids)
    since = shop.get(PATH, userID=user, updatedSince=last["updatedAt"])["order_sessions"]
    assert last["id"] in [one["id"] for one in since]
    assert ids[0] not in [one["id"] for one in since]
    assert shop.call("GET", f"{PATH}?status=asleep").status_code == 400


def test_a_repeat_with_its_key_is_answered_alike(shop: Shop, user: str) -> None:
    body, key = {"userId": user, "items": [ITEM]}, {"Idempotency-Key": new_id("key")}
    first = shop.call("POST", PATH, body, headers=key)
    again = shop.call("POST", PATH, body, headers=key)
    assert (first.status_code, again.status_code, again.json()) == (201, 201, first.json())
    sold = shop.do("POST", f"{PATH}/{first.json()['order_session']['id']}/complete", None, **{"Idempotency-Key": "c"})
    assert sold["transaction"]["total"] == "2.50"


async def test_of_fifty_who_create_at_once_one_wins(shop: Shop, user: str) -> None:
    calls = [("POST", PATH, {"userId": user, "items": [ITEM], "tillId": n}, {}) for n in range(CALLERS)]
    replies = await at_once(shop, calls=calls)
    assert statuses(replies) == {201: 1, 409: CALLERS - 1}
    (won,) = (reply.json()["order_session"] for reply in replies if reply.status_code == 201)
    assert all(r.json()["current"]["order_session"] == won for r in replies if r.status_code == 409)
    found = await asyncio.to_thread(shop.get, PATH, userID=user)
    assert [one["id"] for one in found["order_sessions"]] == [won["id"]]


async def test_at_two_servers_one_wins_too(mongodb_database: MongoDatabase, tmp_path: Path, user: str) -> None:
    log = f'uri = "{mongodb_database.uri}"\ndatabase = "{mongodb_database.name}"\n'
    config = f'[log]\nstore = "mongodb"\n[log.mongodb]\n{log}'
    with (
        SyncServer(tmp_path / "a", config=config) as a,
        SyncServer(tmp_path / "b", config=config) as b,
        Shop(a.base_url) as first,
        Shop(b.base_url) as second,
    ):
        left = begin(first, user)
        first.do("POST", f"{PATH}/{left['id']}/logout")
        calls: list[Call] = [("POST", PATH, {"userId": user, "items": [ITEM]}, {}) for _ in range(CALLERS // 2)]
        calls += [("POST", f"{PATH}/{left['id']}/recover", None, {}) for _ in range(CALLERS // 2)]
        random.shuffle(calls)
        replies = await at_once(first, second, calls=calls)
        assert sum(reply.status_code in (200, 201) for reply in replies) == 1
        assert {reply.status_code for reply in replies} <= {200, 201, 409}
        found = await asyncio.to_thread(second.get, PATH, userID=user, status="active")
        assert len(found["order_sessions"]) == 1


async def test_of_fifty_who_change_what_they_saw_one_wins(shop: Shop, user: str) -> None:
    session = begin(shop, user)
    path = f"{PATH}/{session['id']}"
    calls = [("PUT", path, {"items": [ITEM] * (n + 1)}, {"If-Match": '"1"'}) for n in range(CALLERS)]
    assert statuses(await at_once(shop, calls=calls)) == {200: 1, 409: CALLERS - 1}
    calls = [("POST", f"{path}/complete", None, {}) for _ in range(CALLERS)]
    replies = await at_once(shop, calls=calls)
    assert statuses(replies) == {200: 1, 409: CALLERS - 1}
    sales = await asyncio.to_thread(shop.get, "/transactions", sessionID=session["id"])
    assert len(sales["transactions"]) == 1, "paid once"
