"""The SSE codec: conformance cases in every chunking, properties, cost, bounds, injection."""

import base64
import itertools
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import FrozenInstanceError, dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sync_core import sse
from sync_core.sse import (
    ServerSentEvent,
    SSEDecoder,
    SSEEventTooLarge,
    encode_comment,
    encode_event,
    encode_id,
    encode_retry,
)

CASES_DIR = Path(__file__).parent / "cases"
MIB = 1024 * 1024
# Above this, splitting at every offset would take quadratic time for no new kind of split.
MAX_EXHAUSTIVE_BYTES = 8 * 1024


# --- cases -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    body: bytes
    chunks: tuple[bytes, ...]
    events: list[ServerSentEvent]
    retry_ms: int | None
    reconnect_id: str | None
    comments: list[str] | None


@dataclass(slots=True)
class Outcome:
    """What a reader has seen when the stream ends."""

    events: list[ServerSentEvent] = field(default_factory=list)
    comments: list[str] = field(default_factory=list)
    last_event_id: str = ""
    retry_ms: int | None = None
    too_large: bool = False


def load_cases(file_name: str) -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = json.loads((CASES_DIR / file_name).read_text(encoding="utf-8"))["cases"]
    return cases


def expected_events(case: dict[str, Any]) -> list[ServerSentEvent]:
    return [ServerSentEvent(e["type"], e["data"], e["lastEventId"]) for e in case["expected_events"]]


def decoder_cases() -> list[Any]:
    return [pytest.param(case, id=case.name) for case in read_decoder_cases()]


def read_decoder_cases() -> Iterator[Case]:
    for file_name in ("sse_decoder_cases.json", "sse_own_cases.json"):
        for raw in load_cases(file_name):
            yield Case(
                name=raw["name"],
                body=base64.b64decode(raw.get("bytes", "")),
                chunks=tuple(base64.b64decode(chunk) for chunk in raw.get("chunks", [])),
                events=expected_events(raw),
                retry_ms=raw["expected_retry_ms"],
                reconnect_id=raw.get("expected_reconnect_last_event_id"),
                comments=raw.get("expected_comments"),
            )


def decode(chunks: Iterable[bytes], *, max_event_bytes: int | None = None) -> Outcome:
    outcome = Outcome()
    decoder = SSEDecoder(outcome.comments.append, max_event_bytes=max_event_bytes)
    try:
        for chunk in itertools.chain(chunks, [b""]):
            outcome.events += decoder.feed(chunk)
    except SSEEventTooLarge:
        outcome.too_large = True
    outcome.last_event_id = decoder.last_event_id
    outcome.retry_ms = decoder.retry_ms
    return outcome


def pieces(body: bytes, size: int) -> Iterator[bytes]:
    return (body[start : start + size] for start in range(0, len(body), size))


def cut(body: bytes, offsets: Iterable[int]) -> list[bytes]:
    bounds = [0, *sorted(offsets), len(body)]
    return [body[start:end] for start, end in itertools.pairwise(bounds)]


def split_offsets(body: bytes) -> Iterable[int]:
    """Every offset; of a large body the ends, the surroundings of each line end and every 97th."""
    if len(body) <= MAX_EXHAUSTIVE_BYTES:
        return range(len(body) + 1)
    near_line_ends = {m.start() + d for m in re.finditer(rb"[\r\n]", body) for d in (0, 1)}
    return sorted(near_line_ends | {*range(64), *range(len(body) - 64, len(body)), *range(0, len(body), 97)})


def check(case: Case, outcome: Outcome) -> None:
    assert outcome.events == case.events
    assert outcome.retry_ms == case.retry_ms
    if case.reconnect_id is not None:
        assert outcome.last_event_id == case.reconnect_id
    if case.comments is not None:
        assert outcome.comments == case.comments


