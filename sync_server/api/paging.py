"""The query of a list: its parameters, and the token by which the following page is asked for."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qs

from pydantic_core import from_json, to_json
from starlette.types import Scope

from sync_core.cursor import Cursor
from sync_core.domain.document import Document, Ref
from sync_core.filters import ENTITY_KEYS, Filter
from sync_core.problems import FieldError, InvalidRequest
from sync_core.times import ms_from_iso

__all__ = ["PageToken", "Query"]

MAX_MS = 2**53


@dataclass(frozen=True, slots=True)
class PageToken:
    """Where a following page begins: behind *after*, with the cursor and the time that the first page had."""

    cursor: str
    since_ms: int | None
    after: Ref

    def text(self) -> str:
        return urlsafe_b64encode(to_json([self.cursor, self.since_ms, *self.after])).decode().rstrip("=")

    @classmethod
    def parse(cls, text: str) -> "PageToken":
        """Raises InvalidRequest."""
        try:
            cursor, since_ms, kind, document_id = from_json(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
            if not (isinstance(kind, str) and isinstance(document_id, str)):
                raise ValueError("no reference")
            if not (since_ms is None or (type(since_ms) is int and abs(since_ms) < MAX_MS)):
                raise ValueError("no time")
            return cls(str(Cursor.parse(cursor)), since_ms, Ref(kind, document_id))
        except (ValueError, TypeError):  # whatever a stranger put in there
            raise _bad("pageToken", "unknown; begin again without one") from None


@dataclass(frozen=True, slots=True)
class Query:
    """The parameters of a list; unknown ones are refused."""

    parameters: Mapping[str, Sequence[str]]
    filter: Filter

    @classmethod
    def parse(cls, scope: Scope, known: Collection[str]) -> "Query":
        """From the ASGI *scope*; *known* are the parameters beside the entity keys. Raises InvalidRequest."""
        try:
            parameters = parse_qs(
                scope["query_string"].decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=500
            )  # fmt: skip
        except ValueError:
            raise InvalidRequest("The query string is not valid UTF-8, or far too long.") from None
        unknown = sorted(set(parameters) - set(known) - set(ENTITY_KEYS))
        if unknown:
            faults = tuple(FieldError(name[:80], "unknown parameter") for name in unknown[:20])
            raise InvalidRequest("The query has unknown parameters.", errors=faults)
        return cls(parameters, Filter.parse(parameters))

    def one(self, name: str) -> str | None:
        """The last value of *name*."""
        values = self.parameters.get(name)
        return values[-1] if values else None

    def names(self, name: str, *, among: Collection[str] | None = None) -> list[str]:
        """The values of the comma list *name*, each *among* those. Raises InvalidRequest."""
        values = [value for value in ",".join(self.parameters.get(name, ())).split(",") if value]
        unknown = [] if among is None else [value for value in values if value not in among]
        if among is not None and unknown:
            raise _bad(name, f"unknown: {unknown[0][:80]!r}; possible are {', '.join(among)}")
        return values

    def limit(self, *, default: int, high: int) -> int:
        """The number of documents asked for, at most *high*. Raises InvalidRequest."""
        text = self.one("limit")
        if text is None:
            return default
        if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= high):
            raise _bad("limit", f"a whole number from 1 to {high}")
        return int(text)

    def time(self, name: str) -> int | None:
        """The time *name* in Unix milliseconds. Raises InvalidRequest."""
        text = self.one(name)
        if text is None:
            return None
        try:
            return ms_from_iso(text)
        except ValueError:
            raise _bad(
                name, "a time is ISO 8601 with an offset, such as 2026-11-20T10:30:00Z (a + goes as %2B)"
            ) from None

    def token(self, kinds: Collection[type[Document]]) -> PageToken | None:
        """The page token, which has to be one of a list of *kinds*. Raises InvalidRequest."""
        text = self.one("pageToken")
        if text is None:
            return None
        token = PageToken.parse(text)
        if token.after.kind not in {kind.kind for kind in kinds}:
            raise _bad("pageToken", "belongs to another list")
        return token


def _bad(name: str, message: str) -> InvalidRequest:
    return InvalidRequest(f"The parameter {name} cannot be used.", errors=(FieldError(name, message),))
