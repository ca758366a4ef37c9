"""HTTP: the only module that knows httpx2. A stream of bytes, or a page of JSON; errors mapped once, here.

Redirects are followed by hand, because the token must not travel to another origin, not even from http to
https on the same host. Bodies are taken in and unpacked by hand, because whoever answers in the server's place
decides how large they are, and a megabyte of gzip can hold a gigabyte. Source: protocol.md 2, 5, 6.
"""

import functools
import json
import ssl
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any, NamedTuple

import httpx2

from sync_client.backoff import parse_retry_after
from sync_client.errors import (
    ConfigurationError,
    CursorLost,
    NetworkFailed,
    NotAStream,
    Refused,
    RequestFailed,
    ServerBusy,
    StopAsked,
    Unauthorized,
)
from sync_core.paths import PREFIX, STREAM_PATH

__all__ = ["Reply", "Stream", "Transport", "checked_url", "default_tls"]

MAX_REDIRECTS = 5
MAX_PORT = 65535
CONNECT_TIMEOUT_S = 10.0
REQUEST_TIMEOUT_S = 30.0
MAX_BODY_BYTES = 8 * 1024 * 1024
"""Of a plain answer, unpacked. A page of the server's ends at 1 MiB and the event that crosses it (256 KiB at most):
eight times that is what another page size would need, and still nothing to a till. As much as for a stream's event."""
MAX_PROBLEM_BYTES = 64 * 1024
"""Of a refusal; what is longer is not a problem document of ours."""
PROBLEM_TYPE = "application/problem+json"
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_RETRYABLE = frozenset({408, 425, 429})

Headers = Sequence[tuple[bytes, bytes]]


class Reply(NamedTuple):
    """The answer to a command: 2xx with what it changed, or a refusal (4xx) with its problem document."""

    status: int
    document: dict[str, Any]
    is_ours: bool = True
    """False for a refusal that is no problem document: somebody in between wrote it."""


class Stream:
    """An open response body. *retry_after_s* and status have been dealt with by now."""

    def __init__(self, response: httpx2.Response) -> None:
        self._response = response

    async def chunks(self) -> AsyncGenerator[bytes]:
        """The body as it comes. Raises NetworkFailed when it is cut off. To be closed."""
        with _mapped():
            async with aclosing(self._response.aiter_raw()) as chunks:
                async for chunk in chunks:
                    if chunk:
                        yield chunk


