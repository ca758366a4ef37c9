"""What a reader asks for: the query of the stream and of the poll, which understand the same things."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import time
from urllib.parse import parse_qs

from starlette.types import Scope

from sync_core.domain.catalog import REGISTRY
from sync_core.filters import ENTITY_KEYS, Filter
from sync_core.problems import FieldError, InvalidRequest
from sync_server.access.caller import OPEN_CALLER, Caller, caller_of
from sync_server.feed.view import Sight, View

__all__ = ["ANONYMOUS", "MAX_CLIENT_ID", "FeedRequest"]

ANONYMOUS = OPEN_CALLER.principal

MAX_CLIENT_ID = 128
_WHOLE = re.compile(r"[0-9]+")
_DECIMAL = re.compile(r"[0-9]+(\.[0-9]+)?")
_ASKS = {event_type.name: event_type.asks for event_type in REGISTRY if event_type.asks is not None}
"""The permission that it takes to ask for a type by name."""
_FEED_PARAMETERS = frozenset({"eventTypes", "lastEventId", "clientID", *ENTITY_KEYS})


@dataclass(frozen=True, slots=True)
class FeedRequest:
    """One reader's wishes; *cursor* as it was sent, None for "from now on". *root_path* is the app's own."""

    view: View
    cursor: str | None
    root_path: str
    parameters: Mapping[str, Sequence[str]]

    @property
    def caller(self) -> Caller:
        return self.view.caller

    @classmethod
    def parse(cls, scope: Scope, *, extra: frozenset[str] = frozenset()) -> "FeedRequest":
        """From the ASGI *scope*; *extra* are further parameters that this route knows.

        Raises InvalidRequest, Forbidden; LookupError if nobody has said who calls.
        """
        parameters = _query(scope["query_string"])
        unknown = sorted(set(parameters) - _FEED_PARAMETERS - extra)
        if unknown:
            raise InvalidRequest(
                "The query has unknown parameters.",
                errors=tuple(FieldError(name[:80], "unknown parameter") for name in unknown[:20]),
            )
        client_id = _last(parameters, "clientID")
        if client_id is not None and (not client_id.isprintable() or len(client_id) > MAX_CLIENT_ID):
            raise InvalidRequest(
                "The clientID cannot be used.",
                errors=(FieldError("clientID", f"1 to {MAX_CLIENT_ID} printable characters"),),
            )
        header = next((v for k, v in scope["headers"] if k == b"last-event-id"), b"").decode("latin-1")
        cursor = header or _last(parameters, "after") or _last(parameters, "lastEventId")
        caller = caller_of(scope)
        wanted = Filter.parse(parameters)
        for event_type in wanted.event_types & _ASKS.keys():
            caller.rights.require(_ASKS[event_type])
        view = View(Sight(wanted, caller.rights), client_id, caller)
        return cls(view, cursor or None, scope.get("root_path", ""), parameters)

    @property
    def left_s(self) -> float:
        """How long the caller's access lasts from now on."""
        return self.caller.left_s(time())

    def number(self, name: str, *, default: float, low: float, high: float) -> float:
        """The parameter *name* between *low* and *high*; a whole number where *high* is an int. Raises InvalidRequest.

        Digits only: float() and int() would also take ``nan``, ``1_0`` and ``+5`` (in a query a blank and 5).
        """
        text = _last(self.parameters, name)
        if text is None:
            return default
        whole = isinstance(high, int)
        value = float(text) if (_WHOLE if whole else _DECIMAL).fullmatch(text) else None
        if value is None or not low <= value <= high:
            kind = "whole number" if whole else "number"
            raise InvalidRequest(
                f"The parameter {name} cannot be used.",
                errors=(FieldError(name, f"a {kind} from {low:g} to {high:g}"),),
            )
        return value


def _query(query_string: bytes) -> dict[str, list[str]]:
    try:
        return parse_qs(
            query_string.decode("ascii"), keep_blank_values=True, strict_parsing=False, errors="strict",
            max_num_fields=500,
        )  # fmt: skip
    except ValueError:
        raise InvalidRequest("The query string is not valid UTF-8, or far too long.") from None


def _last(parameters: Mapping[str, Sequence[str]], name: str) -> str | None:
    values = parameters.get(name)
    return values[-1] if values else None
