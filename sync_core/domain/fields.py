"""What the fields of documents and inputs may hold, and what marks them.

Numbers are strict: ``"3"``, ``3.0`` and ``true`` are no whole numbers, and money never goes through binary floating
point. Everything is bounded, so that an event that carries a whole document stays below 256 KiB.
"""

import re
from collections.abc import Callable
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Annotated, Any, NamedTuple, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    GetJsonSchemaHandler,
    PlainSerializer,
    PlainValidator,
    StrictBool,
    StrictInt,
    StringConstraints,
    WithJsonSchema,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, to_json

from sync_core.filters import ENTITY_ID_PATTERN
from sync_core.times import NO_TIME, iso_from_ms, ms_from_iso

__all__ = [
    "EXACT",
    "MAX_AMOUNT",
    "NO_DECIMAL",
    "Amount",
    "Currency",
    "DocumentID",
    "Label",
    "LocalTimestamp",
    "Made",
    "Names",
    "Numbered",
    "Omittable",
    "ShortText",
    "StrictBool",
    "Text",
    "Timestamp",
    "UserID",
    "Whole",
    "at_most_bytes",
    "plain_extras",
    "two_places",
]

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)

EXACT = Context(prec=60, rounding=ROUND_HALF_EVEN)
"""For arithmetic with amounts, whatever context a program has set."""
MAX_AMOUNT = Decimal("9999999999.99")
MAX_DEPTH = 8
MAX_WHOLE = 2**53 - 1
"""Larger ones are not the same number in a browser."""

_TWO_PLACES = re.compile(r"[0-9]{1,10}\.[0-9]{2}")
_NUMBER = re.compile(r"[+-]?[0-9]{1,15}(\.[0-9]{1,15})?")
_CENT = Decimal("0.01")
_LOCAL_TIMESTAMP = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,9})?(Z|[+-]\d{2}:\d{2})", re.ASCII)
NO_DECIMAL = "no_decimal"
"""The error type of what is no amount, for where prices are written in another way."""
_AS_TEXT = 'a decimal number as text, such as "12.50"'

DocumentID = Annotated[str, StringConstraints(pattern=r"^\.*[A-Za-z0-9_-][A-Za-z0-9._-]*$", max_length=64)]
"""An id that a caller may make: 1 to 64 letters, digits, dots, underscores and hyphens. Not dots alone: in a URL
``.`` and ``..`` are places."""
UserID = Annotated[str, StringConstraints(pattern=ENTITY_ID_PATTERN)]
"""The name by which a user logs in, or the subject of its token; ``key:...`` of a machine."""
ShortText = Annotated[str, StringConstraints(max_length=2000)]
Text = Annotated[str, StringConstraints(min_length=1, max_length=2000)]
Label = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Whole = StrictInt
Currency = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]
"""ISO 4217."""


Numbered = BeforeValidator(lambda value: str(value) if type(value) is int else value, json_schema_input_type=str | int)
"""For ids that a caller may give as numbers too, as the seeds' tables count them; here they are text."""


class Names(NamedTuple):
    """Marks an input's field as the id of a document of *kind*, so that it is loaded beforehand."""

    kind: str


class Made:
    """Marks an input's id that ``Command.complete`` makes where the caller gives none."""


class _NoNull:
    """Leaves null out of what a field's JSON schema shows."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        shown = handler(schema)
        options = [option for option in shown.pop("anyOf", ()) if option != {"type": "null"}]
        return options[0] | shown if len(options) == 1 else shown


def _given(value: T) -> T:
    if value is None:
        raise ValueError("cannot be null; leave it out to keep it as it is")
    return value


Omittable = Annotated[
    T | None, AfterValidator(_given), _NoNull(), Field(json_schema_extra=lambda schema: schema.pop("default", None))
]
"""A field of a PATCH that may be absent (None, then), but not null."""


def _in_utc(text: str) -> str:
    try:
        return iso_from_ms(ms_from_iso(text))
    except (ValueError, OverflowError):
        raise ValueError(NO_TIME) from None


def _with_offset(text: str) -> str:
    try:
        if _LOCAL_TIMESTAMP.fullmatch(text):
            datetime.fromisoformat(text)
            return text
    except ValueError:
        pass
    raise ValueError(NO_TIME)


Timestamp = Annotated[str, AfterValidator(_in_utc), Field(max_length=64, json_schema_extra={"format": "date-time"})]
"""A time as callers write it, kept in UTC with milliseconds."""
LocalTimestamp = Annotated[str, AfterValidator(_with_offset)]
"""A time as its till wrote it, whose clock a person may want to see: with its offset."""


def two_places(value: Any) -> Decimal:
    """A decimal with exactly two places. Raises ValueError for floats and for what two places cannot hold."""
    if isinstance(value, str) and _TWO_PLACES.fullmatch(value):
        return Decimal(value)  # as we write them ourselves; at most MAX_AMOUNT by its digits
    if isinstance(value, Decimal):
        number = value
    elif isinstance(value, str) and _NUMBER.fullmatch(value):
        number = Decimal(value)
    else:  # a JSON number may have gone through binary floating point before we see it
        raise PydanticCustomError(NO_DECIMAL, _AS_TEXT)
    if not number.is_finite() or number.copy_abs() > MAX_AMOUNT:
        raise ValueError(f"a number of at most {MAX_AMOUNT}")
    rounded = number.quantize(_CENT, context=EXACT)
    if rounded != number:
        raise ValueError("at most two places after the point")
    return rounded


def _amount(value: Any) -> Decimal:
    number = two_places(value)
    if number < 0:
        raise ValueError("not less than 0")
    return number.copy_abs()  # there is a -0.00


Amount = Annotated[
    Decimal,
    PlainValidator(_amount),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "pattern": r"^[0-9]{1,10}(\.[0-9]{1,2})?$", "examples": ["12.50"]}),
]
"""Money, gallons, meter readings: a decimal of two places, text on the wire."""


def plain_extras(part: M) -> M:
    """*part* as a caller sent it. Fields that no model knows are kept for newer readers, if they hold plain JSON.

    Raises ValueError for floats, numbers beyond 2^53, text that is no Unicode, and what is nested too deeply.
    """
    for name, value in (part.__pydantic_extra__ or {}).items():
        try:
            _check_json(name, MAX_DEPTH)
            _check_json(value, MAX_DEPTH)
        except ValueError as exc:
            raise ValueError(f"{name[:80]!r}: {exc}") from None
    return part


def _check_json(value: Any, depth: int) -> None:
    match value:
        case None | bool():
            return
        case str():
            if not value.isascii():
                _check_unicode(value)
        case int():
            if abs(value) > MAX_WHOLE:
                raise ValueError("a number beyond 2^53 goes as text")
        case float():
            raise ValueError('a number with a point goes as text, such as "1.50"')
        case _ if depth == 0:
            raise ValueError(f"nested more than {MAX_DEPTH} levels deep")
        case list():
            for item in value:
                _check_json(item, depth - 1)
        case dict():
            for key, item in value.items():
                if not isinstance(key, str):
                    raise ValueError("names are text")
                _check_json(key, depth - 1)
                _check_json(item, depth - 1)
        case _:
            raise ValueError(f"a {type(value).__name__} is no JSON")


def _check_unicode(value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("half of a surrogate pair is no text") from None


def at_most_bytes(limit: int) -> Callable[[T], T]:
    """A validator for what takes at most *limit* bytes as JSON."""

    def check(value: T) -> T:
        size = len(to_json(value, exclude_none=True))
        if size > limit:
            raise ValueError(f"takes {size} bytes as JSON; at most {limit} are possible")
        return value

    return check