class Transport:
    """Requests to one server. Close with ``aclose``."""

    def __init__(
        self,
        base_url: str,
        *,
        verify: ssl.SSLContext | bool = True,
        headers: Mapping[str, str] | None = None,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        request_timeout_s: float = REQUEST_TIMEOUT_S,
        trust_env: bool = True,
        max_body_bytes: int = MAX_BODY_BYTES,
    ) -> None:
        """Raises ConfigurationError for a URL that cannot be one of a server, and for proxies that cannot be used."""
        self._max_body_bytes = max_body_bytes
        self._base = checked_url(base_url)
        self._headers = [(k.encode("ascii"), v.encode("utf-8")) for k, v in (headers or {}).items()]
        self._request_timeout_s = request_timeout_s
        self._connect_timeout_s = connect_timeout_s
        try:
            self._client = httpx2.AsyncClient(
                verify=default_tls() if verify is True else verify,
                trust_env=trust_env,
                limits=httpx2.Limits(max_connections=20, max_keepalive_connections=4, keepalive_expiry=30),
            )
        except (httpx2.InvalidURL, ValueError, ImportError) as exc:
            raise ConfigurationError(
                "the environment names a proxy that cannot be used (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY): "
                f"{exc}; correct or unset it"
            ) from exc

    @asynccontextmanager
    async def stream(
        self,
        path: str = STREAM_PATH,
        *,
        params: Mapping[str, str] | None = None,
        last_event_id: str = "",
        token: str | None = None,
        method: str = "GET",
        body: bytes | None = None,
    ) -> AsyncIterator[Stream]:
        """An open event stream. Raises RequestFailed unless the answer is one."""
        headers = [
            (b"Accept", b"text/event-stream"),
            (b"Cache-Control", b"no-cache"),
            (b"Accept-Encoding", b"identity"),  # a compressor on the way would hold events back
        ]
        if last_event_id:
            headers.append((b"Last-Event-ID", last_event_id.encode("utf-8", "surrogatepass")))
        # No read timeout here: how long silence may last is the driver's to say.
        timeout = httpx2.Timeout(None, connect=self._connect_timeout_s, write=self._request_timeout_s)
        response = await self._send(
            method, path, params=params, headers=headers, token=token, timeout=timeout, body=body
        )
        try:
            media_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
            if response.status_code == 200 and media_type == "text/event-stream":
                yield Stream(response)
                return
            problem = await _problem(response) if _is_short(response) else b""
            if response.status_code == 200:
                raise NotAStream(f"200, but {media_type or 'no content type'} instead of an event stream", status=200)
            raise _failure(response, problem)
        finally:
            await response.aclose()

    async def get_json(
        self, path: str, *, params: Mapping[str, str] | None = None, token: str | None = None, wait_s: float = 0.0
    ) -> dict[str, Any]:
        """A plain request, to which the server may be silent for *wait_s* because it was asked to wait for news.

        Raises RequestFailed; NotAStream for what is not an object, or too large.
        """
        timeout = httpx2.Timeout(self._request_timeout_s + wait_s, connect=self._connect_timeout_s)
        headers = [(b"Accept", b"application/json"), (b"Accept-Encoding", b"gzip")]
        response = await self._send(
            "GET", path, params=params, headers=headers, token=token, timeout=timeout, body=None
        )
        try:
            if response.status_code != 200:
                raise _failure(response, await _problem(response))
            document = _json_object(await _body(response, limit_bytes=self._max_body_bytes))
        finally:
            await response.aclose()
        if document is None:
            raise NotAStream("the answer is not a JSON object", status=200)
        return document

    async def command(
        self, method: str, path: str, *, body: bytes | None, key: str, guard: int | None, token: str | None = None
    ) -> Reply:
        """A command, *path* below ``/api/v1``; *guard* is the version for If-Match.

        Raises Unauthorized for 401; other RequestFailed where it is to be sent again with the same *key*: no answer,
        408, 425, 429, 5xx, and what no server of ours says.
        """
        timeout = httpx2.Timeout(self._request_timeout_s, connect=self._connect_timeout_s)
        headers = [(b"Accept", b"application/json"), (b"Accept-Encoding", b"gzip"), (b"Idempotency-Key", key.encode())]
        if body is not None:
            headers.append((b"Content-Type", b"application/json"))
        if guard is not None:
            headers.append((b"If-Match", b'"%d"' % guard))
        response = await self._send(
            method,
            PREFIX + path,
            params=None,
            headers=headers,
            token=token,
            timeout=timeout,
            body=body,
            is_command=True,
        )
        try:
            return await self._reply(response)
        finally:
            await response.aclose()

    async def _reply(self, response: httpx2.Response) -> Reply:
        status = response.status_code
        if not 200 <= status < 300 and (status < 400 or status in (401, *_RETRYABLE) or status >= 500):
            failure = _failure(response, b"")
            raise failure if status >= 400 else NotAStream(f"{status} is no answer to a command", status=status)
        try:
            document = _json_object(await _body(response, limit_bytes=self._max_body_bytes))
        except NotAStream:
            if status < 400:
                raise
            document = None
        if status >= 400:
            media_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
            is_ours = document is not None and media_type == PROBLEM_TYPE and document.get("status") == status
            return Reply(status, document or {}, is_ours)
        if document is None or not isinstance(document.get("cursor"), str):
            raise NotAStream(f"{status}, but no answer to a command", status=status)
        return Reply(status, document)

    async def aclose(self) -> None:
        """Close all connections. Idempotent."""
        await self._client.aclose()

    async def _send(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None,
        headers: list[tuple[bytes, bytes]],
        token: str | None,
        timeout: httpx2.Timeout,
        body: bytes | None,
        is_command: bool = False,
    ) -> httpx2.Response:
        """The first answer that is no redirect; its body is still to be read, or closed.

        A command goes to nobody else, and is not turned into a GET.
        """
        base_path = self._base.path.rstrip("/")
        url = self._base.copy_with(path=base_path + path) if path else self._base
        if params:
            url = url.copy_merge_params(dict(params))
        for _ in range(MAX_REDIRECTS + 1):
            own = url.origin == self._base.origin
            sent = headers + (self._headers if own else [])
            if own and token is not None:
                sent = [*sent, (b"Authorization", b"Bearer " + token.encode("utf-8"))]
            with _mapped():
                request = self._client.build_request(method, url, headers=sent, content=body, timeout=timeout)
                response = await self._client.send(request, stream=True, follow_redirects=False)
                if response.status_code not in _REDIRECTS or "location" not in response.headers:
                    return response
                await response.aclose()
                url = url.join(response.headers["location"])
            if is_command and (response.status_code == 303 or url.origin != self._base.origin):
                raise NotAStream("a command is redirected to another place", status=response.status_code)
            if response.status_code == 303:
                method, body = "GET", None
            if url.scheme not in ("http", "https"):
                break
        raise Refused(f"redirected too often, or to {url.scheme}:", status=response.status_code)


