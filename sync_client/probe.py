"""Finds out whether Server-Sent Events work on this network, and if not, why.

Looks at a few streams and one plain request: how long the first byte takes beside a plain round trip (a proxy that
buffers shows there), how regular heartbeats come, and whether something cuts idle connections.
"""

import asyncio
import json
import time
from dataclasses import dataclass, field

from sync_client.errors import NetworkFailed, NotAStream, Refused, RequestFailed, Unauthorized
from sync_client.transport import MAX_BODY_BYTES, Transport
from sync_core.paths import POLL_PATH
from sync_core.sse import SSEDecoder, SSEEventTooLarge

__all__ = ["Finding", "examine"]

PLAIN_S = 30.0
"""A plain answer that takes longer is none, however steadily it trickles."""
FIRST_BYTE_S = 2.5
ROUND_TRIPS = 4


@dataclass
class Finding:
    """What was seen. Durations in seconds."""

    round_trip_s: float | None = None
    first_byte_s: float | None = None
    is_ours: bool = False
    """Whether it said `connected`, as every stream of the server does."""
    heartbeat_s: float | None = None
    """What the server announced."""
    beats_s: list[float] = field(default_factory=list)
    """The gaps between what came."""
    cut_after_s: float | None = None
    works: bool = False
    verdict: str = ""


async def examine(transport: Transport, *, watch_s: float, token: str | None = None) -> Finding:
    """Watch one stream for *watch_s* and say what was found."""
    finding = Finding()
    try:
        began_s = time.monotonic()
        async with asyncio.timeout(PLAIN_S):
            await transport.get_json(POLL_PATH, params={"limit": "1"}, token=token)
        finding.round_trip_s = time.monotonic() - began_s
    except TimeoutError:
        finding.verdict = f"the server is not done with a plain answer within {PLAIN_S:g} s"
        return finding
    except Unauthorized as exc:
        finding.verdict = f"the server is there, but does not let us in: {exc}"
        return finding
    except NetworkFailed as exc:
        finding.verdict = f"the server cannot be reached at all: {exc}"
        return finding
    except (NotAStream, Refused) as exc:
        finding.verdict = f"this is not the address of an order-sync server: {exc}"
        return finding
    except RequestFailed as exc:
        finding.verdict = f"plain requests do not work: {exc}"
        return finding
    await _watch(transport, finding, watch_s, token)
    return finding


async def _watch(transport: Transport, finding: Finding, watch_s: float, token: str | None) -> None:
    limit_s = FIRST_BYTE_S + ROUND_TRIPS * (finding.round_trip_s or 0.0)
    began_s = last_s = time.monotonic()
    try:
        async with asyncio.timeout(limit_s) as deadline, transport.stream(token=token) as stream:
            decoder = SSEDecoder(max_event_bytes=MAX_BODY_BYTES)
            async for chunk in stream.chunks():
                now_s = time.monotonic()
                if finding.first_byte_s is None:
                    finding.first_byte_s = now_s - began_s
                    deadline.reschedule(asyncio.get_running_loop().time() + watch_s)
                else:
                    finding.beats_s.append(now_s - last_s)
                last_s = now_s
                for event in decoder.feed(chunk):
                    _note(finding, event.event, event.data)
        finding.cut_after_s = time.monotonic() - began_s
    except TimeoutError:
        pass
    except SSEEventTooLarge as exc:
        finding.verdict = f"this is not a stream of an order-sync server: {exc}"
        return
    except NotAStream as exc:
        finding.verdict = f"somebody answers in the server's place: {exc}"
        return
    except RequestFailed as exc:
        finding.cut_after_s = time.monotonic() - began_s
        if finding.first_byte_s is None:
            finding.verdict = f"streams are refused: {exc}"
            return
    finding.verdict = _judge(finding, time.monotonic() - last_s)
    finding.works = finding.verdict.startswith("works")


def _note(finding: Finding, event: str, data: str) -> None:
    if event != "connected":
        return
    finding.is_ours = True
    try:
        beat_s = json.loads(data)["heartbeatSeconds"]
    except (ValueError, RecursionError, LookupError, TypeError):
        return
    if isinstance(beat_s, int | float) and 0 < beat_s <= 3600:
        finding.heartbeat_s = float(beat_s)


def _judge(finding: Finding, silent_s: float) -> str:
    if finding.first_byte_s is None:
        return (
            "a proxy on the way buffers: plain requests are answered "
            f"(in {finding.round_trip_s or 0:.2f} s), but the stream's first byte never came. Clients will poll. "
            "Have response buffering turned off for /api/v1/sync/events."
        )
    if not finding.is_ours:
        return (
            "bytes come, but never `connected`: what answers there is no stream of an order-sync server, or something "
            "on the way changes it. Clients will poll."
        )
    if finding.cut_after_s is not None:
        return (
            f"something cuts the stream after {finding.cut_after_s:.1f} s. Clients reconnect, and poll if it happens "
            "often. Look for an idle timeout below the server's heartbeat."
        )
    if finding.heartbeat_s is not None and silent_s > 2.5 * finding.heartbeat_s:
        return f"the stream opened, but nothing came for {silent_s:.1f} s: somebody holds it back."
    if not finding.beats_s:
        return "works so far: the stream opened; watch for longer than a heartbeat to see that it stays open."
    return "works: the stream opens at once, and heartbeats come through as they are sent."
