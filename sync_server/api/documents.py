"""Reading the shop's state: lists, single documents, and the snapshot that replicas begin with.

A list or snapshot is read a page at a time and never held whole. A page is one read transaction; the snapshot's
cursor is taken before its first page and lives in the page token, so later pages may hold newer versions and the
feed from the cursor brings what is missing. Source: protocol.md 2.3, domain.md.
"""

import enum
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sync_core.cursor import Cursor
from sync_core.domain.command import Domain
from sync_core.domain.document import Document, Ref
from sync_core.filters import tag
from sync_core.labels import ADMINS, PERSON
from sync_core.paths import PREFIX, SNAPSHOT_PATH
from sync_core.problems import FieldError, Forbidden, InvalidRequest, NotFound, Unavailable
from sync_server.access.caller import Caller, caller_of
from sync_server.api.paging import PageToken, Query
from sync_server.log.base import DocumentPage, EventLog, LogError, Selection
from sync_server.log.records import StoredDocument

__all__ = ["DEFAULT_LIMIT", "MAX_LIMIT", "Documents", "StateFilter", "state_filter"]

MAX_LIMIT = 1000
DEFAULT_LIMIT = 500
FINISHED_FOR_MS = 24 * 3600 * 1000
"""How long what is finished stays in a snapshot; replicas forget it alike."""
RETRY_AFTER_S = 2
_ETAG = re.compile(r'"(\d{1,15})"')

Endpoint = Callable[[Request], Awaitable[Response]]


class StateFilter(NamedTuple):
    """The *parameter* by which lists of a kind are filtered, and its possible *values* (None: any text)."""

    parameter: str
    values: tuple[str, ...] | None


def state_filter(kind: type[Document]) -> StateFilter:
    """``stage`` for orders, ``status`` for bays: the field that is an enumeration, or ``state`` where none is."""
    for name, field in kind.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, enum.StrEnum):
            return StateFilter(name, tuple(member.value for member in field.annotation))
    return StateFilter("state", None)