@functools.cache
def default_tls() -> ssl.SSLContext:
    """One for all clients of the process: reading the certificates takes 20 ms each time."""
    return httpx2.create_ssl_context()


class _mapped:  # noqa: N801 - reads as what it does
    """Foreign errors become ours at this edge and nowhere else."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, exc: BaseException | None, _trace: object) -> None:
        if isinstance(exc, httpx2.InvalidURL | httpx2.UnsupportedProtocol):
            raise Refused(f"redirected to an unusable address: {exc}") from exc
        if isinstance(exc, httpx2.RequestError):
            raise NetworkFailed(f"{type(exc).__name__}: {exc}".rstrip(": ")) from exc
        if isinstance(exc, ExceptionGroup) and exc.split(OverflowError)[1] is None:  # as anyio connects
            raise NetworkFailed(f"a proxy or a redirect names a port that is not from 1 to {MAX_PORT}") from exc


def checked_url(base_url: str) -> httpx2.URL:
    """The address of a server. Raises ConfigurationError for what cannot be one."""
    try:
        url = httpx2.URL(base_url)
    except (httpx2.InvalidURL, TypeError) as exc:
        raise ConfigurationError(f"base_url {base_url!r} is not a URL: {exc}") from exc
    if url.scheme not in ("http", "https") or not url.host or any(c.isspace() for c in base_url):
        raise ConfigurationError(f"base_url {base_url!r} is not the http(s) address of a server")
    if url.port is not None and not 0 < url.port <= MAX_PORT:
        raise ConfigurationError(f"base_url {base_url!r} has a port that is not from 1 to {MAX_PORT}")
    return url


def _failure(response: httpx2.Response, problem: bytes) -> RequestFailed:
    status = response.status_code
    retry_after_s = parse_retry_after(response.headers.get("retry-after"))
    if status == 204:
        return StopAsked("the server asks to stop", status=status)
    if status in (401, 403):
        return Unauthorized(f"not let in ({status})", status=status)
    if status == 410 and "head" in (document := _json_object(problem) or {}):
        return CursorLost("the cursor leads nowhere", document=document)
    if status >= 500 or status in _RETRYABLE:
        return ServerBusy(f"the server answers {status}", status=status, retry_after_s=retry_after_s)
    return Refused(f"the server answers {status}", status=status)


def _json_object(body: bytes) -> dict[str, Any] | None:
    """The object that *body* writes; None if it does not."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _is_short(response: httpx2.Response) -> bool:
    """Whether its body says that it is: beside a stream, nothing else is worth waiting for."""
    declared = response.headers.get("content-length", "")
    return declared.isascii() and declared.isdigit() and len(declared) < 6


async def _problem(response: httpx2.Response) -> bytes:
    """A refusal's body, or b"" where it is none of ours."""
    try:
        return await _body(response, limit_bytes=MAX_PROBLEM_BYTES)
    except NotAStream:
        return b""


async def _body(response: httpx2.Response, *, limit_bytes: int) -> bytes:
    """All of it, unpacked piece by piece. Raises NetworkFailed; NotAStream above *limit_bytes*."""
    status, encoding = response.status_code, response.headers.get("content-encoding", "").strip().lower()
    if encoding not in ("", "identity", "gzip", "x-gzip"):
        raise NotAStream(f"the answer is packed as {encoding[:20]}, which was not asked for", status=status)
    unpacking = zlib.decompressobj(zlib.MAX_WBITS | 16) if "gzip" in encoding else None
    body = bytearray()
    with _mapped():
        async with aclosing(response.aiter_raw()) as pieces:
            async for piece in pieces:
                try:
                    body += piece if unpacking is None else unpacking.decompress(piece, limit_bytes + 1 - len(body))
                except zlib.error as exc:
                    raise NotAStream(f"the answer cannot be unpacked: {exc}", status=status) from exc
                if len(body) > limit_bytes:
                    raise NotAStream(f"the answer is larger than {limit_bytes} bytes", status=status)
    return bytes(body)
