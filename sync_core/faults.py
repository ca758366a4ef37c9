"""What is wrong with an input, for people: where, and what to do."""

from collections.abc import Iterable

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from sync_core.problems import FieldError

__all__ = ["MAX_FAULTS", "MAX_PATH", "faults_of", "path_of"]

MAX_FAULTS = 20
MAX_PATH = 200

_MESSAGES = {
    "extra_forbidden": "unknown field",
    "missing": "is missing",
    "dict_type": "has to be a JSON object",
    "model_type": "has to be a JSON object",
    "string_pattern_mismatch": "has characters or a length that are not possible here",
    "string_type": "has to be text",
    "string_too_short": "needs at least {min_length} characters",
    "string_too_long": "has more than {max_length} characters",
    "int_type": "has to be a whole number",
    "int_parsing": "has to be a whole number",
    "int_from_float": "has to be a whole number",
    "float_type": "has to be a number",
    "float_parsing": "has to be a number",
    "finite_number": "has to be a number",
    "bool_type": "has to be true or false",
    "bool_parsing": "has to be true or false",
    "greater_than": "has to be above {gt}",
    "greater_than_equal": "has to be {ge} or more",
    "less_than": "has to be below {lt}",
    "less_than_equal": "has to be {le} or less",
    "literal_error": "has to be {expected}",
    "enum": "has to be {expected}",
    "list_type": "has to be a list",
    "tuple_type": "has to be a list",
    "too_short": "needs at least {min_length}",
    "too_long": "has more than {max_length}",
}
"""For people, in place of pydantic's words, which are those of its types; one of them shows a regular expression."""


def faults_of(error: ValidationError, *, prefix: str = "", messages: dict[str, str] | None = None) -> list[FieldError]:
    """The faults of *error*, each with its path below *prefix*; *messages* by pydantic's error type come first."""
    details = error.errors(include_url=False, include_input=False)
    known = _MESSAGES | (messages or {})
    told = [detail for detail in details if not _follows(detail, details)]
    return [FieldError(path_of(prefix, detail["loc"]), _message(detail, known)) for detail in told[:MAX_FAULTS]]


def _follows(detail: ErrorDetails, details: list[ErrorDetails]) -> bool:
    """Whether a list is too short only since what is in it is wrong: that is a fault of its own."""
    place = detail["loc"]
    return detail["type"] == "too_short" and any(
        len(other["loc"]) > len(place) and other["loc"][: len(place)] == place for other in details
    )


def path_of(prefix: str, location: Iterable[int | str]) -> str:
    """``path_of("events", (3, "data", "newStage")) == "events[3].data.newStage"``; a single event has no index.

    Names come from the request, so they are cut.
    """
    path = prefix
    for part in location:
        if isinstance(part, str):
            path = f"{path}.{part}" if path else part
        elif path:
            path = f"{path}[{part}]"
    return path[:MAX_PATH]


def _message(detail: ErrorDetails, known: dict[str, str]) -> str:
    if detail["type"] not in known:
        return detail["msg"].removeprefix("Value error, ")
    context = detail.get("ctx", {})
    if context.get("min_length") == 1:
        return "may not be empty"
    return known[detail["type"]].format_map({name: _plain(value) for name, value in context.items()})


def _plain(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value  # 90, not 90.0
