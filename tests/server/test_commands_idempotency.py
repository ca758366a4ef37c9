"""``Idempotency-Key``: a command takes effect at most once, and a repeat is told the same. Source: protocol.md 4."""

import asyncio
import uuid
from typing import Any

import httpx2
import pytest

from tests.server.publishing import EVENT, assert_problem, send
from tests.server.shop import API, Shop, new_id
from tests.server.test_commands_refused import untouched

REPLAYED = "idempotency-replayed"


def with_key(key: str | None = None) -> dict[str, str]:
    return {"Idempotency-Key": key or str(uuid.uuid4())}


def told(reply: httpx2.Response) -> tuple[Any, ...]:
    """What has to be the same the second time."""
    names = ("content-type", "etag", "location", "cache-control")
    return (reply.status_code, reply.content, *(reply.headers.get(name) for name in names))


def test_a_repeat_is_told_the_same_and_changes_nothing(shop: Shop) -> None:
    key = with_key()
    body = {"items": [{"sku": "طقم", "name": 'a "b" \\ \u2028', "quantity": 1, "unitPrice": "1"}], "notes": "é"}
    first = shop.call("POST", "/orders", body, headers=key)
    assert (first.status_code, REPLAYED in first.headers) == (201, False)
    order = first.json()["order"]["orderID"]
    shop.do("PATCH", f"/orders/{order}", {"notes": "changed since"})
    with untouched(shop, f"/orders/{order}"):
        for _ in range(2):
            again = shop.call("POST", "/orders", dict(reversed(body.items())), headers=key)
            assert again.headers[REPLAYED] == "true"
            assert told(again) == told(first)


def test_a_repeat_of_a_delete_and_of_several_documents_is_told_the_same(shop: Shop) -> None:
    queue, bay = shop.queue(), shop.bay()
    shop.waiting(queue)
    calls: list[tuple[str, str, Any]] = [
        ("POST", f"/queues/{queue}/call-next", {"bayID": bay}),
        ("DELETE", f"/queues/{queue}", None),
    ]
    for method, path, body in calls:
        key = with_key()
        first, again = (shop.call(method, path, body, headers=key) for _ in range(2))
        assert first.status_code == 200
        assert again.headers[REPLAYED] == "true"
        assert told(again) == told(first)


def test_a_refusal_by_the_rules_is_repeated_when_they_would_allow_it(shop: Shop) -> None:
    bay, key, missing = shop.bay(), with_key(), with_key()
    order = shop.order(items=0)
    body = {"orderID": order}
    refused = shop.call("POST", f"/bays/{bay}/jobs", body, headers=key)
    assert refused.status_code == 409
    unknown = {"orderID": new_id("order")}
    unprocessable = shop.call("POST", f"/bays/{bay}/jobs", unknown, headers=missing)
    assert unprocessable.status_code == 422
    shop.do("POST", f"/orders/{order}/stage", {"newStage": "initiated"})
    shop.do("POST", "/orders", unknown)
    with untouched(shop, f"/bays/{bay}", f"/orders/{order}"):
        for first, given, header in ((refused, body, key), (unprocessable, unknown, missing)):
            again = shop.call("POST", f"/bays/{bay}/jobs", given, headers=header)
            assert again.headers[REPLAYED] == "true"
            assert told(again) == told(first)
    assert refused.json()["current"]["order"]["stage"] == "empty"


def test_what_was_not_decided_is_not_remembered(shop: Shop) -> None:
    key, order = with_key(), new_id("order")
    path = f"/orders/{order}/status"
    assert_problem(shop.call("POST", path, {"status": "a"}, headers=key), 404)
    assert_problem(shop.call("POST", path, {"status": 7}, headers=key), 422, "status")
    assert_problem(shop.call("POST", path, {"status": "a"}, headers=key | {"If-Match": "x"}), 400, "If-Match")
    assert shop.get(f"/commands/{key['Idempotency-Key']}")["state"] == "unknown"
    shop.do("POST", "/orders", {"orderID": order})
    reply = shop.call("POST", path, {"status": "a"}, headers=key)
    assert (reply.status_code, REPLAYED in reply.headers) == (200, False)