@pytest.mark.parametrize("case", decoder_cases())
class TestCases:
    def test_whole(self, case: Case) -> None:
        check(case, decode([case.body]))

    def test_chunks_as_sent_upstream(self, case: Case) -> None:
        check(case, decode(case.chunks or [case.body]))

    @pytest.mark.parametrize("size_bytes", [1, 2, 3])
    def test_in_pieces(self, case: Case, size_bytes: int) -> None:
        check(case, decode(pieces(case.body, size_bytes)))

    def test_split_at_every_offset(self, case: Case) -> None:
        for offset in split_offsets(case.body):
            check(case, decode([case.body[:offset], case.body[offset:]]))

    def test_split_at_every_offset_with_empty_chunks(self, case: Case) -> None:
        for offset in split_offsets(case.body):
            check(case, decode([b"", case.body[:offset], b"", b"", case.body[offset:], b""]))

    def test_reference_decoder_agrees(self, case: Case) -> None:
        check(case, reference_decode(case.body))


def reconnect_cases() -> list[Any]:
    cases = load_cases("sse_connection_cases.json")
    return [pytest.param(raw, id=raw["name"]) for raw in cases if raw["kind"] == "reconnect"]


@pytest.mark.parametrize("size_bytes", [1, 2, 64 * 1024])
@pytest.mark.parametrize("raw", reconnect_cases())
def test_connection_cases_on_one_decoder(raw: dict[str, Any], size_bytes: int) -> None:
    decoder = SSEDecoder()
    events: list[ServerSentEvent] = []
    for connection in raw["connections"]:
        assert decoder.last_event_id == (connection["expected_request_last_event_id"] or "")
        if connection["status"] != 200 or connection["content_type"] != "text/event-stream":
            break  # the client's affair, not the decoder's
        decoder.start_stream()
        for chunk in pieces(base64.b64decode(connection["bytes"]), size_bytes):
            events += decoder.feed(chunk)
    assert events == expected_events(raw)
    assert decoder.retry_ms == raw["expected_retry_ms"]


# --- reference: the standard's text, whole body at once --------------------------------------------------


def reference_decode(body: bytes) -> Outcome:
    outcome = Outcome()
    text = body.decode("utf-8", "replace").removeprefix("\ufeff")
    *lines, _unfinished = re.split("\r\n|\r|\n", text)
    data = event_type = id_buffer = ""
    for line in lines:
        if line == "":
            outcome.last_event_id = id_buffer
            if data != "":
                outcome.events.append(ServerSentEvent(event_type or "message", data[:-1], id_buffer))
            data = event_type = ""
            continue
        name, _, value = line.partition(":")
        if name == "":
            outcome.comments.append(value)
            continue
        value = value.removeprefix(" ")
        if name == "data":
            data += value + "\n"
        elif name == "event":
            event_type = value
        elif name == "id" and "\0" not in value:
            id_buffer = value
        elif name == "retry" and re.fullmatch("[0-9]+", value):
            outcome.retry_ms = min(int(value.lstrip("0")[:16] or "0"), 10**15 - 1)
    return outcome


# --- properties ------------------------------------------------------------------------------------------

# Bytes of any kind hardly ever make an event; these pieces do, next to everything that can go wrong in one.
field_tokens = [b"data", b"data:", b"data: ", b"event:", b"event: a", b"id", b"id:", b"id: 7", b"id:\0"]
line_end_tokens = [b"\r", b"\n", b"\r\n", b"\n\n", b"\r\n\r\n"]
other_tokens = [b"retry:", b"12", b":", b" ", b"\0", b"x", b"\xef\xbb\xbf", b"\xf0\x9f", b"\x98", b"\xff"]
character_tokens = ["€".encode(), "🚗".encode(), "\u2028".encode(), "\x85".encode()]
stream_tokens = st.sampled_from(field_tokens + line_end_tokens + other_tokens + character_tokens)
bodies = st.lists(stream_tokens | st.binary(max_size=3), max_size=40).map(b"".join)


# A busy machine must not fail a property; cost has tests of its own below.
untimed = settings(deadline=None)


@st.composite
def chunked_bodies(draw: st.DrawFn) -> list[bytes]:
    body = draw(bodies)
    return cut(body, draw(st.lists(st.integers(0, len(body)), max_size=12)))


