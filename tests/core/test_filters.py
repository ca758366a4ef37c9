"""Filters: what a query asks for, and which events that is."""

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from sync_core.events import EntityID, TypeName
from sync_core.filters import ENTITY_KEYS, MAX_FILTER_VALUES, Filter, tag
from sync_core.problems import InvalidRequest

ids = st.sampled_from(["a", "b", "c=d", "ORDER-001", "كولا", "x y", "=", "e\u0301"])
types = st.sampled_from(["stage_change", "payment_update", "x.y-z", "A"])
queries = st.fixed_dictionaries({}, optional={key: st.lists(ids, min_size=1, max_size=3) for key in ENTITY_KEYS[:4]})
events = st.tuples(types, st.dictionaries(st.sampled_from(ENTITY_KEYS[:4]), ids, max_size=3))


def wants(types_asked: list[str], query: dict[str, list[str]], event_type: str, entities: dict[str, str]) -> bool:
    """What protocol.md 2 says, in its words."""
    if types_asked and event_type not in types_asked:
        return False
    return not query or any(entities.get(key) in values for key, values in query.items())


@given(st.lists(types, max_size=2), queries, events)
def test_a_filter_takes_the_types_and_any_of_the_entities(
    types_asked: list[str], query: dict[str, list[str]], event: tuple[str, dict[str, str]]
) -> None:
    event_type, entities = event
    parameters = {key: [",".join(values)] for key, values in query.items()}
    if types_asked:
        parameters["eventTypes"] = [",".join(types_asked)]
    tags = tuple(tag(key, value) for key, value in entities.items())
    assert Filter.parse(parameters).matches(event_type, tags) == wants(types_asked, query, event_type, entities)


@given(st.lists(types, max_size=3), queries)
def test_the_filters_document_is_the_same_query_again(types_asked: list[str], query: dict[str, list[str]]) -> None:
    parameters = {key: [",".join(values)] for key, values in query.items()}
    if types_asked:
        parameters["eventTypes"] = [",".join(types_asked)]
    asked = Filter.parse(parameters)
    assert Filter.parse({key: [",".join(values)] for key, values in asked.document().items()}) == asked


def test_a_repeated_parameter_and_a_comma_list_are_the_same() -> None:
    assert Filter.parse({"orderID": ["a", "b"]}) == Filter.parse({"orderID": ["b,a,a"]})


def test_the_order_of_values_makes_no_other_filter() -> None:
    one = Filter.parse({"eventTypes": ["a,b"], "orderID": ["1,2"]})
    assert hash(one) == hash(Filter.parse({"orderID": ["2,1"], "eventTypes": ["b,a"]}))


def test_other_parameters_are_not_looked_at() -> None:
    assert Filter.parse({"lastEventId": ["\0"], "limit": ["5"]}) == Filter()


@pytest.mark.parametrize("value", ["", "a,,b", "a,", " a", "a\nb", "a\0", "a\u2028b", "x" * 129, "\x85"])
def test_a_value_that_no_event_can_have_is_refused_by_name(value: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        Filter.parse({"orderID": [value]})
    assert {fault.path for fault in caught.value.errors} == {"orderID"}


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(InvalidRequest) as caught:
        Filter.parse({"eventTypes": ["1x,a b"], "orderID": [""], "bayID": ["\t"]})
    assert [fault.path for fault in caught.value.errors] == ["eventTypes", "eventTypes", "orderID", "bayID"]


def test_a_filter_has_a_bounded_number_of_values() -> None:
    values = [f"o{n}" for n in range(MAX_FILTER_VALUES)]
    assert len(Filter.parse({"orderID": [",".join(values)]}).tags) == MAX_FILTER_VALUES
    with pytest.raises(InvalidRequest, match="cannot be understood"):
        Filter.parse({"orderID": [",".join(values)], "eventTypes": ["one_more"]})


# A comma parts the values of a filter; what stands between two of them is what both have to agree on.
no_comma = st.characters(exclude_characters=",")


@given(st.text(no_comma, max_size=5) | st.from_regex(re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,66}\n?"), fullmatch=True))
def test_publishers_and_readers_agree_on_what_a_type_name_is(name: str) -> None:
    """The patterns are run by two engines: pydantic's (Rust) for events, Python's for filters."""
    assert accepted(TypeName, name) == accepted_by_filter("eventTypes", name)


@given(st.text(no_comma, max_size=130))
def test_publishers_and_readers_agree_on_what_an_id_is(value: str) -> None:
    assert accepted(EntityID, value) == accepted_by_filter("orderID", value)


@pytest.mark.parametrize("code", [*range(0x100), 0x2028, 0x2029, 0xFEFF, 0x1F600])
def test_no_id_holds_a_control_character_or_a_line_break(code: int) -> None:
    character = chr(code)
    possible = unicodedata.category(character) not in {"Cc", "Zl", "Zp"} and character != ","
    assert accepted(EntityID, f"a{character}b") == possible
    assert accepted_by_filter("orderID", f"a{character}b") == (possible or character == ",")


def accepted(kind: object, value: str) -> bool:
    try:
        TypeAdapter(kind).validate_python(value)
    except ValidationError:
        return False
    return True


def accepted_by_filter(name: str, value: str) -> bool:
    try:
        found = Filter.parse({name: [value]})
    except InvalidRequest:
        return False
    return len(found.event_types) + len(found.tags) == 1 or "," in value
