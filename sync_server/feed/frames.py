"""WebSocket frames as a server writes them: unmasked, whole, never compressed, and so the same bytes for all readers.

Only text messages; what a connection needs beside them (close, ping, pong) is the ASGI server's. Source: RFC 6455, 5.2.
"""

from collections.abc import Iterator

__all__ = ["payloads", "text_frame"]

_TEXT = 0x81
"""FIN, and the opcode of text."""
_TWO_BYTES, _EIGHT_BYTES = 126, 127


def text_frame(payload: bytes) -> bytes:
    """*payload* (UTF-8) as one message."""
    size = len(payload)
    if size < _TWO_BYTES:
        return b"%c%c%b" % (_TEXT, size, payload)
    if size < 1 << 16:
        return b"%c%c%b%b" % (_TEXT, _TWO_BYTES, size.to_bytes(2, "big"), payload)
    return b"%c%c%b%b" % (_TEXT, _EIGHT_BYTES, size.to_bytes(8, "big"), payload)


def payloads(frames: bytes) -> Iterator[bytes]:
    """The payloads of frames that ``text_frame`` made, for a server that does the framing itself."""
    at = 0
    while at < len(frames):
        size = frames[at + 1]
        at += 2
        more = {_TWO_BYTES: 2, _EIGHT_BYTES: 8}.get(size, 0)
        if more:
            size = int.from_bytes(frames[at : at + more], "big")
            at += more
        yield frames[at : at + size]
        at += size
