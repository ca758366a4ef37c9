"""What the probe makes of a network, for the answers that no real server gives."""

import asyncio

import pytest

from sync_client.probe import Finding, examine
from sync_client.transport import Transport
from tests.client.scripted import EPOCH, STREAM_HEAD, Answer, Script, block, connected, plain, served


async def page(_: int, writer: asyncio.StreamWriter) -> None:
    writer.write(plain(200, {"events": [], "cursor": f"{EPOCH}.1"}))


def stream(*pieces: bytes) -> Answer:
    async def answer(_: int, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.02)
        await asyncio.sleep(60)

    return answer


async def found(answer: Answer) -> Finding:
    async with served(Script(answer, page)) as url:
        transport = Transport(url, trust_env=False)
        try:
            return await examine(transport, watch_s=0.15)
        finally:
            await transport.aclose()


async def test_a_stream_that_opens_and_goes_on_works() -> None:
    finding = await found(stream(connected(f"{EPOCH}.1"), block("heartbeat", {}, f"{EPOCH}.1")))
    assert (finding.works, finding.heartbeat_s) == (True, 15.0)


@pytest.mark.parametrize(
    "opening", [b"{}", b"[]", b"5", b"no json", b'{"heartbeatSeconds": 1%s}' % (b"0" * 400), b"[" * 100_000]
)
async def test_nonsense_in_connected_is_no_crash(opening: bytes) -> None:
    finding = await found(stream(STREAM_HEAD + b"event: connected\ndata: " + opening + b"\n\n"))
    assert (finding.works, finding.heartbeat_s) == (True, None)


@pytest.mark.parametrize("body", [b": here\n\n", b"data: x\n\n", b"x"])
async def test_a_body_that_never_says_connected_does_not_work(body: bytes) -> None:
    finding = await found(stream(STREAM_HEAD, body, body))
    assert not finding.works
    assert "never `connected`" in finding.verdict


@pytest.mark.alone
async def test_an_event_without_an_end_is_told() -> None:
    finding = await found(stream(connected(f"{EPOCH}.1"), b"data: " + b"x" * 9_000_000))
    assert not finding.works
    assert "larger than" in finding.verdict
