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
}
"""For people, in place of pydantic's: one of those shows a regular expression."""


def faults_of(error: ValidationError, *, prefix: str = "", messages: dict[str, str] | None = None) -> list[FieldError]:
    """The faults of *error*, each with its path below *prefix*; *messages* by pydantic's error type come first."""
    details = error.errors(include_url=False, include_context=False, include_input=False)
    known = _MESSAGES | (messages or {})
    return [FieldError(path_of(prefix, detail["loc"]), _message(detail, known)) for detail in details[:MAX_FAULTS]]


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
    return known.get(detail["type"], detail["msg"].removeprefix("Value error, "))
