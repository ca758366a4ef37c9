"""What every response carries for the browser's sake: security headers, and CORS for the origins that are let in."""

from collections.abc import Iterable, Sequence

from starlette.responses import Response
from starlette.types import Scope

__all__ = ["Header", "ResponseHeaders", "with_headers"]

Header = tuple[bytes, bytes]

_ALWAYS: Sequence[Header] = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),  # a ticket may stand in the URL
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)
_HTTPS: Header = (b"strict-transport-security", b"max-age=31536000")
_EXPOSED = b"ETag, Idempotency-Replayed, Location, Retry-After, X-Poll-After-Ms, X-Request-ID"
_PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, HEAD, POST, PUT, PATCH, DELETE",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, "
    "Last-Event-ID, X-Client-ID, X-CSRF-Token, X-Request-ID",
    "Access-Control-Max-Age": "600",
}


class ResponseHeaders:
    """*origins* are those whose pages may read answers, with the visitor's cookies: exactly these, never all."""

    def __init__(self, origins: Iterable[str] = ()) -> None:
        self._origins = frozenset(origin.encode() for origin in origins)

    def of(self, scope: Scope) -> list[Header]:
        """What the response to that request gets in addition."""
        headers = [*_ALWAYS, _HTTPS] if scope["scheme"] == "https" else list(_ALWAYS)
        if self._origins:
            headers.append((b"vary", b"Origin"))
            origin = _one(scope, b"origin")
            if origin in self._origins:
                headers += [
                    (b"access-control-allow-origin", origin),
                    (b"access-control-allow-credentials", b"true"),
                    (b"access-control-expose-headers", _EXPOSED),
                ]
        return headers

    def preflight(self, scope: Scope) -> Response | None:
        """The answer to a browser that asks whether a page of a known origin may send a request; else None."""
        if scope["method"] != "OPTIONS" or not self._origins or _one(scope, b"origin") not in self._origins:
            return None
        if _one(scope, b"access-control-request-method") is None:
            return None
        return Response(status_code=204, headers=_PREFLIGHT)


def with_headers(own: Iterable[Header], added: Iterable[Header]) -> list[Header]:
    """*own* headers of a response and those of *added* that it has none of; ``vary`` may stand there twice."""
    headers = list(own)
    names = {name for name, _ in headers} - {b"vary"}
    return headers + [header for header in added if header[0] not in names]


def _one(scope: Scope, name: bytes) -> bytes | None:
    values = [value for key, value in scope["headers"] if key == name]
    return values[0] if len(values) == 1 else None
