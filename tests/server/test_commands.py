"""Every command over HTTP, on both stores: what it answers, what it emits, what is stored afterwards."""

import re
from typing import Any

import httpx2
import pytest

from sync_core.domain.catalog import DOMAIN
from tests.server.shop import ITEM, Shop, new_id


def documents(answer: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The documents of an answer that carries one of each kind."""
    return {kind: answer[kind] for kind in DOMAIN.kinds if kind in answer}


def assert_stored(shop: Shop, answer: dict[str, Any]) -> None:
    """Every document of *answer* is what a read gives, at the cursor that it names or later."""
    for kind, document in documents(answer).items():
        declared = DOMAIN.kinds[kind]
        path = f"/{declared.path()}/{document[declared.id_key]}"
        if document.get("deleted"):
            assert shop.call("GET", path).status_code == 404
        else:
            assert shop.get(path)[kind] == document


def assert_told(answer: dict[str, Any], events: list[dict[str, Any]]) -> None:
    """Every document of *answer* was carried, as it is, by the last event of its kind; the cursor is the last one's."""
    assert answer["cursor"] == events[-1]["id"]
    for kind, document in documents(answer).items():
        carried = [event for event in events if kind in event["data"] and "version" in event]
        assert carried[-1]["version"] == document["version"]
        if document.get("deleted"):
            assert carried[-1]["data"]["deleted"] is True
        else:
            assert carried[-1]["data"][kind] == document


def test_an_order_with_items_is_initiated_and_priced(shop: Shop) -> None:
    order_id = new_id("order")
    with shop.emitting("order_created") as events:
        reply = shop.call(
            "POST",
            "/orders",
            {"orderID": order_id, "items": [ITEM], "customer": {"name": "R. Haddad"}, "notes": "Roof rack."},
        )
    assert reply.status_code == 201
    assert reply.headers["location"] == f"/api/v1/orders/{order_id}"
    assert reply.headers["etag"] == '"1"'
    answer = reply.json()
    order = answer["order"]
    assert order["createdAt"] == order["updatedAt"] == events[0]["timestamp"]
    assert {name: order[name] for name in order if not name.endswith("At")} == {
        "orderID": order_id,
        "stage": "initiated",
        "items": [ITEM],
        "payment": {"status": "pending", "amount": "25.00", "currency": "USD"},
        "customer": {"name": "R. Haddad"},
        "notes": "Roof rack.",
        "version": 1,
    }
    assert events[0]["orderID"] == order_id
    assert_told(answer, events)
    assert_stored(shop, answer)


def test_an_order_without_items_is_empty_and_the_server_makes_its_id(shop: Shop) -> None:
    first, second = shop.do("POST", "/orders", {})["order"], shop.do("POST", "/orders", {})["order"]
    assert first["stage"] == "empty"
    assert first["orderID"] != second["orderID"]
    assert re.fullmatch("[2-9a-z]{12}", first["orderID"])


def test_an_order_goes_along_its_stages(shop: Shop) -> None:
    order = shop.order(items=0)
    for version, stage in enumerate(["initiated", "in_progress", "completed"], 2):
        with shop.emitting("stage_change", "order_stage_change") as events:
            reply = shop.call("POST", f"/orders/{order}/stage", {"newStage": stage})
        assert reply.status_code == 200
        assert reply.headers["etag"] == f'"{version}"'
        answer = reply.json()
        assert (answer["order"]["stage"], answer["order"]["version"]) == (stage, version)
        small, whole = events
        assert "version" not in small
        assert small["data"]["newStage"] == whole["data"]["newStage"] == stage
        assert_told(answer, events)
        assert_stored(shop, answer)


def test_a_status_in_free_words(shop: Shop) -> None:
    order = shop.order()
    with shop.emitting("status_update") as events:
        answer = shop.do("POST", f"/orders/{order}/status", {"status": "بانتظار المفتاح", "note": "10 min"})
    assert answer["order"]["status"] == "بانتظار المفتاح"
    assert_told(answer, events)
    assert_stored(shop, answer)


def test_a_payment_is_taken_and_given_back(shop: Shop) -> None:
    order = shop.order()
    for status in ("paid", "refunded"):
        with shop.emitting("payment_update") as events:
            answer = shop.do("POST", f"/orders/{order}/payment", {"status": status, "amount": "25", "method": "card"})
        assert answer["order"]["payment"] == {
            "status": status, "amount": "25.00", "currency": "USD", "method": "card",
        }  # fmt: skip
        assert_told(answer, events)
        assert_stored(shop, answer)


def test_an_order_is_edited_what_is_null_is_taken_away(shop: Shop) -> None:
    order = shop.order(notes="old", customer={"name": "A"})
    with shop.emitting("order_updated") as events:
        answer = shop.do("PATCH", f"/orders/{order}", {"notes": None, "items": [ITEM, ITEM]})
    assert "notes" not in answer["order"]
    assert answer["order"]["customer"] == {"name": "A"}
    assert answer["order"]["payment"]["amount"] == "50.00"
    assert_told(answer, events)
    assert_stored(shop, answer)


def test_a_deleted_order_leaves_its_queue_and_a_new_one_goes_on_behind_its_version(shop: Shop) -> None:
    queue = shop.queue()
    (order,) = shop.waiting(queue)
    with shop.emitting("queue_updated", "order_deleted") as events:
        reply = shop.call("DELETE", f"/orders/{order}")
    assert reply.status_code == 200
    assert "etag" not in reply.headers
    answer = reply.json()
    assert answer["order"] == {"orderID": order, "version": 3, "deleted": True}
    assert answer["queue"]["entries"] == []
    assert_told(answer, events)
    assert_stored(shop, answer)
    again = shop.do("POST", "/orders", {"orderID": order})
    assert again["order"]["version"] == 4
    assert_stored(shop, again)


def test_a_queue_from_its_opening_to_its_end(shop: Shop) -> None:
    queue = new_id("queue")
    with shop.emitting("queue_updated") as events:
        reply = shop.call("POST", "/queues", {"queueID": queue, "name": "Hall"})
    assert reply.status_code == 201
    assert reply.headers["location"] == f"/api/v1/queues/{queue}"
    assert_told(reply.json(), events)
    with shop.emitting("queue_updated") as events:
        answer = shop.do("PATCH", f"/queues/{queue}", {"name": "Yard", "paused": True})
    assert (answer["queue"]["name"], answer["queue"]["paused"]) == ("Yard", True)
    assert_told(answer, events)
    with shop.emitting("queue_updated") as events:
        answer = shop.do("DELETE", f"/queues/{queue}")
    assert answer["queue"] == {"queueID": queue, "version": 3, "deleted": True}
    assert_told(answer, events)
    assert_stored(shop, answer)


def test_an_order_enters_a_queue_moves_up_and_leaves(shop: Shop) -> None:
    queue = shop.queue()
    shop.waiting(queue, 2)
    order = shop.order()
    with shop.emitting("queue_updated", "order_updated") as events:
        reply = shop.call("POST", f"/queues/{queue}/entries", {"orderID": order})
    assert reply.status_code == 201
    answer = reply.json()
    assert answer["queue"]["entries"][-1]["orderID"] == order
    assert answer["order"]["queueID"] == queue
    assert_told(answer, events)
    assert_stored(shop, answer)
    with shop.emitting("queue_updated") as events:
        answer = shop.do("POST", f"/queues/{queue}/entries/{order}/move", {"position": 1})
    assert answer["queue"]["entries"][0]["orderID"] == order
    assert_told(answer, events)
    assert_stored(shop, answer)
    with shop.emitting("queue_updated", "order_updated") as events:
        answer = shop.do("DELETE", f"/queues/{queue}/entries/{order}")
    assert len(answer["queue"]["entries"]) == 2
    assert "queueID" not in answer["order"]
    assert_told(answer, events)
    assert_stored(shop, answer)


def test_the_next_is_called_and_its_job_finished(shop: Shop) -> None:
    queue, bay = shop.queue(), shop.bay()
    order, _ = shop.waiting(queue, 2)
    started = ("queue_updated", "bay_updated", "job_started", "stage_change", "order_stage_change")
    with shop.emitting(*started) as events:
        answer = shop.do("POST", f"/queues/{queue}/call-next", {"bayID": bay, "service": "polish"})
    assert len(answer["queue"]["entries"]) == 1
    assert answer["bay"]["status"] == "occupied"
    assert answer["order"]["stage"] == "in_progress"
    assert (answer["order"]["orderID"], answer["order"]["bayID"]) == (order, bay)
    assert_told(answer, events)
    assert_stored(shop, answer)
    job = answer["bay"]["job"]["jobID"]
    with shop.emitting("job_progress") as events:
        answer = shop.do("PATCH", f"/bays/{bay}/jobs/{job}", {"progress": 60})
    assert answer["bay"]["job"]["progress"] == 60
    assert_told(answer, events)
    ended = ("bay_updated", "job_completed", "stage_change", "order_stage_change")
    with shop.emitting(*ended) as events:
        answer = shop.do("POST", f"/bays/{bay}/jobs/{job}/finish")
    assert answer["bay"]["status"] == "cleaning"
    assert answer["order"]["stage"] == "completed"
    assert_told(answer, events)
    assert_stored(shop, answer)


def test_a_job_is_started_and_aborted(shop: Shop) -> None:
    bay, order = shop.bay(), shop.order()
    with shop.emitting("bay_updated", "job_started", "stage_change", "order_stage_change") as events:
        reply = shop.call("POST", f"/bays/{bay}/jobs", {"orderID": order, "expectedSeconds": 60})
    assert reply.status_code == 201
    assert_told(reply.json(), events)
    job = reply.json()["bay"]["job"]["jobID"]
    with shop.emitting("bay_updated", "job_aborted", "stage_change", "order_stage_change") as events:
        answer = shop.do("POST", f"/bays/{bay}/jobs/{job}/abort", {"reason": "The power failed."})
    assert answer["order"]["stage"] == "initiated"
    assert "bayID" not in answer["order"]
    assert_told(answer, events)
    assert_stored(shop, answer)


def test_a_bay_from_its_making_to_its_end(shop: Shop) -> None:
    bay = shop.bay()
    with shop.emitting("bay_updated") as events:
        answer = shop.do("PATCH", f"/bays/{bay}", {"status": "out_of_service"})
    assert answer["bay"]["status"] == "out_of_service"
    assert_told(answer, events)
    with shop.emitting("bay_updated") as events:
        answer = shop.do("DELETE", f"/bays/{bay}")
    assert answer["bay"] == {"bayID": bay, "version": 3, "deleted": True}
    assert_told(answer, events)
    assert_stored(shop, answer)


def test_every_event_names_the_instance_that_caused_it(shop: Shop) -> None:
    before = shop.head()
    order = new_id("order")
    shop.call("POST", "/orders", {"orderID": order}, headers={"X-Client-ID": "till-3#8f2c"})
    shop.call("POST", f"/orders/{order}/stage", {"newStage": "initiated"}, headers={"X-Client-ID": "till-4#1"})
    clients = [event["clientID"] for event in shop.events(after=before)]
    assert clients == ["till-3#8f2c", "till-4#1", "till-4#1"]
    assert [e["clientID"] for e in shop.events(after=before, clientID="till-4#1")] == ["till-3#8f2c"]


@pytest.mark.parametrize("path", ["/orders/{id}", "/queues/{id}", "/bays/{id}"])
def test_there_is_no_such_document(shop: Shop, path: str) -> None:
    path = path.format(id=new_id("none"))
    before = shop.head()
    replies: list[httpx2.Response] = [shop.call("GET", path), shop.call("PATCH", path, {}), shop.call("DELETE", path)]
    assert [reply.status_code for reply in replies] == [404, 404, 404]
    assert shop.head() == before
