"""Connections of an EventSource, case by case from web-platform-tests, through the library's own connection path."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from sync_client.errors import ConfigurationError
from sync_client.states import State
from sync_client.transport import Transport
from tests.sse_contract_service import ContractClient, Service

CASES: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent / "sse_connection_cases.json").read_text(encoding="utf-8")
)["cases"]
ENDED = (State.CLOSED, State.FAILED)


class Scripted:
    """A server that answers with one script after the other, and the last one again."""

    def __init__(self, answers: list[dict[str, Any]], *, delay_s: float = 0.0) -> None:
        self.answers = answers
        self.delay_s = delay_s
        self.heads: list[dict[bytes, bytes]] = []
        self.answering: set[asyncio.Task[Any]] = set()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.answering.add(task)
        try:
            await self._answer(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # a client that is closed while it connects leaves without having asked
        finally:
            writer.close()
            self.answering.discard(task)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        lines = [line.partition(b":") for line in head.split(b"\r\n")[1:] if line]
        self.heads.append({name.lower(): value.strip() for name, _, value in lines})
        answer = self.answers[min(len(self.heads), len(self.answers)) - 1]
        await asyncio.sleep(self.delay_s)
        fields = [f"HTTP/1.1 {answer['status']} x", "Connection: close"]
        if answer.get("content_type") and answer["status"] != 204:
            fields.append(f"Content-Type: {answer['content_type']}")
        if answer.get("location"):
            fields += [f"Location: {answer['location']}", "Content-Length: 0"]
        writer.write("\r\n".join(fields).encode() + b"\r\n\r\n" + base64.b64decode(answer.get("bytes") or ""))
        await writer.drain()


@asynccontextmanager
async def scripted(server: Scripted) -> AsyncIterator[str]:
    listening = await asyncio.start_server(server, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/stream"
    finally:
        listening.close()
        if server.answering:
            await asyncio.wait(server.answering)
        await asyncio.sleep(0)  # a transport ends in the turn after its writer was closed


async def until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


def answers_of(case: dict[str, Any]) -> list[dict[str, Any]]:
    if "connections" in case:
        return [{"content_type": "text/event-stream", **connection} for connection in case["connections"]]
    return [{"status": case["status"], "content_type": case["content_type"], "bytes": case.get("bytes")}]


def wanted_events(case: dict[str, Any]) -> list[dict[str, str]]:
    return [{"type": e["type"], "data": e["data"], "id": e["lastEventId"]} for e in case["expected_events"] or []]


STREAMS = [case for case in CASES if case["kind"] in ("http", "redirect", "reconnect", "request")]


@pytest.mark.parametrize("case", STREAMS, ids=lambda case: case["name"])
async def test_connection(case: dict[str, Any]) -> None:
    events: list[dict[str, str]] = []

    async def report(message: dict[str, Any]) -> None:
        if message["kind"] == "event":
            events.append(message["event"])

    server, wanted = Scripted(answers_of(case)), wanted_events(case)
    # 503 and its like are tried again: the one divergence that is meant.
    final = case.get("expected_state") == "closed" and case["status"] < 500
    async with scripted(server) as url:
        client = ContractClient(url, report, initial_delay_s=0.01)
        client.start()
        try:
            await until(lambda: len(events) >= len(wanted) and (not final or client.state in ENDED))
            await until(lambda: len(server.heads) >= max(len(case.get("connections", ())), 1))
        finally:
            await client.aclose()
    assert events[: len(wanted)] == wanted
    if final:
        assert (events, len(server.heads)) == (wanted, max(len(case.get("connections", ())), 1))
    for name, value in case.get("expected_request_headers", {}).items():
        assert server.heads[0][name.encode()] == value.encode()
    for head, connection in zip(server.heads, case.get("connections", ()), strict=False):
        if "expected_request_last_event_id" in connection:
            expected = connection["expected_request_last_event_id"]
            assert head.get(b"last-event-id") == (None if expected is None else expected.encode())


@pytest.mark.parametrize("case", [case for case in CASES if case["kind"] == "url"], ids=lambda case: case["name"])
def test_an_address_that_cannot_be_one_is_told_at_once(case: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        Transport(case["url"])


async def test_close_while_the_answer_is_outstanding_stays_closed() -> None:
    server = Scripted(
        [{"status": 200, "content_type": "text/event-stream", "bytes": "cmV0cnk6MTAwMApkYXRhOmFiYwoKCg=="}], delay_s=0.3
    )
    events: list[Any] = []

    async def report(message: dict[str, Any]) -> None:
        events.append(message)

    async with scripted(server) as url:
        client = ContractClient(url, report, initial_delay_s=0.01)
        client.start()
        await until(lambda: server.heads)
        await client.aclose()
        await asyncio.sleep(0.6)
    assert (client.state, events, len(server.heads)) == (State.CLOSED, [], 1)


async def test_the_service_opens_reports_restarts_and_closes() -> None:
    body = base64.b64encode(b": hi\nretry: 50\nevent: greeting\nid: 7\ndata: hello\n\n").decode()
    server = Scripted([{"status": 200, "content_type": "text/event-stream", "bytes": body}])
    told: list[tuple[str, dict[str, Any]]] = []
    service = Service()

    async def callback(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
        told.append((head.split()[1].decode(), json.loads(await reader.readexactly(length))))
        writer.write(b"HTTP/1.1 202 x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    listening = await asyncio.start_server(callback, "127.0.0.1", 0)
    callback_url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/told"
    transport = httpx2.ASGITransport(app=service.app())
    async with scripted(server) as url, httpx2.AsyncClient(transport=transport, base_url="http://service") as http:
        assert "comments" in (await http.get("/")).json()["capabilities"]
        opened = await http.post("/", json={"streamUrl": url, "callbackUrl": callback_url, "headers": {"X-A": "b"}})
        assert opened.status_code == 201
        await until(lambda: len(told) >= 4)
        location = opened.headers["location"]
        assert (await http.post(location, json={"command": "restart"})).status_code == 202
        assert (await http.delete(location)).status_code == 204
        assert (await http.delete("/")).status_code == 204
    listening.close()
    await service.aclose()
    event = {"type": "greeting", "data": "hello", "id": "7"}
    assert told[:2] == [
        ("/told/1", {"kind": "comment", "comment": " hi"}),
        ("/told/2", {"kind": "event", "event": event}),
    ]
    assert told[3] == ("/told/4", {"kind": "event", "event": event})
    assert server.heads[0][b"x-a"] == b"b"
    assert server.heads[1][b"last-event-id"] == b"7"
