"""The ASGI application: its outermost layer, which does what every response needs.

An id, headers, errors as problem documents; it asks the guard who calls, and serves the event stream itself, on the
ASGI server's own ``send``, and what is published to it; everything else goes through Starlette's router.
"""

import asyncio
import random
import re
from collections.abc import Iterable

import structlog
from prometheus_client import CollectorRegistry
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, Router
from starlette.types import Message, Receive, Scope, Send

from sync_core.paths import POLL_PATH, STREAM_PATH
from sync_core.problems import InternalError, InvalidRequest, MethodNotAllowed, NotFound, OutcomeUnknown, Problem
from sync_server.access.limits import Limits
from sync_server.access_sections import LimitsSection
from sync_server.accounts.routes import LOGIN_PATH
from sync_server.api.health import Health
from sync_server.api.problem import problem_response
from sync_server.api.publish import Publish
from sync_server.api.routing import merged
from sync_server.api.webhooks import WEBHOOKS_PREFIX
from sync_server.dashboard.pages import ASSETS_PREFIX, PAGE_PATH
from sync_server.feed.connection import answer
from sync_server.feed.feed import Feed
from sync_server.feed.poll import Poll
from sync_server.feed.stream import EventStream
from sync_server.gate.guard import Guard, PublicPaths
from sync_server.gate.headers import Header, ResponseHeaders, with_headers
from sync_server.gate.proxies import Proxies
from sync_server.log.base import EventLog
from sync_server.metrics import Metrics
from sync_server.sockets.door import Sockets

__all__ = ["PUBLIC", "Application"]

PUBLIC = PublicPaths(
    paths=frozenset({LOGIN_PATH, PAGE_PATH}),
    # Webhooks have signatures of their own; the dashboard's files hold no data, and its login page is among them.
    prefixes=(WEBHOOKS_PREFIX, ASSETS_PREFIX),
    uncounted=frozenset({"/healthz", "/readyz"}),
)
"""What needs no credential. Everything else does, also what is not there."""
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")

log = structlog.get_logger("sync_server")


class Application:
    """The ASGI application, and what the process around it needs to end it well."""

    def __init__(
        self,
        event_log: EventLog,
        feed: Feed,
        publish: Publish,
        health: Health,
        *,
        routes: Iterable[BaseRoute] = (),
        guard: Guard | None = None,
        proxies: Proxies | None = None,
        headers: ResponseHeaders | None = None,
        sockets: Sockets | None = None,
    ) -> None:
        self.event_log = event_log
        self.feed = feed
        self.publish = publish
        self._guard = guard or Guard(None, Limits(LimitsSection()), PUBLIC, metrics=Metrics(CollectorRegistry()))
        self._proxies = proxies or Proxies()
        self._headers = headers or ResponseHeaders()
        self.sockets = sockets
        self._stream = EventStream(feed)
        self.routes: tuple[BaseRoute, ...] = (
            # For the answer to other methods, and the reference: the three listed never get here.
            Route(STREAM_PATH, publish.__call__, methods=["GET", "HEAD", "POST"]),
            Route(POLL_PATH, Poll(feed).__call__),
            *routes,
            Route("/healthz", health.alive),
            Route("/readyz", health.ready),
            Route("/metrics", health.metrics),
        )
        self._router = Router(merged(self.routes), redirect_slashes=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            return
        scope["state"] = dict(scope.get("state", ()))  # whatever the server shares: the caller is this request's own
        scope["app"] = self  # makes the router raise its refusals instead of answering in plain text
        self._proxies.locate(scope)
        request_id = _request_id(scope)
        added = [(b"x-request-id", request_id), *self._headers.of(scope)]
        if scope["type"] == "websocket":
            if self.sockets is not None:
                await self.sockets(scope, receive, send, headers=added)
            return
        begin = _Begin(send, added)
        del added  # needed once, and a stream lasts
        try:
            # For as long as a stream lasts, this frame and the stream's own are all there is of its request.
            admitted = await self._admit(scope, receive, begin)
            if admitted is None:
                pass
            elif scope["path"] == STREAM_PATH and scope["method"] in ("GET", "HEAD"):
                with self._guard.stream(scope):
                    await self._stream(scope, admitted, send, begin=begin)
            elif scope["path"] == STREAM_PATH and scope["method"] == "POST":
                response = await self.publish(Request(scope, admitted, begin))
                await response(scope, admitted, begin)
            else:
                await self._router(scope, admitted, begin)
        except Problem as problem:
            await problem_response(problem)(scope, receive, begin)
        except HTTPException as refusal:
            await _refusal_response(scope, refusal)(scope, receive, begin)
        except ClientDisconnect:
            pass
        except asyncio.CancelledError:
            if not self.feed.draining:
                raise
            if not begin.done:  # cut off: the time for requests that are under way is over
                unknown = OutcomeUnknown("The server is shutting down; send again with the same keys.", retry_after_s=1)
                await problem_response(unknown)(scope, receive, begin)
        except Exception:
            log.exception("request_failed", path=scope["path"], request_id=request_id.decode())
            if begin.done:
                raise  # nothing can be said any more; the server cuts the connection
            bug = InternalError(f"This is a fault of the server; its log tells more under {request_id.decode()}.")
            await problem_response(bug)(scope, receive, begin)

    async def _admit(self, scope: Scope, receive: Receive, begin: Send) -> Receive | None:
        """The *receive* for what is to be served; None where that is done. Raises Problem."""
        preflight = self._headers.preflight(scope)
        if preflight is not None:
            await preflight(scope, receive, begin)
            return None
        return await self._guard.admit(scope, receive)


class _Begin:
    """The server's *send* with the headers that every response has: for heads, and all of what is no stream.

    A head that names the length of its body waits for it, so that both leave in one piece.
    """

    __slots__ = ("_added", "_head", "_send", "done")

    def __init__(self, send: Send, added: list[Header]) -> None:
        self._send = send
        self._added = added
        self._head: Message | None = None
        self.done = False
        """Whether a head was sent."""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = with_headers(message.get("headers", ()), self._added)
            if any(name == b"content-length" for name, _ in message["headers"]):
                self._head = message
                return
        elif self._head is not None:
            head, self._head = self._head, None
            self.done, self._added = True, []
            if not message.get("more_body") and answer(self._send, head, message.get("body", b"")):
                return
            await self._send(head)
        self.done, self._added = True, []
        await self._send(message)


def _request_id(scope: Scope) -> bytes:
    """The caller's X-Request-ID if it is one, else a new one, which is no secret."""
    given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
    return given if _REQUEST_ID.fullmatch(given) else b"%016x" % random.getrandbits(64)


def _refusal_response(scope: Scope, refusal: HTTPException) -> Response:
    """The router's own refusals: no such route, wrong method, a body that cannot be read."""
    path = str(scope["path"])[:200]
    problem: Problem
    match refusal.status_code:
        case 404:
            told = f"At {path} there is a WebSocket: connect with ws:// or wss://." if _is_socket(scope) else None
            problem = NotFound(told or f"There is nothing at {path}.")
        case 405:
            problem = MethodNotAllowed(f"{str(scope['method'])[:20]} is not possible at {path}.")
        case _:
            problem = InvalidRequest(str(refusal.detail))
    response = problem_response(problem)
    response.headers.update(refusal.headers or {})
    return response


def _is_socket(scope: Scope) -> bool:
    sockets: Sockets | None = scope["app"].sockets
    return sockets is not None and scope["path"].removeprefix(scope.get("root_path", "")) in sockets.routes
