"""Two people's changes to one cart come together line by line, and nobody's line is dropped but by who took it out."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_client.cart import Items, beyond, checked_items, line_id, merged, with_line, with_lines
from sync_client.errors import InvalidCommand

COLA: dict[str, Any] = {"sku": "COLA", "name": "كولا", "quantity": 1, "unitPrice": "2.50"}


def cart(**quantities: int) -> Items:
    """Lines by their ids."""
    return checked_items([COLA | {"lineID": line, "quantity": count} for line, count in quantities.items()])


def quantities(items: Items) -> dict[str, int]:
    assert len({line_id(item) for item in items}) == len(items)
    return {line_id(item): item.quantity for item in items}


@pytest.mark.parametrize(
    ("base", "mine", "theirs", "both"),
    [
        ({}, {"a": 1}, {"b": 1}, {"a": 1, "b": 1}),
        ({"a": 1}, {"a": 1, "b": 1}, {"a": 1, "c": 1}, {"a": 1, "b": 1, "c": 1}),
        ({"a": 1}, {"a": 3}, {"a": 1}, {"a": 3}),
        ({"a": 1}, {"a": 1}, {"a": 4}, {"a": 4}),
        ({"a": 1}, {"a": 2}, {"a": 4}, {"a": 5}),  # one more, and three more
        ({"a": 5}, {"a": 1}, {"a": 1}, {"a": 1}),
        ({"a": 5}, {"a": 1}, {"a": 2}, {"a": 1}),
        ({"a": 1, "b": 1}, {"b": 1}, {"a": 1, "b": 1}, {"b": 1}),  # taken out by me
        ({"a": 1, "b": 1}, {"a": 1, "b": 1}, {"b": 1}, {"b": 1}),  # by them
        ({"a": 1}, {}, {"a": 2}, {"a": 2}),  # by me, while they wanted more
        ({"a": 1}, {"a": 2}, {}, {"a": 2}),
        ({}, {"a": 2}, {"a": 3}, {"a": 3}),  # what it was is not known any more
    ],
)  # fmt: skip
def test_what_becomes_of_a_line(
    base: dict[str, int], mine: dict[str, int], theirs: dict[str, int], both: dict[str, int]
) -> None:
    assert quantities(merged(cart(**base), cart(**mine), cart(**theirs))) == both


carts = st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 9)).map(lambda lines: cart(**lines))


@given(carts, carts, carts)
def test_no_line_is_lost_that_nobody_took_out(base: Items, mine: Items, theirs: Items) -> None:
    both, were = quantities(merged(base, mine, theirs)), quantities(base)
    for one, other in ((quantities(mine), quantities(theirs)), (quantities(theirs), quantities(mine))):
        for line, count in one.items():
            was_taken_out = line in were and line not in other and were[line] == count
            assert line in both or was_taken_out
    assert set(both) <= set(quantities(mine)) | set(quantities(theirs))


@given(carts, carts)
def test_where_one_did_nothing_the_other_has_it(base: Items, changed: Items) -> None:
    assert quantities(merged(base, base, changed)) == quantities(merged(base, changed, base)) == quantities(changed)


def test_lines_without_ids_are_told_apart_by_what_they_are() -> None:
    one, two = checked_items([COLA]), checked_items([COLA, COLA, COLA | {"name": "ماء"}])
    assert len(merged((), one, two)) == 3
    assert len(merged(one, two, two)) == 3
    assert [line_id(item) for item in two] == ["", "", ""]


def test_a_line_gets_an_id_once() -> None:
    (item,) = checked_items([with_line(COLA)])
    assert len(line_id(item)) == 12
    assert with_line(item)["lineID"] == line_id(item)


@pytest.mark.parametrize("wrong", [{"unitPrice": 2.5}, {"quantity": 0}, {"more": object()}, {"more": 1.5}])
def test_what_is_no_item_is_told(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidCommand):
        checked_items([COLA | wrong])
    with pytest.raises(InvalidCommand):
        checked_items([COLA] * 201)


@pytest.mark.parametrize(
    ("sold", "items", "left"),
    [
        ({"a": 1}, {"a": 1, "b": 2}, {"b": 2}),
        ({"a": 1}, {"a": 3}, {"a": 2}),  # one of the three is sold
        ({"a": 3}, {"a": 1}, {}),
        ({"a": 1}, {}, {}),
        ({}, {"a": 1}, {"a": 1}),
    ],
)
def test_what_was_sold_is_not_sold_again(sold: dict[str, int], items: dict[str, int], left: dict[str, int]) -> None:
    assert quantities(beyond(cart(**sold), cart(**items))) == left


def test_lines_without_an_id_are_told_apart_and_are_the_same_lines_for_everybody() -> None:
    given = checked_items([COLA, COLA, COLA | {"name": "b"}])
    mine, theirs = with_lines(given), with_lines(given)
    assert mine == theirs
    assert len({line_id(item) for item in mine}) == 3
    more = (*mine, *cart(new=1))
    assert merged(given, more, given) == merged(given, given, more) == more
    assert beyond(given, more) == cart(new=1)


def test_an_id_that_is_there_twice_is_one_lines_only() -> None:
    twice = with_lines(checked_items([COLA | {"lineID": "x"}, COLA | {"lineID": "x"}, COLA | {"lineID": 7}]))
    assert line_id(twice[0]) == "x"
    assert len({line_id(item) for item in twice} - {""}) == 3
