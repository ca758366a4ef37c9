"""Lists, single documents and snapshots over HTTP, on both stores. Source: protocol.md 2.3, domain.md."""

import base64
import json
from typing import Any

import pytest

from sync_core.domain.catalog import DOMAIN
from tests.server.publishing import assert_problem
from tests.server.shop import Shop, new_id


def pages(shop: Shop, path: str, token_name: str, **parameters: Any) -> list[dict[str, Any]]:
    """All pages of a list."""
    found = [shop.get(path, **parameters)]
    while token := found[-1].get(token_name):
        found.append(shop.get(path, **parameters, pageToken=token))
    return found


def ids(pages: list[dict[str, Any]], kind: str = "order") -> list[str]:
    """The ids on all *pages*, in their order."""
    return [document[f"{kind}ID"] for page in pages for document in page[f"{kind}s"]]


def ordered(shop: Shop, count: int) -> list[str]:
    """New orders whose ids sort one after the other, with a common beginning."""
    prefix = new_id("list")
    return [shop.order(orderID=f"{prefix}-{n:03}") for n in range(count)]


def test_a_single_document_with_its_version(shop: Shop) -> None:
    order = shop.order()
    reply = shop.call("GET", f"/orders/{order}")
    assert reply.headers["etag"] == '"1"'
    assert reply.headers["cache-control"] == "private, no-cache"
    assert set(reply.json()) == {"order", "cursor"}
    assert reply.json()["cursor"] == shop.head()


@pytest.mark.parametrize("seen", ['"1"', 'W/"1"', '"3", "1"', "*"])
def test_what_is_unchanged_is_not_sent_again(shop: Shop, seen: str) -> None:
    order = shop.order()
    reply = shop.call("GET", f"/orders/{order}", headers={"If-None-Match": seen})
    assert (reply.status_code, reply.content) == (304, b"")
    assert reply.headers["etag"] == '"1"'


@pytest.mark.parametrize("seen", ['"11"', '"0"', "1", "x"])
def test_what_has_changed_is(shop: Shop, seen: str) -> None:
    order = shop.order()
    assert shop.call("GET", f"/orders/{order}", headers={"If-None-Match": seen}).status_code == 200


@pytest.mark.parametrize("path", ["/orders/none", "/orders/a%20b", "/orders/%00", "/bays/" + "x" * 500])
def test_what_is_not_there_is_not_found(shop: Shop, path: str) -> None:
    assert_problem(shop.call("GET", path), 404)


def test_a_deleted_document_is_in_no_list(shop: Shop) -> None:
    order, other = ordered(shop, 2)
    shop.do("DELETE", f"/orders/{order}")
    assert_problem(shop.call("GET", f"/orders/{order}"), 404)
    assert ids([shop.get("/orders", orderID=f"{order},{other}")]) == [other]
    assert ids([shop.get("/sync/snapshot", kinds="orders", orderID=f"{order},{other}")]) == [other]


def test_lists_by_stage_and_status(shop: Shop) -> None:
    first, second, third = orders = ordered(shop, 3)
    shop.do("POST", f"/orders/{second}/stage", {"newStage": "in_progress"})
    shop.do("POST", f"/orders/{third}/stage", {"newStage": "cancelled"})
    mine = {"orderID": ",".join(orders)}
    assert ids([shop.get("/orders", stage="initiated", **mine)]) == [first]
    assert ids([shop.get("/orders", stage="in_progress,cancelled", **mine)]) == [second, third]
    assert ids([shop.get("/orders", **mine)]) == orders
    bay = shop.bay()
    assert ids([shop.get("/bays", status="available", bayID=bay)], "bay") == [bay]
    assert ids([shop.get("/bays", status="occupied", bayID=bay)], "bay") == []
    queue = shop.queue()
    shop.do("PATCH", f"/queues/{queue}", {"paused": True})
    assert ids([shop.get("/queues", state="paused", queueID=queue)], "queue") == [queue]


