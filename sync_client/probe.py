"""Finds out whether Server-Sent Events work on this network, and if not, why.

Looks at a few streams and one plain request: how long the first byte takes beside a plain round trip (a proxy that
buffers shows there), how regular heartbeats come, and whether something cuts idle connections.
"""

import asyncio
import json
import time
from dataclasses import dataclass, field

from sync_client.errors import NetworkFailed, NotAStream, RequestFailed, Unauthorized
from sync_client.transport import POLL_PATH, Transport
from sync_core.sse import SSEDecoder

__all__ = ["Finding", "examine"]

FIRST_BYTE_S = 2.5
ROUND_TRIPS = 4


@dataclass
class Finding:
    """What was seen. Durations in seconds."""

    round_trip_s: float | None = None
    first_byte_s: float | None = None
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
        await transport.get_json(POLL_PATH, params={"limit": "1"}, token=token)
        finding.round_trip_s = time.monotonic() - began_s
    except Unauthorized as exc:
        finding.verdict = f"the server is there, but does not let us in: {exc}"
        return finding
    except NetworkFailed as exc:
        finding.verdict = f"the server cannot be reached at all: {exc}"
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
            decoder = SSEDecoder()
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
    if event == "connected":
        beat = json.loads(data).get("heartbeatSeconds")
        finding.heartbeat_s = float(beat) if isinstance(beat, int | float) else None


def _judge(finding: Finding, silent_s: float) -> str:
    if finding.first_byte_s is None:
        return (
            "a proxy on the way buffers: plain requests are answered "
            f"(in {finding.round_trip_s or 0:.2f} s), but the stream's first byte never came. Clients will poll. "
            "Have response buffering turned off for /api/v1/sync/events."
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
