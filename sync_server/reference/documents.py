"""What reading the shop's state looks like over HTTP. Source: protocol.md 2.3, domain.md."""

from collections.abc import Iterator

from sync_core.domain.document import Document
from sync_core.paths import PREFIX, SNAPSHOT_PATH
from sync_server.api import documents
from sync_server.reference.commands import path_parameters
from sync_server.reference.feed import entity_filters
from sync_server.reference.operation import Operation, Parameter, Reply, Schema
from sync_server.reference.schemas import CURSOR, TIME, Schemas

__all__ = ["document_operations"]

_LIMIT = Parameter(
    "limit", "query", "Most documents of a page; it may hold fewer and still not be the last.",
    {"type": "integer", "minimum": 1, "maximum": documents.MAX_LIMIT, "default": documents.DEFAULT_LIMIT},
)  # fmt: skip
_TOKEN = "Of the page before; the other parameters stay as they were."  # noqa: S105 - a description
_PAGE_TOKEN = Parameter("pageToken", "query", _TOKEN, {"type": "string"})
_PROBLEMS = (400, 401, 403, 429, 503)


def document_operations(schemas: Schemas) -> Iterator[Operation]:
    """Snapshot, and list and single document of every kind."""
    kinds = list(schemas.domain.kinds.values())
    for kind in kinds:
        yield _list(kind, schemas)
        yield _single(kind, schemas)
    names: Schema = {"type": "array", "items": {"enum": [kind.plural for kind in kinds]}, "uniqueItems": True}
    yield Operation(
        "GET", SNAPSHOT_PATH, "feed_snapshot", "Feed", "The shop as it is: what a replica begins with.",
        description="Holds what is open, and what has changed in the last 24 hours. Then read the feed from `cursor`; "
        "the cursor is that of the first page, later pages may hold newer versions: the newest one wins.",
        parameters=(
            Parameter("kinds", "query", "Only these kinds.", names, True),
            Parameter("since", "query", "Also what is finished, if it changed since then (24 hours).", TIME),
            *entity_filters(),
            _LIMIT,
            _PAGE_TOKEN,
        ),
        replies=(Reply(200, "A page; the last one is without `pageToken`.", _page(schemas, kinds, "pageToken")),),
        problems=_PROBLEMS,
    )  # fmt: skip


def _list(kind: type[Document], schemas: Schemas) -> Operation:
    state = documents.state_filter(kind)
    values: Schema = {"type": "string"} if state.values is None else {"enum": list(state.values)}
    return Operation(
        "GET", f"{PREFIX}/{kind.path()}", f"{kind.plural}_list", kind.heading(), f"{kind.heading()}, by id.",
        parameters=(
            Parameter(state.parameter, "query", "Only in any of these states.", {"type": "array", "items": values},
                      True),
            Parameter("updatedSince", "query", "Only what has changed at or after this time.", TIME),
            *entity_filters(),
            _LIMIT,
            _PAGE_TOKEN,
        ),
        replies=(
            Reply(200, "A page; the last one is without `nextPageToken`.", _page(schemas, [kind], "nextPageToken")),
        ),
        problems=_PROBLEMS,
        extensions={"x-permission": kind.view_permission},
    )  # fmt: skip


def _single(kind: type[Document], schemas: Schemas) -> Operation:
    found: Schema = {
        "type": "object",
        "properties": {kind.kind: schemas.of(kind), "cursor": CURSOR},
        "required": [kind.kind, "cursor"],
    }
    match = Parameter("If-None-Match", "header", "The ETag of the copy that is there.", {"type": "string"})
    return Operation(
        "GET", f"{PREFIX}/{kind.path()}/{{{kind.id_key}}}", f"{kind.plural}_get", kind.heading(), f"One {kind.noun()}.",
        parameters=(*path_parameters((kind.id_key,)), match),
        replies=(Reply(200, "It is there.", found, headers=("ETag",)), Reply(304, "Unchanged.", headers=("ETag",))),
        problems=(401, 403, 404, 429, 503),
        extensions={"x-permission": kind.view_permission},
    )  # fmt: skip


def _page(schemas: Schemas, kinds: list[type[Document]], token: str) -> Schema:
    lists = {kind.plural: {"type": "array", "items": schemas.of(kind)} for kind in kinds}
    return {
        "type": "object",
        "properties": {**lists, "cursor": CURSOR, token: {"type": "string", "description": "Where it goes on."}},
        "required": ["cursor", *(lists if len(kinds) == 1 else ())],
    }