@untimed
@given(chunked_bodies())
def test_any_chunking_gives_what_the_standard_says(chunks: list[bytes]) -> None:
    assert decode(chunks) == reference_decode(b"".join(chunks))


@untimed
@given(bodies)
def test_single_bytes_give_what_the_standard_says(body: bytes) -> None:
    assert decode(pieces(body, 1)) == reference_decode(body)


@untimed
@given(chunked_bodies(), st.integers(4, 40))
def test_a_bound_refuses_the_same_event_in_any_chunking(chunks: list[bytes], max_event_bytes: int) -> None:
    by_byte = decode(pieces(b"".join(chunks), 1), max_event_bytes=max_event_bytes)
    assert decode(chunks, max_event_bytes=max_event_bytes) == by_byte


@untimed
@given(chunked_bodies(), st.integers(4, 40))
def test_no_id_is_committed_past_the_events_handed_out(chunks: list[bytes], max_event_bytes: int) -> None:
    bounded = decode(chunks, max_event_bytes=max_event_bytes)
    unbounded = reference_decode(b"".join(chunks))
    assert bounded.events == unbounded.events[: len(bounded.events)]
    if not bounded.too_large:
        assert bounded == unbounded


texts = st.text(st.characters(exclude_categories=["Cs"]))
event_types = st.none() | texts.filter(lambda text: text != "" and not set(text) & set("\r\n"))
ids = texts.filter(lambda text: text != "" and not set(text) & set("\r\n\0"))
# Line ends are rare in plain text(), and the point of the round trip.
data_texts = st.lists(texts | st.sampled_from(["\r", "\n", "\r\n", "\n\r", " ", ":", "data:"])).map("".join)