def test_lists_by_the_entities_that_documents_are_about(shop: Shop) -> None:
    queue, bay = shop.queue(), shop.bay()
    first, second = shop.waiting(queue, 2)
    assert ids([shop.get("/orders", queueID=queue)]) == sorted([first, second])
    job = shop.do("POST", f"/queues/{queue}/call-next", {"bayID": bay})["bay"]["job"]["jobID"]
    assert ids([shop.get("/orders", queueID=queue)]) == [second]
    assert ids([shop.get("/orders", bayID=bay)]) == [first]
    assert ids([shop.get("/bays", orderID=first)], "bay") == [bay]
    assert ids([shop.get("/bays", jobID=job)], "bay") == [bay]
    assert ids([shop.get("/orders", bayID=bay, orderID=second)]) == sorted([first, second])


def test_lists_of_what_has_changed_since(shop: Shop) -> None:
    first, second = orders = ordered(shop, 2)
    mine = {"orderID": ",".join(orders)}
    changed = shop.do("PATCH", f"/orders/{first}", {"notes": "x"})["order"]["updatedAt"]
    shop.do("PATCH", f"/orders/{second}", {"notes": "x"})
    assert set(ids([shop.get("/orders", updatedSince=changed, **mine)])) >= {first, second}
    moment = changed.replace("Z", "+00:00")
    assert ids([shop.get("/orders", updatedSince=moment, **mine)]) == orders
    assert ids([shop.get("/orders", updatedSince="2999-01-01T00:00:00Z", **mine)]) == []
    assert ids([shop.get("/orders", updatedSince="0001-01-01T00:00:00Z", **mine)]) == orders


def test_pages_stay_as_they_are_while_others_insert(shop: Shop) -> None:
    orders = ordered(shop, 7)
    prefix = orders[0].rpartition("-")[0]
    inserted = [f"{prefix}-0005", f"{prefix}-0025", f"{prefix}-999"]
    mine = {"orderID": ",".join([*orders, *inserted]), "limit": 3}
    found = [shop.get("/orders", **mine)]
    assert ids(found) == orders[:3]
    for order in inserted:  # before, within and behind what is still to come
        shop.order(orderID=order)
    shop.do("PATCH", f"/orders/{orders[6]}", {"notes": "changed meanwhile"})
    while token := found[-1].get("nextPageToken"):
        found.append(shop.get("/orders", **mine, pageToken=token))
        assert found[-1]["cursor"] == found[0]["cursor"]
    assert ids(found) == [*orders[:3], f"{prefix}-0025", *orders[3:], f"{prefix}-999"]
    changed = next(order for page in found for order in page["orders"] if order["orderID"] == orders[6])
    assert changed["notes"] == "changed meanwhile"


@pytest.mark.parametrize(
    ("path", "query", "fault"),
    [
        ("/orders", "limit=0", "limit"),
        ("/orders", "limit=1001", "limit"),
        ("/orders", "limit=ten", "limit"),
        ("/orders", "limit=-1", "limit"),
        ("/orders", "limit=%D9%A3", "limit"),
        ("/orders", "limit=99999999999999999999", "limit"),
        ("/orders", "stage=washed", "stage"),
        ("/orders", "status=occupied", "status"),
        ("/bays", "status=broken", "status"),
        ("/orders", "color=red", "color"),
        ("/orders", "updatedSince=yesterday", "updatedSince"),
        ("/orders", "updatedSince=2026-11-20T10:30:00", "updatedSince"),
        ("/orders", "updatedSince=20261120T103000Z", "updatedSince"),
        ("/orders", "updatedSince=1763634600", "updatedSince"),
        ("/orders", "updatedSince=", "updatedSince"),
        ("/orders", "orderID=", "orderID"),
        ("/orders", "orderID=" + ",".join(["x"] * 1), None),
        ("/orders", "orderID=" + ",".join(f"o{n}" for n in range(201)), ""),
        ("/orders", "pageToken=", "pageToken"),
        ("/orders", "pageToken=x", "pageToken"),
        ("/orders", "pageToken=%00", "pageToken"),
        ("/sync/snapshot", "kinds=orders,cars", "kinds"),
        ("/sync/snapshot", "since=now", "since"),
        ("/sync/snapshot", "stage=initiated", "stage"),
    ],
)
def test_a_query_that_cannot_be_understood(shop: Shop, path: str, query: str, fault: str | None) -> None:
    reply = shop.call("GET", f"{path}?{query}")
    if fault is None:
        assert reply.status_code == 200
    else:
        assert_problem(reply, 400, fault)


