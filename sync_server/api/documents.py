"""Reading the shop's state: lists, single documents, and the snapshot that replicas begin with.

A list or snapshot is read a page at a time and never held whole. A page is one read transaction; the snapshot's
cursor is taken before its first page and lives in the page token, so later pages may hold newer versions and the
feed from the cursor brings what is missing. Source: protocol.md 2.3, domain.md.
"""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import parse_qs

from pydantic_core import from_json, to_json
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sync_core.cursor import Cursor
from sync_core.domain.command import Domain
from sync_core.domain.document import Document, Ref
from sync_core.filters import ENTITY_KEYS, Filter
from sync_core.problems import FieldError, InvalidRequest, NotFound, Unavailable
from sync_core.times import ms_from_datetime
from sync_server.access.caller import Caller, caller_of
from sync_server.log.base import DocumentPage, EventLog, LogError, Selection
from sync_server.log.records import StoredDocument

__all__ = ["SNAPSHOT_PATH", "Documents"]

PREFIX = "/api/v1"
SNAPSHOT_PATH = f"{PREFIX}/sync/snapshot"
MAX_LIMIT = 1000
DEFAULT_LIMIT = 200
FINISHED_FOR_MS = 24 * 3600 * 1000
"""How long what is finished stays in a snapshot; replicas forget it alike."""
RETRY_AFTER_S = 2
_ETAG = re.compile(r'(?:W/)?"(\d{1,15})"')


