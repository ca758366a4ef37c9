"""``sync-client status`` and ``probe``: look once, and say whether events come."""

import asyncio
import json
from contextlib import suppress

from sync_client.client import SyncClient
from sync_client.console.screen import err, health_rows, out, status_line, table
from sync_client.health import as_rows
from sync_client.probe import Finding, examine
from sync_client.states import State
from sync_client.transport import Transport

__all__ = ["gave_up", "probe", "status"]

LOOK_S = 0.02
CAUGHT_UP_LOOKS = 100


async def status(client: SyncClient, *, timeout_s: float, as_json: bool) -> int:
    """Connect, tell, and go. The exit status."""
    async with client:
        with suppress(TimeoutError):
            await client.wait_for(State.CONNECTED, State.FAILED, State.CLOSED, State.POLLING, timeout_s=timeout_s)
            for _ in range(CAUGHT_UP_LOOKS):  # the head comes with the same write, mostly
                if client.state is not State.CONNECTED or client.health.caught_up:
                    break
                await asyncio.sleep(LOOK_S)
        health = client.health
        good = client.state in (State.CONNECTED, State.POLLING)
        ended = gave_up(client)
    if as_json:
        print(json.dumps(as_rows(health)))  # noqa: T201 - for programs: no wrapping, no markup
        return 0 if good else 1
    out.print(status_line(health))
    out.print(table("", {name: value for name, value in health_rows(health).items() if value != "-"}))
    if not good:
        reason = health.reason or health.last_error or "no answer yet"
        err.print(f"sync-client: {ended or f'no connection to {client.base_url}: {reason}'}", markup=False)
    return 0 if good else 1


def gave_up(client: SyncClient) -> str:
    """Why this client will not try any more, and what to do; "" while it does."""
    if client.state is State.FAILED:
        return f"failed: {client.health.reason}. Are {client.base_url} and the token right?"
    return f"closed: {client.health.reason}" if client.state is State.CLOSED else ""


async def probe(url: str, *, watch_s: float, token: str | None) -> int:
    """Watch a stream and say what was found. The exit status."""
    transport = Transport(url)
    try:
        finding = await examine(transport, watch_s=watch_s, token=token)
    finally:
        await transport.aclose()
    if rows := _finding_rows(finding):
        out.print(table(f"Server-Sent Events at {url}", rows))
    out.print(finding.verdict, markup=False)
    return 0 if finding.works else 1


def _finding_rows(finding: Finding) -> dict[str, str]:
    """What was measured."""
    beats = finding.beats_s
    rows = {
        "plain round trip": finding.round_trip_s,
        "first byte of a stream": finding.first_byte_s,
        "heartbeat announced": finding.heartbeat_s,
        "shortest gap": min(beats, default=None),
        "longest gap": max(beats, default=None),
        "cut after": finding.cut_after_s,
    }
    return {name: f"{value:.3f} s" for name, value in rows.items() if value is not None}
