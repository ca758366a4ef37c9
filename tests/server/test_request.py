"""The query of stream and poll: what is taken as a number, and what it takes to ask for a type by name."""

from typing import Any

import pytest

from sync_core.problems import Forbidden, InvalidRequest
from sync_server.access.caller import OPEN_CALLER, Caller
from sync_server.access.rights import Rights
from sync_server.feed.request import FeedRequest


def parse(query: str, *, caller: Caller = OPEN_CALLER) -> FeedRequest:
    scope: dict[str, Any] = {"query_string": query.encode(), "headers": [], "state": {"caller": caller}}
    return FeedRequest.parse(scope, extra=frozenset({"limit", "wait"}))


def limit(text: str) -> float:
    return parse(f"limit={text}").number("limit", default=500, low=1, high=1000)


def wait(text: str) -> float:
    return parse(f"wait={text}").number("wait", default=0, low=0, high=30.0)


def test_whole_numbers_and_plain_decimals_are_taken() -> None:
    assert [limit("1"), limit("1000"), limit("007")] == [1, 1000, 7]
    assert [wait("0"), wait("30"), wait("0.25")] == [0, 30, 0.25]
    assert parse("").number("limit", default=500, low=1, high=1000) == 500


@pytest.mark.parametrize(
    "text", ["1.5", "1_0", "%2B5", "+5", "%205", "5%20", "-1", "0", "1001", "1e2", "", "%D9%A5", "9" * 5000]
)
def test_a_limit_has_only_digits(text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        limit(text)
    assert [(e.path, e.message) for e in caught.value.errors] == [("limit", "a whole number from 1 to 1000")]


@pytest.mark.parametrize(
    "text", ["nan", "inf", "1_0", "%205", "+5", "1e1", "1.", "30.1", "-0", "0x1", "%D9%A5", "9" * 5000]
)
def test_a_wait_is_a_plain_decimal(text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        wait(text)
    assert [(e.path, e.message) for e in caught.value.errors] == [("wait", "a number from 0 to 30")]


@pytest.mark.parametrize(
    ("permissions", "query", "may"),
    [
        ({"access_fueler_dashboard"}, "eventTypes=new_unclaimed_order", True),
        ({"view_fuel_orders"}, "eventTypes=new_unclaimed_order", False),
        ({"view_fuel_orders"}, "eventTypes=order_update,new_unclaimed_order", False),
        ({"view_fuel_orders"}, "eventTypes=order_update", True),
        ({"view_fuel_orders"}, "", True),
    ],
)
def test_to_ask_for_offers_by_name_takes_a_permission(permissions: set[str], query: str, may: bool) -> None:
    caller = Caller("default", "user:ann", Rights(frozenset(permissions)))
    if may:
        assert parse(query, caller=caller).caller is caller
    else:
        with pytest.raises(Forbidden, match="access_fueler_dashboard"):
            parse(query, caller=caller)