@dataclass(frozen=True, slots=True)
class _Token:
    """Where a following page begins: behind *after*, with the cursor and the time that the first page had."""

    cursor: str
    since_ms: int | None
    after: Ref

    def text(self) -> str:
        return urlsafe_b64encode(to_json([self.cursor, self.since_ms, *self.after])).decode().rstrip("=")

    @classmethod
    def parse(cls, text: str) -> "_Token":
        try:
            cursor, since_ms, kind, document_id = from_json(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
            if not (isinstance(kind, str) and isinstance(document_id, str)):
                raise ValueError("no reference")
            if not (since_ms is None or isinstance(since_ms, int)):
                raise ValueError("no time")
            return cls(str(Cursor.parse(cursor)), since_ms, Ref(kind, document_id))
        except Exception:  # noqa: BLE001 - whatever a stranger put in there
            raise InvalidRequest(
                "The pageToken cannot be used; begin again without one.", errors=(FieldError("pageToken", "unknown"),)
            ) from None


class Documents:
    """The endpoints."""

    def __init__(self, domain: Domain, event_log: EventLog, *, wall_ms: Callable[[], int]) -> None:
        self._domain = domain
        self._log = event_log
        self._wall_ms = wall_ms

    def routes(self) -> list[Route]:
        """Snapshot, and list and single document of every kind."""
        routes = [Route(SNAPSHOT_PATH, self.snapshot)]
        for kind in self._domain.kinds.values():
            routes.append(Route(f"{PREFIX}/{kind.plural}", self._lister(kind)))
            routes.append(Route(f"{PREFIX}/{kind.plural}/{{{kind.id_key}}}", self._getter(kind)))
        return routes

    async def snapshot(self, http: Request) -> Response:
        caller, query = caller_of(http.scope), _Query.parse(http, {"kinds", "since", "limit", "pageToken"})
        kinds = self._kinds(caller, query)
        token = query.token()
        if token is not None and token.after.kind not in {kind.kind for kind in kinds}:
            raise InvalidRequest("The pageToken belongs to another snapshot.", errors=(FieldError("pageToken", "other"),))
        since_ms = token.since_ms if token is not None else query.time("since")
        if since_ms is None:
            since_ms = self._wall_ms() - FINISHED_FOR_MS
        selection = Selection(
            kinds=tuple(kind.kind for kind in kinds), tags=query.filter.tags, finished_since_ms=since_ms
        )
        page = await self._page(caller, selection, query, token)
        cursor = token.cursor if token is not None else str(Cursor(page.bounds.epoch, page.bounds.head))
        parts = [f'"{kind.plural}":[{_bodies(page.documents, kind)}]' for kind in kinds]
        return _page_response(parts, cursor, page, "pageToken", since_ms)

    def _kinds(self, caller: Caller, query: "_Query") -> list[type[Document]]:
        """The kinds asked for that the caller may see; all that it may see if none was named."""
        named = query.names("kinds")
        if not named:
            return [kind for kind in self._domain.kinds.values() if caller.rights.allows(kind.view_permission)]
        kinds: list[type[Document]] = []
        for name in dict.fromkeys(named):
            kind = self._domain.kind_of(name)
            if kind is None:
                raise InvalidRequest("There is no such kind.", errors=(FieldError("kinds", f"unknown: {name[:80]}"),))
            caller.rights.require(kind.view_permission)
            kinds.append(kind)
        return kinds

    def _lister(self, kind: type[Document]) -> Callable[[Request], object]:
        async def list_documents(http: Request) -> Response:
            caller = caller_of(http.scope)
            caller.rights.require(kind.view_permission)
            query = _Query.parse(http, {"stage", "status", "state", "updatedSince", "limit", "pageToken"})
            states = {*query.names("stage"), *query.names("status"), *query.names("state")}
            selection = Selection(
                kinds=(kind.kind,),
                tags=query.filter.tags,
                states=frozenset(states),
                updated_since_ms=query.time("updatedSince"),
            )
            token = query.token()
            if token is not None and token.after.kind != kind.kind:
                raise InvalidRequest("The pageToken belongs to another list.", errors=(FieldError("pageToken", "other"),))
            page = await self._page(caller, selection, query, token)
            cursor = token.cursor if token is not None else str(Cursor(page.bounds.epoch, page.bounds.head))
            return _page_response(
                [f'"{kind.plural}":[{_bodies(page.documents, kind)}]'], cursor, page, "nextPageToken", None
            )

        return list_documents

    def _getter(self, kind: type[Document]) -> Callable[[Request], object]:
        async def get_document(http: Request) -> Response:
            caller = caller_of(http.scope)
            caller.rights.require(kind.view_permission)
            ref = Ref(kind.kind, http.path_params[kind.id_key])
            try:
                page = await self._log.load(caller.tenant, [ref])
            except LogError as exc:
                raise Unavailable("The event log cannot be read now.", retry_after_s=RETRY_AFTER_S) from exc
            found = next((d for d in page.documents if not d.deleted and _sees(caller, kind, d)), None)
            if found is None:
                raise NotFound(f"There is no {kind.kind} {ref.id[:80]}.")
            headers = {"Cache-Control": "no-store", "ETag": f'"{found.version}"'}
            match = _ETAG.findall(http.headers.get("if-none-match", ""))
            if str(found.version) in match:
                return Response(status_code=304, headers=headers)
            cursor = Cursor(page.bounds.epoch, page.bounds.head)
            body = f'{{"{kind.kind}":{found.body},"cursor":"{cursor}"}}'
            return Response(body, media_type="application/json", headers=headers)

        return get_document

    async def _page(
        self, caller: Caller, selection: Selection, query: "_Query", token: _Token | None
    ) -> DocumentPage:
        try:
            await self._log.ensure(caller.tenant)
            page = await self._log.documents(
                caller.tenant, selection, after=token.after if token else None, limit=query.limit()
            )
        except LogError as exc:
            raise Unavailable("The event log cannot be read now.", retry_after_s=RETRY_AFTER_S) from exc
        kinds = self._domain.kinds
        visible = [document for document in page.documents if _sees(caller, kinds[document.kind], document)]
        return DocumentPage(page.bounds, visible, page.next)


def _sees(caller: Caller, kind: type[Document], document: StoredDocument) -> bool:
    return caller.rights.sees_document(kind, document.grants, document.audience)


def _bodies(documents: Sequence[StoredDocument], kind: type[Document]) -> str:
    return ",".join([document.body for document in documents if document.kind == kind.kind])


def _page_response(
    parts: list[str], cursor: str, page: DocumentPage, token_name: str, since_ms: int | None
) -> Response:
    parts = [*parts, f'"cursor":"{cursor}"']
    if page.next is not None:
        parts.append(f'"{token_name}":"{_Token(cursor, since_ms, page.next).text()}"')
    body = "{" + ",".join(parts) + "}"
    return Response(body, media_type="application/json", headers={"Cache-Control": "private, no-store"})


@dataclass(frozen=True, slots=True)
class _Query:
    """The parameters of a list; unknown ones are refused."""

    parameters: Mapping[str, Sequence[str]]
    filter: Filter

    @classmethod
    def parse(cls, http: Request, known: set[str]) -> "_Query":
        try:
            parameters = parse_qs(http.scope["query_string"].decode("ascii"), keep_blank_values=True, max_num_fields=500)
        except ValueError:
            raise InvalidRequest("The query string is not valid, or far too long.") from None
        unknown = sorted(set(parameters) - known - set(ENTITY_KEYS))
        if unknown:
            faults = tuple(FieldError(name[:80], "unknown parameter") for name in unknown[:20])
            raise InvalidRequest("The query has unknown parameters.", errors=faults)
        return cls(parameters, Filter.parse(parameters))

    def one(self, name: str) -> str | None:
        values = self.parameters.get(name)
        return values[-1] if values else None

    def names(self, name: str) -> list[str]:
        return [value for value in ",".join(self.parameters.get(name, ())).split(",") if value]

    def limit(self) -> int:
        text = self.one("limit")
        if text is None:
            return DEFAULT_LIMIT
        if not (text.isascii() and text.isdigit() and len(text) < 6 and 1 <= int(text) <= MAX_LIMIT):
            fault = FieldError("limit", f"a whole number from 1 to {MAX_LIMIT}")
            raise InvalidRequest("The parameter limit cannot be used.", errors=(fault,))
        return int(text)

    def time(self, name: str) -> int | None:
        text = self.one(name)
        if text is None:
            return None
        try:
            moment = datetime.fromisoformat(text)
            if moment.tzinfo is None:
                raise ValueError("no offset")
            return ms_from_datetime(moment)
        except (ValueError, OverflowError):
            fault = FieldError(name, "a time is ISO 8601 with an offset, such as 2026-11-20T10:30:00Z")
            raise InvalidRequest(f"The parameter {name} cannot be used.", errors=(fault,)) from None

    def token(self) -> _Token | None:
        text = self.one("pageToken")
        return None if text is None else _Token.parse(text)
