"""``If-Match``: a change only of the version that the caller has seen. Source: protocol.md 4."""

import pytest

from tests.server.publishing import assert_problem
from tests.server.shop import Shop, new_id
from tests.server.test_commands_refused import conflict, untouched


@pytest.mark.parametrize("if_match", ['"2"', 'W/"2"', "*", '"1", "2"', '"1","2" , "3"'])
def test_the_version_that_there_is_passes(shop: Shop, if_match: str) -> None:
    order = shop.order(items=0)
    shop.do("PATCH", f"/orders/{order}", {"notes": "seen"})
    answer = shop.do("PATCH", f"/orders/{order}", {"notes": "changed"}, **{"If-Match": if_match})
    assert answer["order"]["version"] == 3


def test_several_header_lines_are_one_list(shop: Shop) -> None:
    order = shop.order()
    lines = [("If-Match", '"9"'), ("If-Match", '"1"')]
    reply = shop.http.request("PATCH", f"/api/v1/orders/{order}", json={"notes": "a"}, headers=lines)
    assert reply.status_code == 200


@pytest.mark.parametrize("if_match", ['"1"', '"3"', 'W/"1"', '"0"', '"999999999999999"'])
def test_another_version_is_refused_with_the_document_as_it_is(shop: Shop, if_match: str) -> None:
    order = shop.order(items=0)
    stored = shop.do("PATCH", f"/orders/{order}", {"notes": "seen"})["order"]
    for method, path, body in (
        ("PATCH", f"/orders/{order}", {"notes": "lost"}),
        ("POST", f"/orders/{order}/stage", {"newStage": "initiated"}),
        ("DELETE", f"/orders/{order}", None),
    ):
        with untouched(shop, f"/orders/{order}"):
            reply = shop.call(method, path, body, headers={"If-Match": if_match})
            assert conflict(reply, "order") == {"order": stored}
            assert reply.json()["type"] == "stale"


def test_a_rule_that_forbids_it_is_no_stale_version(shop: Shop) -> None:
    order = shop.order()
    reply = shop.call("POST", f"/orders/{order}/stage", {"newStage": "completed"}, headers={"If-Match": '"1"'})
    assert conflict(reply, "order")
    assert reply.json()["type"] == "about:blank"


@pytest.mark.parametrize(
    "if_match", ["", "1", "'1'", '"1', '"x"', '"-1"', '"1" "2"', '"1",,', "*, *", '*, "1"', '"1234567890123456"', "é"]
)
def test_what_is_no_version_is_refused(shop: Shop, if_match: str) -> None:
    order = shop.order()
    with untouched(shop, f"/orders/{order}"):
        reply = shop.http.request(
            "PATCH",
            f"/api/v1/orders/{order}",
            json={"notes": "lost"},
            headers=[(b"If-Match", if_match.encode("latin-1"))],
        )
        assert_problem(reply, 400, "If-Match")


@pytest.mark.parametrize("if_match", ["*", '"1"'])
def test_what_is_not_there_has_no_version(shop: Shop, if_match: str) -> None:
    with untouched(shop):
        for method, path, body in (
            ("PATCH", f"/orders/{new_id('none')}", {"notes": "a"}),
            ("POST", "/orders", {"orderID": new_id("none")}),
            ("POST", "/orders", {}),
        ):
            assert_problem(shop.call(method, path, body, headers={"If-Match": if_match}), 404)


def test_a_command_on_several_documents_is_guarded_by_its_target(shop: Shop) -> None:
    queue, bay = shop.queue(), shop.bay()
    shop.waiting(queue)
    with untouched(shop, f"/queues/{queue}", f"/bays/{bay}"):
        reply = shop.call("POST", f"/queues/{queue}/call-next", {"bayID": bay}, headers={"If-Match": '"1"'})
        assert conflict(reply, "queue")["queue"]["version"] == 2
    reply = shop.call("POST", f"/queues/{queue}/call-next", {"bayID": bay}, headers={"If-Match": '"2"'})
    assert reply.status_code == 200
    assert reply.headers["etag"] == '"3"'


def test_a_version_is_not_reused_when_an_order_is_made_again(shop: Shop) -> None:
    order = shop.order()
    shop.do("DELETE", f"/orders/{order}")
    shop.do("POST", "/orders", {"orderID": order})
    reply = shop.call("PATCH", f"/orders/{order}", {"notes": "of the old one"}, headers={"If-Match": '"1"'})
    assert conflict(reply, "order")["order"]["version"] == 3
