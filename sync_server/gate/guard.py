"""What stands in front of all routes: who calls, and whether that is too often.

    locate      the client's address and scheme, where a trusted proxy passed the request on
    address     what it may ask for, counted before anything is verified: guessing costs as much as asking
    caller      the credential, but for the paths that are for everybody
    principal   what the caller may ask for

Without access control everybody is the open caller, and only the number of streams is limited.
"""

from dataclasses import dataclass

from starlette.types import Message, Receive, Scope

from sync_core.paths import STREAM_PATH
from sync_core.problems import Problem
from sync_server.access.caller import OPEN_CALLER, Caller
from sync_server.access.limits import Limits, Rate, StreamLease, address_key
from sync_server.accounts.authenticate import Authenticator
from sync_server.accounts.routes import LOGIN_PATH
from sync_server.api.webhooks import WEBHOOKS_PREFIX
from sync_server.metrics import Metrics

__all__ = ["Guard", "PublicPaths"]

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class PublicPaths:
    """Paths that need no credential: single ones, and *prefixes* (ending in a slash) below which all are.

    *uncounted* ones are for those who watch the server, as often as they like.
    """

    paths: frozenset[str]
    prefixes: tuple[str, ...] = ()
    uncounted: frozenset[str] = frozenset()

    def __contains__(self, path: str) -> bool:
        return path in self.paths or path in self.uncounted or path.startswith(self.prefixes)


class Guard:
    """*authenticator* None: no access control."""

    def __init__(
        self, authenticator: Authenticator | None, limits: Limits, public: PublicPaths, *, metrics: Metrics
    ) -> None:
        self._authenticator = authenticator
        self._limits = limits
        self._public = public
        self._metrics = metrics

    async def admit(self, scope: Scope, receive: Receive) -> Receive:
        """Put who calls into *scope*; the *receive* that counts what is sent.

        Raises Problem: 401 for nobody, 403, 429, 503 while it cannot be told.
        """
        if self._authenticator is None:
            scope["state"].setdefault("caller", OPEN_CALLER)
            return receive
        try:
            return await self._admit(self._authenticator, scope, receive)
        except Problem as refusal:
            self._metrics.refusals.labels(str(refusal.status)).inc()
            raise

    async def _admit(self, authenticator: Authenticator, scope: Scope, receive: Receive) -> Receive:
        path: str = scope["path"]
        if path in self._public.uncounted:
            return receive
        rate = _rate(scope)
        self._limits.count_address(rate, _address(scope))
        if path not in self._public:
            caller = await authenticator.caller(scope)
            scope["state"]["caller"] = caller
            self._limits.count_principal(rate, _principal(caller))
        if scope["method"] in _SAFE_METHODS and scope["type"] != "websocket":
            return receive
        return self.counted(scope, receive)

    def counted(self, scope: Scope, receive: Receive) -> Receive:
        """*receive*, which raises TooManyRequests once too many bytes came: from an address, or, as soon as *scope*
        says who calls, from a principal.
        """
        address = _address(scope)

        async def counted() -> Message:
            message = await receive()
            size_bytes = len(message.get("body") or message.get("text") or message.get("bytes") or b"")
            if size_bytes:
                self._limits.count_address(Rate.BYTES, address, cost=size_bytes)
                caller = scope["state"].get("caller")
                if caller is not None:
                    self._limits.count_principal(Rate.BYTES, _principal(caller), cost=size_bytes)
            return message

        return counted

    def stream(self, scope: Scope) -> StreamLease:
        """For a ``with`` block, in which a stream is open; entering it raises TooManyRequests, Unavailable.

        Of a socket, who it is may only be said later: until then it is its address's.
        """
        caller = scope["state"].get("caller")
        address = _address(scope)
        return self._limits.stream(_principal(caller) if caller is not None else address, address)

    async def identify(self, scope: Scope, credential: str, lease: StreamLease) -> None:
        """Put who shows *credential* into the *scope* of a socket that was opened without one, and is counted by
        *lease*: as theirs from now on.

        Raises Problem like ``admit``, and then nothing has changed.
        """
        if self._authenticator is None:
            scope["state"]["caller"] = OPEN_CALLER
            return
        shown = {**scope, "headers": [(b"authorization", f"Bearer {credential}".encode())], "query_string": b""}
        try:
            caller = await self._authenticator.caller(shown)
            self._limits.count_principal(Rate.CONNECTS, _principal(caller))
            lease.become(_principal(caller))
        except Problem as refusal:
            self._metrics.refusals.labels(str(refusal.status)).inc()
            raise
        scope["state"]["caller"] = caller


def _rate(scope: Scope) -> Rate:
    path: str = scope["path"]
    if scope["method"] in _SAFE_METHODS:
        return Rate.CONNECTS if path == STREAM_PATH or scope["type"] == "websocket" else Rate.READS
    if path == LOGIN_PATH:
        return Rate.LOGINS
    return Rate.PUBLISHES if path == STREAM_PATH or path.startswith(WEBHOOKS_PREFIX) else Rate.COMMANDS


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return address_key(client[0] if client else "")


def _principal(caller: Caller) -> str:
    return f"{caller.tenant}/{caller.principal}"
