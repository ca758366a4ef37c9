"""What no command accepts: a 4xx that says where, nothing written, nothing emitted; and what the rules refuse."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest

from sync_core.domain.catalog import DOMAIN
from tests.server.publishing import assert_problem
from tests.server.shop import API, ITEM, Shop, new_id

Body = dict[str, Any]


@contextmanager
def untouched(shop: Shop, *paths: str) -> Iterator[None]:
    """Within the block nothing is written, nothing emitted, and the documents at *paths* stay as they are."""
    head, documents = shop.head(), [shop.get(path) for path in paths]
    yield
    assert shop.head() == head
    assert [shop.get(path) for path in paths] == documents


def item(**fields: Any) -> Body:
    return {"items": [{**ITEM, **fields}]}


# One column: what is posted to /orders; the other: where the fault is.
ORDERS: list[tuple[Body, str]] = [
    ({"orderID": 7}, "orderID"),
    ({"orderID": "a b"}, "orderID"),
    ({"orderID": ".."}, "orderID"),
    ({"orderID": "x" * 65}, "orderID"),
    ({"orderID": ""}, "orderID"),
    ({"items": {}}, "items"),
    ({"items": [1]}, "items[0]"),
    ({"items": [ITEM] * 201}, "items"),
    ({"nots": "typo"}, "nots"),
    ({"notes": ["a"]}, "notes"),
    ({"notes": "x" * 2001}, "notes"),
    ({"customer": "R. Haddad"}, "customer"),
    ({"customer": {"name": 5}}, "customer.name"),
    ({"currency": "usd"}, "currency"),
    ({"stage": "completed"}, "stage"),
    ({"version": 3}, "version"),
    (item(unitPrice=12.5), "items[0].unitPrice"),
    (item(unitPrice=12), "items[0].unitPrice"),
    (item(unitPrice="12.505"), "items[0].unitPrice"),
    (item(unitPrice="-1"), "items[0].unitPrice"),
    (item(unitPrice="1e3"), "items[0].unitPrice"),
    (item(unitPrice="NaN"), "items[0].unitPrice"),
    (item(unitPrice="Infinity"), "items[0].unitPrice"),
    (item(unitPrice="99999999999.00"), "items[0].unitPrice"),
    (item(unitPrice=None), "items[0].unitPrice"),
    (item(quantity="2"), "items[0].quantity"),
    (item(quantity=2.0), "items[0].quantity"),
    (item(quantity=True), "items[0].quantity"),
    (item(quantity=0), "items[0].quantity"),
    (item(quantity=10**30), "items[0].quantity"),
    (item(sku=""), "items[0].sku"),
    (item(weight=1.5), "items[0]"),
    (item(deep=json.loads("[" * 50 + "]" * 50)), "items[0]"),
    ({"items": [{"sku": "a", "name": "b", "quantity": 1}]}, "items[0].unitPrice"),
]


@pytest.mark.parametrize(
    ("method", "path", "name"),
    [("POST", "/orders", "items"), ("POST", "/devices/x/orders", "orders"), ("PUT", "/catalog/x/prices", "prices")],
)
def test_of_a_list_that_is_far_too_long_the_elements_are_not_looked_at(
    shop: Shop, method: str, path: str, name: str
) -> None:
    """A mebibyte of what is wrong was seconds in which nobody else was served."""
    reply = shop.call(method, path, {name: [{}] * 200_000})
    assert_problem(reply, 422, name)


@pytest.mark.parametrize(("body", "path"), ORDERS, ids=[f"{i}-{path}" for i, (_, path) in enumerate(ORDERS)])
def test_a_bad_order_is_refused_with_the_field_that_is_wrong(shop: Shop, body: Body, path: str) -> None:
    with untouched(shop):
        assert_problem(shop.call("POST", "/orders", body), 422, path)


# Bodies as bytes, with the status that they get.
RAW: list[tuple[bytes, int]] = [
    (b"", 400),
    (b"{", 400),
    (b"nul", 400),
    (b'{"notes": NaN}', 400),
    (b'{"notes": Infinity}', 400),
    (b'{"notes": "\xff"}', 400),
    (b'{"notes": "\\ud800"}', 400),
    (b'{"notes": "\x00"}', 400),
    (b"[" * 100_000, 400),
    (b'{"a":' * 300 + b"1" + b"}" * 300, 400),
    (b"null", 422),
    (b'"text"', 422),
    (b"7", 422),
    (b"[]", 422),
    (b'{"items": 1e999}', 422),
    (b'{"notes": ' + b"9" * 4000 + b"}", 422),
    (b'{"notes": "' + b"x" * 1_100_000 + b'"}', 413),
]


@pytest.mark.parametrize(("body", "status"), RAW, ids=[f"{i}-{status}" for i, (_, status) in enumerate(RAW)])
def test_a_body_that_is_no_command_is_refused(shop: Shop, body: bytes, status: int) -> None:
    with untouched(shop):
        reply = shop.http.post(API + "/orders", content=body, headers={"Content-Type": "application/json"})
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.json()["detail"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "application/json", "Content-Encoding": "gzip"},
    ],
)
def test_a_body_that_is_not_json_is_refused_by_its_type(shop: Shop, headers: dict[str, str]) -> None:
    with untouched(shop):
        assert_problem(shop.http.post(API + "/orders", content=b'{"notes":"a"}', headers=headers), 415)


def test_the_fields_of_the_path_stand_there_only(shop: Shop) -> None:
    order, other = shop.order(), shop.order()
    with untouched(shop, f"/orders/{order}", f"/orders/{other}"):
        reply = shop.call("POST", f"/orders/{order}/stage", {"newStage": "cancelled", "orderID": other})
        assert_problem(reply, 422, "orderID")


@pytest.mark.parametrize("order", ["a%20b", "%2e%2e%2fx", "x" * 65, "%00", "%D8%B7", "a,b"])
def test_an_id_in_the_path_that_cannot_be_one_is_refused(shop: Shop, order: str) -> None:
    with untouched(shop):
        reply = shop.call("POST", f"/orders/{order}/stage", {"newStage": "cancelled"})
    assert reply.status_code in (404, 422)
    assert reply.headers["content-type"] == "application/problem+json"


BODIES: list[tuple[str, str, Body, str]] = [
    ("POST", "/orders/{order}/stage", {"newStage": "washed"}, "newStage"),
    ("POST", "/orders/{order}/stage", {}, "newStage"),
    ("POST", "/orders/{order}/status", {"status": ""}, "status"),
    ("POST", "/orders/{order}/payment", {"status": "paid", "amount": 25.0}, "amount"),
    ("POST", "/orders/{order}/payment", {"status": "paid", "amount": "-0.01"}, "amount"),
    ("POST", "/orders/{order}/payment", {"status": "stolen", "amount": "1"}, "status"),
    ("PATCH", "/orders/{order}", {"items": None}, "items"),
    ("PATCH", "/orders/{order}", {"stage": "completed"}, "stage"),
    ("DELETE", "/orders/{order}", {"really": True}, "really"),
    ("PATCH", "/queues/{queue}", {"paused": "yes"}, "paused"),
    ("PATCH", "/queues/{queue}", {"paused": 1}, "paused"),
    ("PATCH", "/queues/{queue}", {"name": None}, "name"),
    ("POST", "/queues/{queue}/entries", {"orderID": "{order}", "priority": 1001}, "priority"),
    ("POST", "/queues/{queue}/entries", {"orderID": "{order}", "priority": "1"}, "priority"),
    ("POST", "/queues/{queue}/entries", {"orderID": "nobody"}, "orderID"),
    ("POST", "/queues/{queue}/call-next", {"bayID": "nowhere"}, "bayID"),
    ("POST", "/queues/{queue}/call-next", {}, "bayID"),
    ("PATCH", "/bays/{bay}", {"status": "occupied"}, "status"),
    ("POST", "/bays/{bay}/jobs", {"orderID": "nobody"}, "orderID"),
    ("POST", "/bays/{bay}/jobs", {"orderID": "{order}", "expectedSeconds": 0}, "expectedSeconds"),
]


@pytest.mark.parametrize(("method", "path", "body", "fault"), BODIES, ids=[f"{m} {p} {f}" for m, p, _, f in BODIES])
def test_a_bad_command_is_refused_with_the_field_that_is_wrong(
    shop: Shop, method: str, path: str, body: Body, fault: str
) -> None:
    ids = {"order": shop.order(), "queue": shop.queue(), "bay": shop.bay()}
    filled = json.loads(json.dumps(body).replace("{order}", ids["order"]))
    with untouched(shop, f"/orders/{ids['order']}", f"/queues/{ids['queue']}", f"/bays/{ids['bay']}"):
        assert_problem(shop.call(method, path.format(**ids), filled), 422, fault)


def conflict(reply: httpx2.Response, *kinds: str) -> dict[str, Any]:
    """The documents that a 409 carries: just these kinds."""
    assert_problem(reply, 409)
    current: dict[str, Any] = reply.json()["current"]
    assert set(current) == set(kinds)
    return current


def test_what_exists_cannot_be_made_again_and_is_shown(shop: Shop) -> None:
    for kind, body in (("order", {}), ("queue", {"name": "Hall"}), ("bay", {"name": "Bay 1"})):
        declared = DOMAIN.kinds[kind]
        made = shop.do("POST", f"/{declared.path()}", {declared.id_key: new_id(kind), **body})[kind]
        path = f"/{declared.path()}/{made[declared.id_key]}"
        with untouched(shop, path):
            reply = shop.call("POST", f"/{declared.path()}", {declared.id_key: made[declared.id_key], **body})
            assert conflict(reply, kind) == {kind: made}
        one = "an order" if kind == "order" else f"a {kind}"
        assert reply.json()["detail"] == f"There is already {one} {made[declared.id_key]}."


def test_stages_that_do_not_follow_are_refused_with_the_order(shop: Shop) -> None:
    order = shop.order()
    for stage in ("completed", "empty", "initiated"):
        with untouched(shop, f"/orders/{order}"):
            reply = shop.call("POST", f"/orders/{order}/stage", {"newStage": stage})
            assert conflict(reply, "order")["order"]["stage"] == "initiated"


def test_an_order_in_a_bay_is_left_to_its_job(shop: Shop) -> None:
    bay, order = shop.bay(), shop.order()
    shop.job(bay, order)
    with untouched(shop, f"/orders/{order}", f"/bays/{bay}"):
        for reply in (
            shop.call("POST", f"/orders/{order}/stage", {"newStage": "completed"}),
            shop.call("DELETE", f"/orders/{order}"),
        ):
            assert conflict(reply, "order")["order"]["bayID"] == bay
        assert conflict(shop.call("PATCH", f"/bays/{bay}", {"name": "x"}), "bay")
        assert conflict(shop.call("DELETE", f"/bays/{bay}"), "bay")


def test_a_busy_bay_an_empty_queue_and_a_paused_one_say_how_they_stand(shop: Shop) -> None:
    queue, bay, order = shop.queue(), shop.bay(), shop.order()
    assert conflict(shop.call("POST", f"/queues/{queue}/call-next", {"bayID": bay}), "queue", "bay")
    shop.do("PATCH", f"/queues/{queue}", {"paused": True})
    reply = shop.call("POST", f"/queues/{queue}/entries", {"orderID": order})
    assert conflict(reply, "queue", "order")["queue"]["paused"] is True
    job = shop.job(bay)
    assert conflict(shop.call("POST", f"/bays/{bay}/jobs", {"orderID": order}), "bay", "order")
    shop.do("PATCH", f"/bays/{bay}/jobs/{job}", {"progress": 50})
    reply = shop.call("PATCH", f"/bays/{bay}/jobs/{job}", {"progress": 49})
    assert conflict(reply, "bay")["bay"]["job"]["progress"] == 50
    assert_problem(shop.call("POST", f"/bays/{bay}/jobs/{new_id('job')}/finish"), 404)


def test_an_order_waits_in_one_queue_only_and_a_queue_in_use_stays(shop: Shop) -> None:
    queue, other = shop.queue(), shop.queue()
    (order,) = shop.waiting(queue)
    with untouched(shop, f"/queues/{queue}", f"/queues/{other}", f"/orders/{order}"):
        reply = shop.call("POST", f"/queues/{other}/entries", {"orderID": order})
        assert conflict(reply, "queue", "order")["order"]["queueID"] == queue
        assert conflict(shop.call("DELETE", f"/queues/{queue}"), "queue")
        assert_problem(shop.call("DELETE", f"/queues/{other}/entries/{order}"), 404)


def paths() -> dict[str, set[str]]:
    """Every path below /api/v1 that commands or reads have, with its methods."""
    found: dict[str, set[str]] = {}
    for command in DOMAIN.commands:
        found.setdefault(command.path, {"OPTIONS"}).add(command.method)
    for kind in DOMAIN.kinds.values():
        found.setdefault(f"/{kind.path()}", set()).update({"GET", "HEAD", "OPTIONS"})
        found.setdefault(f"/{kind.path()}/{{{kind.id_key}}}", set()).update({"GET", "HEAD", "OPTIONS"})
    return found


@pytest.mark.parametrize("path", sorted(paths()))
def test_a_method_that_is_not_there_is_told_all_that_are(shop: Shop, path: str) -> None:
    methods = paths()[path]
    concrete = path.replace("{", "").replace("}", "")
    for method in {"GET", "PUT", "POST", "PATCH", "DELETE", "TRACE"} - methods:
        reply = shop.call(method, concrete)
        assert_problem(reply, 405)
        assert set(reply.headers["allow"].split(", ")) == methods
    reply = shop.call("OPTIONS", concrete)
    assert (reply.status_code, reply.content) == (204, b"")
    assert set(reply.headers["allow"].split(", ")) == methods


def test_head_tells_what_get_would_without_a_body(shop: Shop) -> None:
    order = shop.order()
    for path in ("/orders", f"/orders/{order}"):
        got, head = shop.call("GET", path), shop.call("HEAD", path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == str(len(got.content))
        assert head.headers.get("etag") == got.headers.get("etag")