class Documents:
    """The endpoints."""

    def __init__(self, domain: Domain, event_log: EventLog, *, wall_ms: Callable[[], int]) -> None:
        self._domain = domain
        self._log = event_log
        self._wall_ms = wall_ms
        self._ensured: set[str] = set()

    def routes(self) -> list[Route]:
        """Snapshot, and list and single document of every kind."""
        routes = [Route(SNAPSHOT_PATH, self.snapshot)]
        for kind in self._domain.kinds.values():
            routes.append(Route(f"{PREFIX}/{kind.path()}", self._lister(kind)))
            routes.append(Route(f"{PREFIX}/{kind.path()}/{{{kind.id_key}}}", self._getter(kind)))
        return routes

    async def snapshot(self, http: Request) -> Response:
        """One page of everything that a replica holds. Raises InvalidRequest, Forbidden, Unavailable."""
        caller, query = caller_of(http.scope), Query.parse(http.scope, {"kinds", "since", "limit", "pageToken"})
        kinds = self._kinds(caller, query)
        token = query.token(kinds)
        since_ms = token.since_ms if token is not None else query.time("since")
        if since_ms is None:
            since_ms = self._wall_ms() - FINISHED_FOR_MS
        selection = Selection(tuple(kind.kind for kind in kinds), query.filter.tags, finished_since_ms=since_ms)
        page = await self._page(caller, selection, query, token)
        return _page_response(page, kinds, token, token_name="pageToken", since_ms=since_ms)  # noqa: S106 - its name

    def _kinds(self, caller: Caller, query: Query) -> list[type[Document]]:
        """The kinds that the caller may see, of those that are named or else of all. A replica of several goes on with
        the rest when a role loses one. Raises InvalidRequest; Forbidden if nothing is left of what was named."""
        named = query.names("kinds")
        if not named:
            return [kind for kind in self._domain.kinds.values() if caller.rights.allows(kind.view_permission)]
        kinds: list[type[Document]] = []
        for name in dict.fromkeys(named):
            kind = self._domain.kind_of(name)
            if kind is None:
                raise InvalidRequest("There is no such kind.", errors=(FieldError("kinds", f"unknown: {name[:80]}"),))
            kinds.append(kind)
        seen = [kind for kind in kinds if caller.rights.allows(kind.view_permission)]
        if not seen:
            caller.rights.require(kinds[0].view_permission)
        return seen

    def _lister(self, kind: type[Document]) -> Endpoint:
        state = state_filter(kind)

        async def list_documents(http: Request) -> Response:
            caller = caller_of(http.scope)
            caller.rights.require(kind.view_permission)
            query = Query.parse(http.scope, {state.parameter, "updatedSince", "limit", "pageToken"})
            token = query.token([kind])
            selection = Selection(
                kinds=(kind.kind,),
                tags=_own(caller, kind, query.filter.tags),
                states=frozenset(query.names(state.parameter, among=state.values)),
                updated_since_ms=query.time("updatedSince"),
            )
            page = await self._page(caller, selection, query, token)
            return _page_response(page, [kind], token, token_name="nextPageToken")  # noqa: S106 - its name

        return list_documents

    def _getter(self, kind: type[Document]) -> Endpoint:
        async def get_document(http: Request) -> Response:
            caller = caller_of(http.scope)
            caller.rights.require(kind.view_permission)
            ref = Ref(kind.kind, http.path_params[kind.id_key])
            page = await self._reading(caller, lambda: self._log.load(caller.tenant, [ref]))
            found = next((d for d in page.documents if not d.deleted), None)
            if found is not None and not _sees(caller, kind, found):
                if kind.owner_key:
                    raise Forbidden(f"The {kind.noun()} {ref.id[:80]} is not yours.")
                found = None
            if found is None:
                raise NotFound(f"There is no {kind.noun()} {ref.id[:80]}.")
            headers = {"Cache-Control": "private, no-cache", "ETag": f'"{found.version}"'}
            if _matches(http.headers.get("if-none-match", ""), found.version):
                return Response(status_code=304, headers=headers)
            cursor = Cursor(page.bounds.epoch, page.bounds.head)
            body = f'{{"{kind.kind}":{found.body},"cursor":"{cursor}"}}'
            return Response(body, media_type="application/json", headers=headers)

        return get_document

    async def _page(self, caller: Caller, selection: Selection, query: Query, token: PageToken | None) -> DocumentPage:
        after = token.after if token is not None else None
        limit = query.limit(default=DEFAULT_LIMIT, high=MAX_LIMIT)
        page = await self._reading(
            caller, lambda: self._log.documents(caller.tenant, selection, after=after, limit=limit)
        )  # fmt: skip
        kinds = self._domain.kinds
        visible = [document for document in page.documents if _sees(caller, kinds[document.kind], document)]
        return DocumentPage(page.bounds, visible, page.next)

    async def pages(self, caller: Caller, selection: Selection) -> AsyncIterator[DocumentPage]:
        """All documents of *selection*, whoever may see them, page by page. Raises Unavailable."""
        after: Ref | None = None
        while True:
            read = partial(self._log.documents, caller.tenant, selection, after=after, limit=DEFAULT_LIMIT)
            page = await self._reading(caller, read)
            yield page
            after = page.next
            if after is None:
                return

    async def _reading(self, caller: Caller, read: Callable[[], Awaitable[DocumentPage]]) -> DocumentPage:
        """What *read* gives, of a tenant that is there from now on. Raises Unavailable."""
        try:
            if caller.tenant not in self._ensured:
                await self._log.ensure(caller.tenant)
                self._ensured.add(caller.tenant)
            return await read()
        except LogError as exc:
            raise Unavailable("The event log cannot be read now.", retry_after_s=RETRY_AFTER_S) from exc


def _own(caller: Caller, kind: type[Document], tags: frozenset[str]) -> frozenset[str]:
    """*tags*, and for kinds that only their owners see those of the caller. Raises Forbidden for those of others."""
    rights = caller.rights
    if not kind.owner_key or rights.permissions is None or ADMINS in rights.labels:
        return tags
    own = frozenset(tag(kind.owner_key, label.removeprefix(PERSON)) for label in rights.personal)
    if any(one.startswith(f"{kind.owner_key}=") and one not in own for one in tags):
        raise Forbidden(f"Only admins see the {kind.heading().lower()} of others.")
    return tags or own


def _sees(caller: Caller, kind: type[Document], document: StoredDocument) -> bool:
    return caller.rights.sees_document(kind, document.grants, document.audience)


def _matches(if_none_match: str, version: int) -> bool:
    return if_none_match.strip() == "*" or str(version) in _ETAG.findall(if_none_match)


def _page_response(
    page: DocumentPage,
    kinds: Sequence[type[Document]],
    token: PageToken | None,
    *,
    token_name: str,
    since_ms: int | None = None,
) -> Response:
    cursor = token.cursor if token is not None else str(Cursor(page.bounds.epoch, page.bounds.head))
    parts = [f'"{kind.plural}":[{_bodies(page.documents, kind)}]' for kind in kinds]
    parts.append(f'"cursor":"{cursor}"')
    if page.next is not None:
        parts.append(f'"{token_name}":"{PageToken(cursor, since_ms, page.next).text()}"')
    body = "{" + ",".join(parts) + "}"
    return Response(body, media_type="application/json", headers={"Cache-Control": "private, no-store"})


def _bodies(documents: Sequence[StoredDocument], kind: type[Document]) -> str:
    return ",".join([document.body for document in documents if document.kind == kind.kind])
