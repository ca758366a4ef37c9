"""Server-Sent Events on the wire: an incremental decoder and an encoder, without I/O.

Theory of operation
===================

Source: WHATWG HTML, "Server-sent events" (9.2.5 parsing, 9.2.6 interpretation); protocol.md 2.1.

Decoding has three layers, each linear in the bytes it is given:

1. **Lines.** ``feed`` cuts a chunk at CRLF, CR or LF. Only the line without an end is kept between chunks,
   in a bytearray that grows by appending: nothing is searched or copied again, however small the chunks
   are. A CR ends its line *at once*, and an LF that opens the next chunk belongs to that CR and is
   swallowed. Waiting for it instead would hold back the last event of a quiet stream.
2. **Fields.** A whole line is a comment, a field or blank. Lines are taken apart as bytes and decoded late,
   so a character split over chunks is whole again by then. CR and LF are never part of a multi-byte
   character, so this gives the same text as decoding the stream (UTF-8, malformed input becomes U+FFFD).
   One BOM is dropped from the first line of a stream, and only there.
3. **Blocks.** A blank line ends the block: its id becomes ``last_event_id``, and an event is dispatched if
   there was any ``data`` line, even an empty one. A block that the stream never ended leaves nothing
   behind, not even its id, so that a reconnect asks for it again. ``retry`` and comments take effect when
   their line ends.

``start_stream`` keeps ``last_event_id`` and ``retry_ms`` and drops all else: the unfinished line, the
unfinished block with its id, the swallowing of an LF, a refusal. The standard starts every stream with an
empty id buffer, which would let the first blank line of a reconnected stream erase the id. Browsers and
web-platform-tests (format-field-id-2) keep it, and so does this decoder.

**Bounded memory.** With ``max_event_bytes``, a block is refused when its lines (names included; line ends
and finished comments not) exceed it, whatever the chunking. Events that came before it in the same chunk
are returned and the *next* ``feed`` raises: raising at once would lose events whose ids are already
committed. Hence ``feed(b"")`` at the end of a stream tells whether it was refused.

The encoder writes whole blocks with LF line ends, so its results can be joined in any order. Text that
would end a line is refused in ``event`` and ``id``, and split into several lines in ``data`` and comments:
there is no value that makes one block look like two.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass

__all__ = [
    "SSEDecoder",
    "SSEEventTooLarge",
    "ServerSentEvent",
    "encode_comment",
    "encode_event",
    "encode_id",
    "encode_retry",
]

_BOM = b"\xef\xbb\xbf"
_CR = 0x0D
_LF = 0x0A
_MIN_EVENT_BYTES = len(b"data")
# The standard has no bound, but int() takes quadratic time and raises above 4,300 digits.
_MAX_RETRY_DIGITS = 15
_MAX_RETRY_MS = 10**_MAX_RETRY_DIGITS - 1


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """One dispatched event.

    event: its type, "message" unless the block named one. data: its data lines joined by LF.
    id: the last event id at dispatch, which an earlier block may have set.
    """

    event: str
    data: str
    id: str


class SSEEventTooLarge(ValueError):
    """The peer sent a block above the bound. Close the connection; its id was not committed."""

    def __init__(self, max_event_bytes: int) -> None:
        super().__init__(f"an event of the stream is larger than {max_event_bytes} bytes")
        self.max_event_bytes = max_event_bytes


class SSEDecoder:
    """Decodes the bodies of successive `text/event-stream` responses: bytes in, events out.

    on_comment gets the text after the colon, unstripped, before the ``feed`` that ends its line returns; it
    must not raise. max_event_bytes bounds what one block may hold (None: no bound). last_event_id is where
    a reader with a stored cursor begins.
    """

    __slots__ = (
        "_after_cr",
        "_at_start",
        "_block_bytes",
        "_data",
        "_event",
        "_id",
        "_last_event_id",
        "_line",
        "_max_event_bytes",
        "_on_comment",
        "_refused",
        "_retry_ms",
    )

    def __init__(
        self,
        on_comment: Callable[[str], None] | None = None,
        *,
        max_event_bytes: int | None = None,
        last_event_id: str = "",
    ) -> None:
        if max_event_bytes is not None and max_event_bytes < _MIN_EVENT_BYTES:
            raise ValueError(f"max_event_bytes must be at least {_MIN_EVENT_BYTES}: no event is smaller")
        self._on_comment = on_comment
        self._max_event_bytes = sys.maxsize if max_event_bytes is None else max_event_bytes
        self._last_event_id = last_event_id
        self._retry_ms: int | None = None
        self.start_stream()

    @property
    def last_event_id(self) -> str:
        """What to send as Last-Event-ID; "" means to send none. An unfinished block has no say in it."""
        return self._last_event_id

    @property
    def retry_ms(self) -> int | None:
        """The reconnection time that the peer last asked for, in milliseconds; None if it never did."""
        return self._retry_ms

    def start_stream(self) -> None:
        """Begin the body of a new response: the unfinished block is dropped, a BOM may come again."""
        self._at_start = True
        self._after_cr = False
        self._refused = False
        self._id = self._last_event_id
        self._drop_block()

    def feed(self, data: bytes) -> list[ServerSentEvent]:
        """The events that *data*, the next bytes of the body in pieces of any size, completes.

        Raises SSEEventTooLarge when a block exceeds the bound, and from then on until start_stream(). If
        events came before that block in the same chunk, they are returned first and the next call raises.
        """
        if self._refused:
            raise SSEEventTooLarge(self._max_event_bytes)
        if self._after_cr and data:
            self._after_cr = False
            if data[0] == _LF:
                data = data[1:]
        events: list[ServerSentEvent] = []
        # Asked by number: a bytes operand takes ten times as long, which shows when chunks are single bytes.
        if _LF in data or _CR in data:
            # bytes.splitlines() knows exactly the three line ends of the standard, unlike str.splitlines().
            lines = data.splitlines()
            self._after_cr = data[-1] == _CR
            data = b"" if data[-1] in (_LF, _CR) else lines.pop()
            self._complete_first_line(lines)
            self._take_lines(lines, events)
        self._line += data
        if self._refused or self._block_bytes + len(self._line) > self._max_event_bytes:
            self._refuse()
            if not events:
                raise SSEEventTooLarge(self._max_event_bytes)
        return events

    def _complete_first_line(self, lines: list[bytes]) -> None:
        if self._line:
            self._line += lines[0]
            lines[0] = bytes(self._line)
            self._line.clear()
        if self._at_start:
            self._at_start = False
            if lines[0].startswith(_BOM):
                lines[0] = lines[0][len(_BOM) :]
                # It counted while its line was unfinished, and the bound must not depend on the chunking.
                self._block_bytes = len(_BOM)

    def _take_lines(self, lines: list[bytes], events: list[ServerSentEvent]) -> None:
        for line in lines:
            if not line:
                self._end_block(events)
                continue
            block_bytes = self._block_bytes + len(line)
            if block_bytes > self._max_event_bytes:
                self._refuse()
                return
            name, _, value = line.partition(b":")
            if not name:
                # Not counted: keep-alives without a blank line between them are one endless block.
                if self._on_comment is not None:
                    self._on_comment(value.decode("utf-8", "replace"))
                continue
            self._block_bytes = block_bytes
            if value.startswith(b" "):
                value = value[1:]
            if name == b"data":
                self._data += value
                self._data.append(_LF)
            elif name == b"event":
                self._event = value
            elif name == b"id":
                if b"\0" not in value:
                    self._id = value.decode("utf-8", "replace")
            elif name == b"retry":
                self._take_retry(value)

    def _take_retry(self, value: bytes) -> None:
        # bytes.isdigit() knows only the ASCII digits, unlike str.isdigit().
        if value.isdigit():
            digits = value.lstrip(b"0")[: _MAX_RETRY_DIGITS + 1]
            self._retry_ms = min(int(digits or b"0"), _MAX_RETRY_MS)

    def _end_block(self, events: list[ServerSentEvent]) -> None:
        self._last_event_id = self._id
        if self._data:
            self._data.pop()
            event = self._event.decode("utf-8", "replace") or "message"
            events.append(ServerSentEvent(event, self._data.decode("utf-8", "replace"), self._id))
            self._data.clear()
        self._event = b""
        self._block_bytes = 0

    def _refuse(self) -> None:
        self._refused = True
        self._drop_block()

    def _drop_block(self) -> None:
        self._line = bytearray()
        self._data = bytearray()
        self._event = b""
        self._block_bytes = 0


def encode_event(*, event: str | None, id: str | None, data: str) -> bytes:
    """One block that dispatches *data*; None leaves the line out (type "message", id unchanged).

    CRLF, CR and LF in data all arrive as LF. Raises ValueError for CR or LF in event or id, for NUL in id,
    for lone surrogates, and for an empty event or id: readers take these for "message" and "forget your
    cursor".
    """
    lines = ""
    if event is not None:
        _check_field("event", event, forbidden="\r\n")
        lines = f"event: {event}\n"
    if id is not None:
        _check_field("id", id, forbidden="\r\n\0")
        lines += f"id: {id}\n"
    return f"{lines}{_prefix_lines('data: ', data)}\n".encode()


def encode_retry(retry_ms: int) -> bytes:
    """A block that sets the reader's reconnection time, in milliseconds. Raises ValueError below 0."""
    if retry_ms < 0:
        raise ValueError("retry_ms must not be negative")
    return f"retry: {retry_ms:d}\n\n".encode()


def encode_id(id: str) -> bytes:
    """A block that only moves the reader's cursor. Raises ValueError for an empty id, CR, LF and NUL."""
    _check_field("id", id, forbidden="\r\n\0")
    return f"id: {id}\n\n".encode()


def encode_comment(text: str) -> bytes:
    """A block that readers ignore, one comment for each line of *text*."""
    return f"{_prefix_lines(':', text)}\n".encode()


def _check_field(name: str, value: str, *, forbidden: str) -> None:
    if not value:
        raise ValueError(f"{name} must not be empty")
    if any(character in value for character in forbidden):
        raise ValueError(f"{name} must not contain any of {forbidden!r}")


def _prefix_lines(prefix: str, text: str) -> str:
    # Not str.splitlines(): U+2028 and its like end a line for Python but not for a reader.
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "\n" in text:
        text = text.replace("\n", f"\n{prefix}")
    return f"{prefix}{text}\n"
