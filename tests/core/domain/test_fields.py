"""What fields may hold: money without floats, ids that fit a URL, whole numbers that are whole, null and absent."""

import decimal
import enum
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import from_json, to_json

from sync_core.domain.bays import EditBay
from sync_core.domain.fields import MAX_AMOUNT, Amount, DocumentID, Whole, plain_extras, two_places
from sync_core.domain.items import Customer, GivenItems, Item
from sync_core.domain.orders import CreateOrder, EditOrder
from sync_core.domain.queues import EditQueue
from tests.core.domain.shop import ITEM

amounts: TypeAdapter[Decimal] = TypeAdapter(Amount)
ids: TypeAdapter[str] = TypeAdapter(DocumentID)
wholes: TypeAdapter[int] = TypeAdapter(Whole)
items: TypeAdapter[tuple[Item, ...]] = TypeAdapter(GivenItems)


@pytest.mark.parametrize(
    ("given_text", "amount"),
    [
        ("12.50", "12.50"), ("12.5", "12.50"), ("12", "12.00"), ("0", "0.00"), ("-0.00", "0.00"), ("-0", "0.00"),
        ("+7", "7.00"), ("007.10", "7.10"), ("1.5000", "1.50"), ("9999999999.99", "9999999999.99"),
    ],
)  # fmt: skip
def test_an_amount_has_two_places_on_the_wire(given_text: str, amount: str) -> None:
    read = amounts.validate_json(f'"{given_text}"', strict=True)
    assert amounts.dump_json(read) == f'"{amount}"'.encode()


@pytest.mark.parametrize("text", [
    "12.5", "12", "1e2", "true", "null", '"NaN"', '"Infinity"', '"-0.01"', '"-1"', '"1.005"', '"0.001"', '""', '" 1"',
    '"1 "', '"1\\n"', '"1_000"', '"1,5"', '"1e3"', '"1."', '".5"', '"١٢"', '"１"', '"10000000000"', '"9999999999.991"',
    '"' + "1" * 5000 + '"', "[]", "{}",
])  # fmt: skip
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        amounts.validate_json(text)


@pytest.mark.parametrize("value", [
    12.5, 12, True, None, b"1.00", Decimal("NaN"), Decimal("sNaN"), Decimal("-Infinity"), Decimal("1E+30"),
    Decimal("1E-9"), Decimal("-0.01"), [], object(),
])  # fmt: skip
def test_what_is_no_amount_is_refused_in_python_too(value: object) -> None:
    with pytest.raises(ValidationError):
        amounts.validate_python(value)


@pytest.mark.parametrize(("value", "amount"), [(Decimal("1E+2"), "100.00"), (Decimal("-0"), "0.00"), ("3", "3.00")])
def test_a_program_may_give_a_decimal(value: object, amount: str) -> None:
    assert str(amounts.validate_python(value)) == amount


@given(st.decimals(0, MAX_AMOUNT, places=2))
def test_every_amount_survives_the_wire(value: Decimal) -> None:
    assert amounts.validate_json(amounts.dump_json(amounts.validate_python(value))) == value


def test_a_programs_own_decimal_context_changes_no_amount() -> None:
    with decimal.localcontext() as context:
        context.prec = 3
        context.traps[decimal.Inexact] = True
        assert two_places("1234567890.12") == two_places(Decimal("1234567890.120"))
        (item,) = items.validate_python([ITEM | {"unitPrice": "1234567.89", "quantity": 777}])
        assert str(item.unitPrice) == "1234567.89"


def test_the_schema_says_that_an_amount_is_text() -> None:
    for mode in ("validation", "serialization"):
        assert amounts.json_schema(mode=mode)["type"] == "string"


@pytest.mark.parametrize("name", ["a", "ORDER-001", "a.b_c-D9", "...a", ".a", "a..", "-", "_", "0", "x" * 64])
def test_an_id_that_a_caller_may_make(name: str) -> None:
    assert ids.validate_python(name) == name


@pytest.mark.parametrize("name", [
    "", ".", "..", "...", "x" * 65, "a b", "a/b", "a\n", "\na", "a\0", "é", "كولا", "a,b", "a=b", "a%2e", "a?b", "١",
])  # fmt: skip
def test_an_id_that_would_break_a_url_or_a_filter_is_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        ids.validate_python(name)


@pytest.mark.parametrize("text", ['"3"', "3.0", "3.5", "1e1", "true", "null", "[3]"])
def test_a_whole_number_is_written_as_one(text: str) -> None:
    with pytest.raises(ValidationError):
        wholes.validate_json(text)


class Colour(enum.Enum):
    RED = "red"


