"""Faults of an input in words for people: never pydantic's, and none that only follows from another."""

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, ValidationError

from sync_core.domain.catalog import DOMAIN
from sync_core.faults import faults_of


class Item(BaseModel):
    count: StrictInt = 1


class Input(BaseModel):
    model_config = ConfigDict(extra="forbid")
    text: Annotated[str, Field(min_length=1, max_length=3)] = "x"
    code: Annotated[str, Field(min_length=2)] = "xx"
    flag: StrictBool = False
    share: Annotated[float, Field(gt=0, lt=1)] = 0.5
    degrees: Annotated[float, Field(ge=-90, le=90)] = 0
    mode: Literal["single", "multi"] = "single"
    items: Annotated[tuple[Item, ...], Field(min_length=1, max_length=2)] = (Item(),)


def told(given: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(ValidationError) as caught:
        Input.model_validate(given)
    return {fault.path: fault.message for fault in faults_of(caught.value)}


@pytest.mark.parametrize(
    ("given", "path", "message"),
    [
        ({"text": ""}, "text", "may not be empty"),
        ({"text": "long"}, "text", "has more than 3 characters"),
        ({"text": 7}, "text", "has to be text"),
        ({"code": "x"}, "code", "needs at least 2 characters"),
        ({"flag": "yes"}, "flag", "has to be true or false"),
        ({"share": 0}, "share", "has to be above 0"),
        ({"share": 1}, "share", "has to be below 1"),
        ({"share": "half"}, "share", "has to be a number"),
        ({"degrees": 135.5}, "degrees", "has to be 90 or less"),
        ({"degrees": -91}, "degrees", "has to be -90 or more"),
        ({"mode": "both"}, "mode", "has to be 'single' or 'multi'"),
        ({"items": {}}, "items", "has to be a list"),
        ({"items": []}, "items", "may not be empty"),
        ({"items": [{}, {}, {}]}, "items", "has more than 2"),
        ({"items": [7]}, "items[0]", "has to be a JSON object"),
        ({"items": [{"count": "x"}]}, "items[0].count", "has to be a whole number"),
        ({"colour": "red"}, "colour", "unknown field"),
    ],
)
def test_a_fault_is_told_in_words_for_people(given: dict[str, Any], path: str, message: str) -> None:
    assert told(given) == {path: message}


def test_no_command_answers_nonsense_in_pydantic_s_words() -> None:
    for nonsense in (None, True, "", 7.5, [], {}, "x" * 5000, [None], -(10**12)):
        for command in DOMAIN.commands:
            fields = dict.fromkeys(command.input.model_fields, nonsense)
            try:
                command.input.model_validate(fields)
            except ValidationError as exc:
                for fault in faults_of(exc):
                    assert not fault.message.startswith(("Input ", "String ", "Tuple ", "List ", "Value ")), fault
