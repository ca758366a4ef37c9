"""What readers of each form get: the same content, made once for all of a channel."""

import json
from typing import Any

import pytest

from sync_core.filters import Filter
from sync_core.sse import SSEDecoder
from sync_server.access.rights import Rights
from sync_server.feed.connection import Blocked, Chunk
from sync_server.feed.frames import payloads
from sync_server.feed.framing import MESSAGES, SSE, Framing, MappedMessages
from sync_server.feed.hub import Hub
from sync_server.feed.reader import Reader
from sync_server.feed.view import View
from tests.feed.hubs import memory_hub, view_of
from tests.feed.test_rights_live import order_event

ROLE = Rights(frozenset({"view_orders"}), frozenset({"role:csr"}))


class Frames:
    """A connection that keeps what it is given."""

    def __init__(self) -> None:
        self.chunks: list[bytes] = []

    @property
    def messages(self) -> list[dict[str, Any]]:
        return [json.loads(payload) for chunk in self.chunks for payload in payloads(chunk)]

    def write(self, chunk: Chunk) -> Blocked | None:
        self.chunks.append(chunk.body)
        return None

    def finish(self, body: bytes) -> None:
        self.chunks.append(body)

    def abort(self) -> None: ...


def begin(hub: Hub, framing: Framing, *, view: View | None = None, cursor: int | None = None) -> Frames:
    frames = Frames()
    reader = Reader(
        hub, frames, view=view or view_of(), cursor=hub.flushed if cursor is None else cursor, framing=framing
    )
    hub.admit(reader, lifetime_s=600)
    reader.begin(b"")
    return frames


@pytest.mark.parametrize(
    ("event", "data", "retry_ms"),
    [("caught_up", {}, None), ("goodbye", {"reason": "slow"}, 100), ("heartbeat", {"head": "a.1"}, None)],
)
def test_control_events_say_the_same_in_both_forms(event: str, data: dict[str, Any], retry_ms: int | None) -> None:
    decoder = SSEDecoder()
    (block,) = decoder.feed(SSE.control(event, data, event_id="k3f9a2c1.7", retry_ms=retry_ms))
    (payload,) = payloads(MESSAGES.control(event, data, event_id="k3f9a2c1.7", retry_ms=retry_ms))
    message = json.loads(payload)
    assert (block.event, block.id) == (message["eventType"], message["id"])
    assert message["data"].pop("retryMs", None) == decoder.retry_ms == retry_ms
    assert json.loads(block.data) == message["data"]


async def test_readers_of_one_form_share_a_channel_and_the_very_bytes() -> None:
    async with memory_hub() as (log, hub):
        messages = [begin(hub, MESSAGES) for _ in range(3)]
        blocks = [begin(hub, SSE) for _ in range(3)]
        assert len(hub.channels) == 2
        hub.tail.offer(log.append(order_event(), order_event()))
        hub.flush()
        assert len({id(frames.chunks[-1]) for frames in messages}) == 1
        assert len({id(frames.chunks[-1]) for frames in blocks}) == 1
        decoder = SSEDecoder()
        assert [json.loads(e.data) for e in decoder.feed(blocks[0].chunks[-1])] == messages[0].messages[-2:]


async def test_a_mapping_is_asked_once_for_a_channel_and_may_leave_out() -> None:
    asked: list[str] = []

    def mapping(envelope: dict[str, Any]) -> dict[str, Any] | None:
        asked.append(envelope["id"])
        return None if envelope["id"].endswith(".2") else {"type": envelope["eventType"]}

    async with memory_hub() as (log, hub):
        frames = [begin(hub, MappedMessages(mapping)) for _ in range(5)]
        asked.clear()
        hub.tail.offer(log.append(order_event(), order_event(), order_event()))
        hub.flush()
        assert asked == [hub.cursor_text(n) for n in (1, 2, 3)]
        assert [frame.messages[1:] for frame in frames] == [[{"type": "order_updated"}] * 2] * 5


async def test_removals_and_rights_are_the_same_in_messages() -> None:
    async with memory_hub() as (log, hub):
        frames = begin(hub, MESSAGES, view=view_of(Filter(), rights=ROLE))
        hub.tail.offer(log.append(order_event("role:csr"), order_event("role:fueler")))
        hub.flush()
        assert [message["id"] for message in frames.messages[1:]] == [hub.cursor_text(1)]


async def test_heartbeats_and_advances_come_in_each_form() -> None:
    async with memory_hub() as (log, hub):
        nobody = view_of(Filter(event_types=frozenset({"qr_generated"})))
        forms = [begin(hub, framing, view=nobody) for framing in (SSE, MESSAGES)]
        hub.tail.offer(log.append(*(order_event() for _ in range(1200))))
        hub.flush()
        hub.clock.sweep()
        assert forms[0].chunks[-1] == f"id: {hub.cursor_text(1200)}\n\n".encode()
        assert forms[1].messages[-1] == {"id": hub.cursor_text(1200)}
        now_s = hub.now() + 60
        hub.now = lambda: now_s
        hub.clock.sweep()
        assert forms[0].chunks[-1].startswith(b"event: heartbeat\n")
        assert forms[1].messages[-1]["eventType"] == "heartbeat"