def token(*content: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "forged",
    [
        token(),
        token("k3f9a2c1.1", None, "order"),
        token("nonsense", None, "order", "x"),
        token("k3f9a2c1.1", None, "bay", "x"),
        token("k3f9a2c1.1", None, "car", "x"),
        token("k3f9a2c1.1", None, 5, "x"),
        token("k3f9a2c1.1", "now", "order", "x"),
        token("k3f9a2c1.1", 2**70, "order", "x"),
        token("k3f9a2c1.1", 1.5, "order", "x"),
        token("k3f9a2c1.1", True, "order", "x"),
        token(["k3f9a2c1.1"], None, "order", "x"),
    ],
)
def test_a_forged_page_token_is_refused(shop: Shop, forged: str) -> None:
    assert_problem(shop.call("GET", f"/orders?pageToken={forged}"), 400, "pageToken")
    assert_problem(shop.call("GET", f"/sync/snapshot?kinds=orders&pageToken={forged}"), 400, "pageToken")


@pytest.mark.parametrize("document_id", ["", "\0", "'; DROP TABLE documents; --", "x" * 5000, "\u2028", "zz"])
def test_a_page_token_leads_to_any_id_there_might_be(shop: Shop, document_id: str) -> None:
    reply = shop.call("GET", f"/orders?pageToken={token('k3f9a2c1.1', 0, 'order', document_id)}")
    assert reply.status_code == 200


def test_the_snapshot_holds_each_kind_page_by_page(shop: Shop) -> None:
    queue, bay = shop.queue(), shop.bay()
    orders = sorted(shop.waiting(queue, 3))
    mine = {"queueID": queue, "bayID": bay}
    (page,) = pages(shop, "/sync/snapshot", "pageToken", **mine)
    assert set(page) == {kind.plural for kind in DOMAIN.kinds.values()} | {"cursor"}
    assert page["cursor"] == shop.head()
    assert (ids([page]), ids([page], "queue"), ids([page], "bay")) == (orders, [queue], [bay])
    found = pages(shop, "/sync/snapshot", "pageToken", **mine, limit=2)
    assert len(found) > 2
    assert {page["cursor"] for page in found} == {shop.head()}
    assert (ids(found), ids(found, "queue"), ids(found, "bay")) == (orders, [queue], [bay])
    (bays,) = pages(shop, "/sync/snapshot", "pageToken", **mine, kinds="bays")
    assert set(bays) == {"bays", "cursor"}


def test_a_snapshots_cursor_is_the_one_before_its_first_page(shop: Shop) -> None:
    first, second = orders = ordered(shop, 2)
    mine = {"kinds": "orders", "orderID": ",".join(orders), "limit": 1}
    page = shop.get("/sync/snapshot", **mine)
    shop.do("PATCH", f"/orders/{first}", {"notes": "behind it"})
    shop.do("PATCH", f"/orders/{second}", {"notes": "ahead of it"})
    rest = shop.get("/sync/snapshot", **mine, pageToken=page["pageToken"])
    assert page["orders"][0]["version"] == 1
    assert rest["orders"][0]["version"] == 2
    assert rest["cursor"] == page["cursor"]
    assert [event["orderID"] for event in shop.events(after=page["cursor"])] == orders


def test_what_is_finished_stays_in_the_snapshot_for_a_day(shop: Shop) -> None:
    order = shop.order()
    shop.do("POST", f"/orders/{order}/stage", {"newStage": "cancelled"})
    assert ids([shop.get("/sync/snapshot", kinds="orders", orderID=order)]) == [order]
    assert ids([shop.get("/sync/snapshot", kinds="orders", orderID=order, since="2999-01-01T00:00:00Z")]) == []
    open_one = shop.order()
    assert ids([shop.get("/sync/snapshot", orderID=open_one, since="2999-01-01T00:00:00Z")]) == [open_one]