def as_received(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


@untimed
@given(event=event_types, id=st.none() | ids, data=data_texts)
def test_event_round_trip(event: str | None, id: str | None, data: str) -> None:
    outcome = decode([encode_event(event=event, id=id, data=data)])
    assert outcome == Outcome(
        events=[ServerSentEvent(event or "message", as_received(data), id or "")], last_event_id=id or ""
    )


@untimed
@given(st.lists(st.tuples(event_types, ids, data_texts), max_size=5), st.integers(1, 50))
def test_blocks_of_all_kinds_can_be_joined(items: list[tuple[str | None, str, str]], size_bytes: int) -> None:
    body = b""
    expected: list[ServerSentEvent] = []
    for event, id, data in items:
        body += encode_comment(data) + encode_retry(7) + encode_id("i" + id)
        body += encode_event(event=event, id=None, data=data) + encode_event(event=event, id=id, data=data)
        expected += [ServerSentEvent(event or "message", as_received(data), i) for i in ("i" + id, id)]
    assert decode(pieces(body, size_bytes)).events == expected


@untimed
@given(data_texts)
def test_comment_round_trip(text: str) -> None:
    assert decode([encode_comment(text)]) == Outcome(comments=as_received(text).split("\n"))


@untimed
@given(ids)
def test_id_round_trip(id: str) -> None:
    assert decode([encode_id(id)]) == Outcome(last_event_id=id)


@untimed
@given(st.integers(0, 10**15 - 1))
def test_retry_round_trip(retry_ms: int) -> None:
    assert decode([encode_retry(retry_ms)]) == Outcome(retry_ms=retry_ms)


# --- at once ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"data: a\r\r", b"data: a\r\n\r", b"data: a\n\r", b"data: a\r\n\n"])
def test_event_is_handed_out_by_the_byte_that_ends_its_block(body: bytes) -> None:
    decoder = SSEDecoder()
    for byte in pieces(body[:-1], 1):
        assert decoder.feed(byte) == []
    assert decoder.feed(body[-1:]) == [ServerSentEvent("message", "a", "")]


def test_lf_after_a_cr_that_ended_a_block_is_swallowed() -> None:
    decoder = SSEDecoder()
    assert decoder.feed(b"data: a\r\n\r") == [ServerSentEvent("message", "a", "")]
    assert decoder.feed(b"") == []
    assert decoder.feed(b"\ndata: b\r") == []
    assert decoder.feed(b"\n") == []
    assert decoder.feed(b"\n") == [ServerSentEvent("message", "b", "")]


@pytest.mark.parametrize("line_end", [b"\n", b"\r"])
def test_comment_is_handed_out_by_the_byte_that_ends_its_line(line_end: bytes) -> None:
    comments: list[str] = []
    decoder = SSEDecoder(comments.append)
    decoder.feed(b"data: unfinished\n: caf\xc3")
    decoder.feed(b"\xa9")
    assert comments == []
    decoder.feed(line_end)
    assert comments == [" café"]


def test_retry_counts_when_its_line_ends() -> None:
    decoder = SSEDecoder()
    decoder.feed(b"retry: 250")
    assert decoder.retry_ms is None
    decoder.feed(b"\r")
    assert decoder.retry_ms == 250


def test_id_counts_when_its_block_ends() -> None:
    decoder = SSEDecoder()
    decoder.feed(b"id: 1\n\nid: 2\ndata: x\n")
    assert decoder.last_event_id == "1"
    decoder.feed(b"\n")
    assert decoder.last_event_id == "2"


# --- start_stream ----------------------------------------------------------------------------------------


def test_start_stream_keeps_id_and_retry() -> None:
    decoder = SSEDecoder()
    decoder.feed(b"retry: 9\nid: 1\n\n")
    decoder.start_stream()
    assert (decoder.last_event_id, decoder.retry_ms) == ("1", 9)
    assert decoder.feed(b"\n\ndata: x\n\n") == [ServerSentEvent("message", "x", "1")]
    assert decoder.last_event_id == "1"


@pytest.mark.parametrize("unfinished", [b"id: 2\nevent: e\ndata: lost\n", b"id: 2\rdata: lo", b"id: 2\r", b"dat"])
def test_start_stream_drops_the_unfinished_block(unfinished: bytes) -> None:
    decoder = SSEDecoder()
    decoder.feed(b"id: 1\n\n" + unfinished)
    decoder.start_stream()
    assert decoder.feed(b"data: x\n\n") == [ServerSentEvent("message", "x", "1")]


def test_start_stream_lets_a_bom_come_again() -> None:
    decoder = SSEDecoder()
    for _ in range(2):
        decoder.start_stream()
        assert decoder.feed(b"\xef\xbb\xbfdata: x\n\n") == [ServerSentEvent("message", "x", "")]
    assert decoder.feed(b"\xef\xbb\xbfdata: x\n\n") == []


def test_start_stream_does_not_swallow_an_lf_for_the_old_streams_cr() -> None:
    decoder = SSEDecoder()
    decoder.feed(b"\r")
    decoder.start_stream()
    # Were the LF swallowed, the BOM would be the first thing of the stream.
    assert decoder.feed(b"\n\xef\xbb\xbfdata: x\n\n") == []


def test_last_event_id_can_begin_at_a_stored_cursor() -> None:
    decoder = SSEDecoder(last_event_id="k3f9a2c1.7")
    assert decoder.last_event_id == "k3f9a2c1.7"
    assert decoder.feed(b"data: x\n\n") == [ServerSentEvent("message", "x", "k3f9a2c1.7")]
    assert decoder.feed(b"id\n\n") == []
    assert decoder.last_event_id == ""


# --- bounded memory --------------------------------------------------------------------------------------


def endless(first: bytes, repeated: bytes) -> Iterator[bytes]:
    yield first
    while True:
        yield repeated


@pytest.mark.parametrize(
    ("first", "repeated"),
    [
        (b"data: ", b"x" * 1000),
        (b"", b"data: x\n"),
        (b"", b"data\n"),
        (b": ", b"x" * 1000),
        (b"", b"\xff"),
        (b"id: ", b"x" * 1000),
        (b"", b"event: abc\n"),
        (b"data: x\n", b"unknown: abc\r"),
    ],
)
def test_a_block_without_end_is_refused(first: bytes, repeated: bytes) -> None:
    decoder = SSEDecoder(max_event_bytes=10_000)
    fed_bytes = 0
    refusal = None
    for chunk in endless(first, repeated):
        fed_bytes += len(chunk)
        try:
            decoder.feed(chunk)
        except SSEEventTooLarge as exc:
            refusal = exc
            break
        assert fed_bytes < 25_000
    assert isinstance(refusal, ValueError)
    assert refusal.max_event_bytes == 10_000


def test_the_bound_is_exact_and_starts_again_with_each_block() -> None:
    decoder = SSEDecoder(max_event_bytes=len("id: 1data: 12345"))
    for line_end in (b"\n", b"\r", b"\r\n"):
        block = b"id: 1" + line_end + b"data: 12345" + line_end + line_end
        assert len(decoder.feed(block * 3)) == 3
    with pytest.raises(SSEEventTooLarge):
        decoder.feed(b"id: 1\ndata: 123456")


@pytest.mark.parametrize("size_bytes", [1, 2, 100])
def test_a_bom_counts_in_any_chunking(size_bytes: int) -> None:
    body = b"\xef\xbb\xbfdata: 1234\n\n"
    assert not decode(pieces(body, size_bytes), max_event_bytes=len(body) - 2).too_large
    assert decode(pieces(body, size_bytes), max_event_bytes=len(body) - 3).too_large


def test_keep_alive_comments_never_add_up_to_a_refusal() -> None:
    comments: list[str] = []
    decoder = SSEDecoder(comments.append, max_event_bytes=20)
    for _ in range(1000):
        decoder.feed(b": keep-alive\n")
    assert len(comments) == 1000


def test_events_before_a_refused_one_are_handed_out_first() -> None:
    decoder = SSEDecoder(max_event_bytes=20)
    body = b"id: 1\ndata: a\n\nid: 2\ndata: " + b"x" * 50 + b"\n\nid: 3\ndata: c\n\n"
    assert decoder.feed(body) == [ServerSentEvent("message", "a", "1")]
    with pytest.raises(SSEEventTooLarge):
        decoder.feed(b"")
    assert decoder.last_event_id == "1"


def test_a_refused_stream_stays_refused_until_the_next_one() -> None:
    decoder = SSEDecoder(max_event_bytes=20)
    for chunk in (b"id: 1\n\nid: 2\ndata: " + b"x" * 50, b"\n\n", b"data: b\n\n"):
        with pytest.raises(SSEEventTooLarge):
            decoder.feed(chunk)
    decoder.start_stream()
    assert decoder.feed(b"data: b\n\n") == [ServerSentEvent("message", "b", "1")]


@pytest.mark.parametrize("max_event_bytes", [-1, 0, 3])
def test_a_bound_that_fits_no_event_is_refused(max_event_bytes: int) -> None:
    with pytest.raises(ValueError, match="at least 4"):
        SSEDecoder(max_event_bytes=max_event_bytes)


# --- linear time -----------------------------------------------------------------------------------------

SHAPES: dict[str, Callable[[int], bytes]] = {
    "one data line": lambda size: b"data:" + b"x" * size + b"\n\n",
    "short data lines": lambda size: b"data:x\n" * (size // 7) + b"\n",
    "empty data lines": lambda size: b"data\r\n" * (size // 6) + b"\r\n",
    "line without end": lambda size: b"x" * size,
    "comments": lambda size: b":\n" * (size // 2),
    "blank lines": lambda size: b"\r" * size,
    "retry of many digits": lambda size: b"retry:" + b"9" * size + b"\n",
}


def cpu_s(body: bytes, chunk_bytes: int, *, rounds: int) -> float:
    """The best of some rounds, in CPU time: other processes on the machine must not decide the test."""
    best_s = float("inf")
    for _ in range(rounds):
        decoder = SSEDecoder()
        start_s = time.process_time()
        for chunk in pieces(body, chunk_bytes):
            decoder.feed(chunk)
        best_s = min(best_s, time.process_time() - start_s)
    return best_s


@pytest.mark.parametrize("shape", SHAPES)
def test_cost_per_single_byte_does_not_grow_with_the_event(shape: str) -> None:
    small, large = (SHAPES[shape](size) for size in (MIB // 8, MIB // 2))
    # Linear is 4, quadratic 16.
    assert cpu_s(large, 1, rounds=2) < 9 * cpu_s(small, 1, rounds=3)


@pytest.mark.parametrize("shape", SHAPES)
def test_cost_per_chunk_does_not_grow_with_the_event(shape: str) -> None:
    small, large = (SHAPES[shape](size) for size in (MIB, 4 * MIB))
    # Some shapes take well under a millisecond: the constant keeps timer noise out of the ratio.
    assert cpu_s(large, 4096, rounds=3) < 9 * cpu_s(small, 4096, rounds=3) + 0.02


def test_five_mib_event_in_single_bytes() -> None:
    text = "€" * (5 * MIB // 3)
    body = f"data: {text}\n\n".encode()
    quarter_s = cpu_s(body[: len(body) // 4], 1, rounds=1)
    start_s = time.process_time()
    outcome = decode(pieces(body, 1))
    assert time.process_time() - start_s < 9 * quarter_s
    assert [event.data == text for event in outcome.events] == [True]


# --- encoder ---------------------------------------------------------------------------------------------


def test_encoded_blocks_on_the_wire() -> None:
    assert encode_event(event="e", id="7", data="a") == b"event: e\nid: 7\ndata: a\n\n"
    assert encode_event(event=None, id=None, data="") == b"data: \n\n"
    assert encode_event(event=None, id=None, data="a\r\nb\rc\n") == b"data: a\ndata: b\ndata: c\ndata: \n\n"
    assert encode_event(event="é", id="€", data="\u2028") == "event: é\nid: €\ndata: \u2028\n\n".encode()
    assert encode_id("k3f9a2c1.7") == b"id: k3f9a2c1.7\n\n"
    assert encode_retry(0) == b"retry: 0\n\n"
    assert encode_comment("a\nb") == b":a\n:b\n\n"


@pytest.mark.parametrize("bad", ["", "\n", "a\nb", "a\rdata: x", "a\r\n\r\n", "\r"])
def test_event_types_that_end_a_line_are_refused(bad: str) -> None:
    with pytest.raises(ValueError, match="event must not"):
        encode_event(event=bad, id=None, data="x")


@pytest.mark.parametrize("bad", ["", "\n", "a\nb", "a\rdata: x", "a\r\n\r\n", "\0", "a\0b"])
def test_ids_that_end_a_line_or_would_be_ignored_are_refused(bad: str) -> None:
    with pytest.raises(ValueError, match="id must not"):
        encode_event(event=None, id=bad, data="x")
    with pytest.raises(ValueError, match="id must not"):
        encode_id(bad)


def test_negative_retry_is_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        encode_retry(-1)


def test_lone_surrogates_are_refused() -> None:
    with pytest.raises(ValueError, match="surrogates not allowed"):
        encode_event(event=None, id=None, data="\ud800")


@pytest.mark.parametrize("attack", ["x\n\nevent: reset", "x\r\rdata: y", "x\r\n\r\nid: 9", "\n\n\n", "\n: c"])
def test_data_and_comments_cannot_open_another_block(attack: str) -> None:
    body = encode_comment(attack) + encode_event(event="e", id="1", data=attack)
    assert decode([body]).events == [ServerSentEvent("e", as_received(attack), "1")]


# --- surface ---------------------------------------------------------------------------------------------


def test_events_are_frozen_values() -> None:
    event = ServerSentEvent("e", "d", "i")
    assert event == ServerSentEvent(event="e", data="d", id="i")
    with pytest.raises(FrozenInstanceError):
        event.data = "x"  # type: ignore[misc]
    assert not hasattr(event, "__dict__")


def test_all_is_what_is_public() -> None:
    own = {name for name, value in vars(sse).items() if getattr(value, "__module__", None) == sse.__name__}
    assert set(sse.__all__) == {name for name in own if not name.startswith("_")}
