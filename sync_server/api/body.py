"""The body of a request: its form checked, its size bounded, before anything is made of it."""

from collections.abc import Mapping
from typing import TypeVar

from starlette.requests import ClientDisconnect, Request

from sync_core.problems import FieldError, InvalidRequest, TooLarge, UnsupportedMedia
from sync_server.feed.request import MAX_CLIENT_ID

T = TypeVar("T")

__all__ = ["MAX_BODY_BYTES", "MAX_LIST", "client_id_of", "json_body", "long_lists"]

MAX_BODY_BYTES = 1024 * 1024
MAX_LIST = 2000
"""Elements of a list; no command takes more. What is wrong with them is found for all before any of it is told: of half
a million that is seconds, in which nobody else is served."""


async def json_body(http: Request, *, optional: bool = False) -> bytes:
    """The body as JSON text, not yet parsed. Raises UnsupportedMedia, or TooLarge before more was taken in.

    With *optional* an empty body needs no Content-Type.
    """
    if _header(http, b"content-encoding", "identity").strip().lower() != "identity":
        raise UnsupportedMedia("Send the body without Content-Encoding.")
    media_type = _header(http, b"content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json" and not (optional and not media_type):
        raise UnsupportedMedia("Send the body as Content-Type: application/json.")
    body = await _bounded(http)
    if body and media_type != "application/json":
        raise UnsupportedMedia("Send the body as Content-Type: application/json.")
    return body


async def _bounded(http: Request) -> bytes:
    declared = _header(http, b"content-length", "0")
    pieces: list[bytes] = []
    size_bytes = int(declared) if declared.isascii() and declared.isdigit() and len(declared) < 19 else 0
    if size_bytes <= MAX_BODY_BYTES:
        size_bytes = 0
        more = True
        while more and size_bytes <= MAX_BODY_BYTES:
            message = await http.receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            pieces.append(message.get("body", b""))
            size_bytes += len(pieces[-1])
            more = message.get("more_body", False)
    if size_bytes > MAX_BODY_BYTES:
        raise TooLarge(f"A body has at most {MAX_BODY_BYTES} bytes. Send it in several requests.")
    return b"".join(pieces)


def client_id_of(http: Request) -> str | None:
    """The instance that the caller says it is (X-Client-ID). Raises InvalidRequest."""
    client_id = _header(http, b"x-client-id", None)
    if client_id is not None and not (client_id.isprintable() and 1 <= len(client_id) <= MAX_CLIENT_ID):
        raise InvalidRequest(f"X-Client-ID has 1 to {MAX_CLIENT_ID} printable characters.")
    return client_id


def _header(http: Request, name: bytes, default: T) -> str | T:
    """The first of that *name*, in lower case. What Request.headers finds, without an object and a copy of the name."""
    for key, value in http.scope["headers"]:
        if key == name:
            return str(value, "latin-1")
    return default


def long_lists(content: Mapping[str, object]) -> tuple[FieldError, ...]:
    """The members of *content* that are lists of more than MAX_LIST elements."""
    return tuple(
        FieldError(name[:80], f"has {len(value)} elements; at most {MAX_LIST} are possible")
        for name, value in content.items()
        if isinstance(value, list) and len(value) > MAX_LIST
    )
