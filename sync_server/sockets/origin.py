"""Whose pages may open sockets here: the server's own, and those of the origins that are let in.

A browser sends cookies with a WebSocket's handshake whichever page opens it, asks no permission first (no CORS), and
says which page it was: ``Origin``. Programs send none. Source: RFC 6455, 10.2.
"""

from collections.abc import Iterable

from starlette.types import Scope

from sync_core.problems import Forbidden

__all__ = ["Origins"]


class Origins:
    """*allowed* are those of ``[access] cors_origins``, beside the server's own."""

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        self._allowed = frozenset(origin.encode() for origin in allowed)

    def check(self, scope: Scope) -> None:
        """Raises Forbidden for a page of another origin."""
        origins = [value for name, value in scope["headers"] if name == b"origin"]
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        if not origins or (len(origins) == 1 and origins[0] in self._allowed):
            return
        if len(origins) != 1 or len(hosts) != 1 or not _is_own(scope, origins[0], hosts[0]):
            raise Forbidden("Pages of other origins open no sockets here; see [access] cors_origins.")


def _is_own(scope: Scope, origin: bytes, host: bytes) -> bool:
    # https where we see plain http is a proxy that ends TLS; the other way round somebody is in between.
    schemes = (b"https",) if scope["scheme"] in ("wss", "https") else (b"https", b"http")
    return origin.lower() in [b"%b://%b" % (scheme, host.lower()) for scheme in schemes]