def test_a_key_serves_one_request_only(shop: Shop) -> None:
    order, other = shop.order(), shop.order()
    key = with_key()
    assert shop.call("POST", f"/orders/{order}/status", {"status": "a"}, headers=key).status_code == 200
    with untouched(shop, f"/orders/{order}", f"/orders/{other}"):
        for path, body in (
            (f"/orders/{order}/status", {"status": "b"}),
            (f"/orders/{order}/status", {"status": "a", "note": "b"}),
            (f"/orders/{other}/status", {"status": "a"}),
            ("/orders", {"orderID": new_id("order")}),
        ):
            reply = shop.call("POST", path, body, headers=key)
            assert_problem(reply, 422, "Idempotency-Key")
            assert REPLAYED not in reply.headers


def test_keys_of_published_events_are_no_keys_of_commands_and_the_other_way(shop: Shop) -> None:
    published, commanded = str(uuid.uuid4()), str(uuid.uuid4())
    assert send(shop.http, EVENT | {"key": published}).status_code == 201
    shop.do("POST", "/orders", {}, **with_key(commanded))
    with untouched(shop):
        reply = shop.call("POST", "/orders", {}, headers=with_key(published))
        assert_problem(reply, 422, "Idempotency-Key")
        assert_problem(send(shop.http, EVENT | {"key": commanded}), 422, "key")
    assert shop.get(f"/commands/{published}")["state"] == "unknown"


@pytest.mark.parametrize("key", [b"", b"x" * 129, "ع".encode(), b"a\tb", b"\xff"])
def test_a_key_that_cannot_be_one_is_refused(shop: Shop, key: bytes) -> None:
    with untouched(shop):
        reply = shop.http.post(f"{API}/orders", json={}, headers=[(b"Idempotency-Key", key)])
        assert_problem(reply, 400, "Idempotency-Key")


def test_two_keys_are_none(shop: Shop) -> None:
    with untouched(shop):
        lines = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
        assert_problem(shop.http.post(f"{API}/orders", json={}, headers=lines), 400, "Idempotency-Key")


def test_what_became_of_a_key_is_told(shop: Shop) -> None:
    key, refused = str(uuid.uuid4()), str(uuid.uuid4())
    answer = shop.do("POST", "/orders", {}, **with_key(key))
    assert shop.get(f"/commands/{key}") == {"key": key, "state": "applied", **answer}
    order = answer["order"]["orderID"]
    reply = shop.call("POST", f"/orders/{order}/stage", {"newStage": "completed"}, headers=with_key(refused))
    found = shop.get(f"/commands/{refused}")
    assert found == {"key": refused, "state": "rejected", "problem": reply.json(), "cursor": answer["cursor"]}
    unknown = str(uuid.uuid4())
    assert shop.get(f"/commands/{unknown}") == {"key": unknown, "state": "unknown"}


def test_a_key_with_slashes_and_blanks_can_be_asked_for(shop: Shop) -> None:
    key = f'"till/3 #{uuid.uuid4()}?"'
    shop.do("POST", "/orders", {}, **with_key(key))
    quoted = key.replace("/", "%2F").replace(" ", "%20").replace("#", "%23").replace("?", "%3F").replace('"', "%22")
    assert shop.get(f"/commands/{quoted}")["state"] == "applied"


async def test_repeats_at_the_same_time_take_effect_once(shop: Shop) -> None:
    before, key, order = shop.head(), with_key(), new_id("order")
    async with httpx2.AsyncClient(base_url=shop.http.base_url, trust_env=False, timeout=30) as client:
        replies = await asyncio.gather(
            *(client.post(f"{API}/orders", json={"orderID": order}, headers=key) for _ in range(20))
        )
        assert len({told(reply) for reply in replies}) == 1
        assert replies[0].status_code == 201
        assert sum(REPLAYED not in reply.headers for reply in replies) == 1
        keyless = await asyncio.gather(*(client.post(f"{API}/orders", json={}) for _ in range(5)))
    assert len({reply.json()["order"]["orderID"] for reply in keyless}) == 5
    assert [event["eventType"] for event in shop.events(after=before)] == ["order_created"] * 6