@pytest.mark.parametrize("value", [
    1.0, 2.5, float("nan"), float("inf"), 2**53, -(2**60), 10**400, "\ud800", {"a": 1.5}, {"\ud800": 1}, [[0.1]],
    {1: 2}, (1,), b"x", {"a": {1}}, Decimal("1.5"), Colour.RED, object(), [[[[[[[[[0]]]]]]]]],
])  # fmt: skip
def test_unknown_fields_of_an_item_hold_plain_json_only(value: object) -> None:
    with pytest.raises(ValidationError) as caught:
        items.validate_python([ITEM, ITEM | {"colour": value}])
    (fault,) = caught.value.errors(include_url=False)
    assert fault["loc"] == (1,)
    assert "'colour'" in fault["msg"]


@pytest.mark.parametrize(
    "value", [None, True, 0, -(2**53) + 1, "", "طلب 🚗", [], {}, [1, {"a": [None, "x"]}], [[[[[[[[]]]]]]]]]
)
def test_unknown_fields_with_plain_json_are_kept(value: object) -> None:
    (item,) = items.validate_python([ITEM | {"colour": value}])
    assert from_json(item.model_dump_json())["colour"] == value


def test_what_contains_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(ValidationError, match="levels deep"):
        items.validate_python([ITEM | {"colour": loop}])


def test_a_name_that_is_no_text_is_refused() -> None:
    odd: dict[str, Any] = {"\ud800": 1}
    with pytest.raises(ValueError, match="surrogate"):
        plain_extras(Customer.model_construct(None, **odd))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.text(max_size=8), json_values, max_size=4))
def test_an_item_of_any_json_is_refused_or_the_same_after_the_wire(more: dict[str, Any]) -> None:
    try:
        (item,) = items.validate_python([more | ITEM])
    except ValidationError:
        return
    text = item.model_dump_json(exclude_none=True)
    assert Item.model_validate_json(text).model_dump_json(exclude_none=True) == text
    assert from_json(text) == {name: value for name, value in (ITEM | more | ITEM).items() if value is not None}


@pytest.mark.parametrize(
    ("model", "key", "names"),
    [
        (EditOrder, "orderID", ["items"]),
        (EditQueue, "queueID", ["name", "paused"]),
        (EditBay, "bayID", ["name", "status"]),
    ],
)
def test_null_where_there_is_nothing_to_take_away_is_refused_by_name(
    model: type[BaseModel], key: str, names: list[str]
) -> None:
    content = {key: "x"} | dict.fromkeys(names)
    with pytest.raises(ValidationError) as caught:
        model.model_validate_json(to_json(content), strict=True)
    assert [fault["loc"] for fault in caught.value.errors()] == [(name,) for name in names]
    assert model.model_validate({key: "x"}).model_fields_set == {key}, "absent is something else"


def test_the_schema_shows_no_null_where_none_is_taken() -> None:
    shown = EditQueue.model_json_schema()["properties"]
    assert shown["name"]["type"] == "string"
    assert shown["paused"]["type"] == "boolean"
    assert "default" not in shown["name"]
    assert {"type": "null"} in EditOrder.model_json_schema()["properties"]["notes"]["anyOf"]


@pytest.mark.parametrize("text", ['"yes"', "1", '"true"', "0"])
def test_a_truth_value_is_one(text: str) -> None:
    with pytest.raises(ValidationError):
        EditQueue.model_validate_json(f'{{"queueID": "q", "paused": {text}}}')


@pytest.mark.parametrize(
    ("given_items", "what"),
    [
        ([ITEM] * 201, "200"),
        ([ITEM | {"quantity": 0}], "greater"),
        ([ITEM | {"quantity": 10_001}], "less"),
        ([ITEM | {"quantity": 10_000, "unitPrice": "999999.99"}] * 2, "come to more than"),
        ([ITEM | {"more": "x" * 131_072}], "bytes as JSON"),
        ([ITEM | {"name": "🚗" * 200, "sku": "🚗" * 200}] * 100, "bytes as JSON"),
        ([ITEM | {"name": "\x01" * 200}] * 200, "bytes as JSON"),
        ([ITEM | {"sku": ""}], "at least 1"),
        ([ITEM | {"name": "x" * 201}], "at most 200"),
    ],
)
def test_items_are_bounded(given_items: list[Any], what: str) -> None:
    with pytest.raises(ValidationError, match=what) as caught:
        CreateOrder.model_validate({"items": given_items})
    assert caught.value.errors()[0]["loc"][0] == "items"


def test_the_largest_ascii_order_is_accepted() -> None:
    CreateOrder.model_validate({"items": [ITEM | {"name": "x" * 200, "sku": "y" * 200}] * 200})


@pytest.mark.parametrize("more", [{"x": "y" * 4096}, {"x" * 4096: 1}, {"points": 1.5}, {"name": ""}, {"phone": 5}])
def test_a_customer_is_bounded(more: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        CreateOrder.model_validate({"customer": {"name": "Badr"} | more})
    assert caught.value.errors()[0]["loc"][0] == "customer"
