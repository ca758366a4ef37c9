"""``/openapi.json``, ``/asyncapi.json`` and the page that shows them; everything on it comes from this server."""

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from sync_core.domain.command import Domain
from sync_core.events import EventType
from sync_core.problems import NotFound
from sync_server.reference.accounts import SECURITY_SCHEMES, account_operations, me_operation, webhook_operation
from sync_server.reference.asyncapi import asyncapi_document
from sync_server.reference.commands import command_operations
from sync_server.reference.documents import document_operations
from sync_server.reference.feed import feed_operations, service_operations
from sync_server.reference.openapi import openapi_document
from sync_server.reference.operation import Operation
from sync_server.reference.positions import position_operations, with_near
from sync_server.reference.schemas import Schemas
from sync_server.reference.sessions import active_operation

__all__ = ["Reference"]

_HERE = Path(__file__).parent
_SWAGGER_UI = _HERE / "swagger_ui"
_ASSETS = MappingProxyType(
    {
        "swagger-ui-bundle.js": _SWAGGER_UI / "swagger-ui-bundle.js",
        "swagger-ui.css": _SWAGGER_UI / "swagger-ui.css",
        "favicon-32x32.png": _SWAGGER_UI / "favicon-32x32.png",
        "browser.js": _HERE / "browser.js",
    }
)
_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "public, max-age=3600"}


class Reference:
    """The endpoints. The documents are made when they are first asked for.

    *access*: callers have to say who they are.
    """

    def __init__(self, domain: Domain, event_types: Iterable[EventType], *, version: str, access: bool = False) -> None:
        self._event_types = tuple(event_types)
        self._schemas = Schemas(domain, self._event_types)
        self._version = version
        self._access = access
        self._openapi: dict[str, bytes] = {}

    def routes(self) -> list[Route]:
        """Both documents, the page and its assets."""
        return [
            Route("/openapi.json", self.openapi),
            Route("/asyncapi.json", self.asyncapi),
            Route("/docs", self.page),
            Route("/docs/{asset}", self.asset),
        ]

    @cached_property
    def operations(self) -> tuple[Operation, ...]:
        """Everything that the documents tell of."""
        schemas = self._schemas
        return (
            *with_near(document_operations(schemas)),
            *position_operations(),
            *command_operations(schemas),
            active_operation(schemas),
            *feed_operations(schemas),
            webhook_operation(),
            *(account_operations() if self._access else ()),
            me_operation(),
            *service_operations(),
        )

    async def openapi(self, http: Request) -> Response:
        """OpenAPI 3.1."""
        root = http.scope.get("root_path", "") or "/"
        if root not in self._openapi:
            security = SECURITY_SCHEMES if self._access else None
            document = openapi_document(
                self.operations, self._schemas, version=self._version, servers=[root], security=security
            )  # fmt: skip
            self._openapi = {root: to_json(document)}
        return _json(self._openapi[root])

    async def asyncapi(self, _http: Request) -> Response:
        """AsyncAPI 3.0."""
        return _json(self._asyncapi)

    @cached_property
    def _asyncapi(self) -> bytes:
        return to_json(asyncapi_document(self._event_types, self._schemas, version=self._version))

    async def page(self, _http: Request) -> Response:
        """Swagger UI; its links are relative, so it works below any path."""
        headers = {**_HEADERS, "Content-Security-Policy": _PAGE_POLICY}
        return FileResponse(_HERE / "browser.html", media_type="text/html", headers=headers)

    async def asset(self, http: Request) -> Response:
        """A file of the page."""
        path = _ASSETS.get(http.path_params["asset"])
        if path is None:
            raise NotFound("There is no such file.")
        return FileResponse(path, headers=_HEADERS)


def _json(document: bytes) -> Response:
    headers = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-cache"}
    return Response(document, media_type="application/json", headers=headers)
