"""The service that the public SSE contract tests drive: python -m tests.sse_contract_service [--port 8000].

    GET /          what this client can
    POST /         open a client: streamUrl, callbackUrl, tag, initialDelayMs, readTimeoutMs, lastEventId, headers,
                   method, body; answers 201 and a Location
    POST <Location>    {"command": "restart"}
    DELETE <Location>  close it
    DELETE /       stop the service

A body that is none of these is answered 400, with what is wrong with it.

Each client is this library's own connection: its transport, its driver with the state machine, its decoder. What
differs is the sink behind them, which reports events to ``callbackUrl`` instead of storing them, and the policy:
any server's streams, so no polling and no patience for a first byte.
"""

import argparse
import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import httpx2
import uvicorn
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sync_client.backoff import Backoff
from sync_client.breaker import Breaker
from sync_client.driver import Driver
from sync_client.limits import Limits
from sync_client.notes import NOTHING, Taken
from sync_client.states import Happening, Machine, Policy, Signal, State
from sync_client.tokens import Tokens
from sync_client.transport import Transport
from sync_core.sse import ServerSentEvent, SSEDecoder

CAPABILITIES = [
    "bom", "comments", "headers", "last-event-id", "post", "report", "read-timeout", "restart",
    "server-directed-shutdown-request",
]  # fmt: skip
DEFAULT_DELAY_S = 1.0

Report = Callable[[dict[str, Any]], Awaitable[None]]


class Wanted(BaseModel):
    """The body that opens a client."""

    model_config = ConfigDict(alias_generator=to_camel)

    stream_url: str
    callback_url: str
    initial_delay_ms: float | None = Field(None, ge=0)
    read_timeout_ms: float | None = Field(None, gt=0)
    last_event_id: str | None = None
    headers: dict[str, str] | None = None
    method: str | None = None
    body: str | None = None


class Command(BaseModel):
    """The body of a command to a client."""

    command: str


class ReportingSink:
    """See sync_client.notes.Sink: whatever a stream brings is told, in order."""

    opens_with_headers = True

    def __init__(self, decoder: SSEDecoder, report: Report, *, stall_s: float | None) -> None:
        self._decoder = decoder
        self._report = report
        self.stall_s = stall_s

    @property
    def cursor(self) -> str:
        return self._decoder.last_event_id

    def stream_begins(self) -> None:
        pass

    async def take(self, events: Sequence[ServerSentEvent], *, last_event_id: str) -> Taken:
        for event in events:
            await self._report({"kind": "event", "event": {"type": event.event, "data": event.data, "id": event.id}})
        return NOTHING

    async def take_page(self, page: dict[str, Any]) -> Taken:
        raise AssertionError("it never polls")

    async def lose_cursor(self, document: dict[str, Any]) -> Taken:
        raise AssertionError("it never polls")


class ContractClient:
    """One client on one URL. *report* is called for each event and comment, and for silence, refusal and failure."""

    def __init__(
        self,
        url: str,
        report: Report,
        *,
        initial_delay_s: float = DEFAULT_DELAY_S,
        read_timeout_s: float | None = None,
        last_event_id: str = "",
        headers: Mapping[str, str] | None = None,
        method: str = "GET",
        body: bytes | None = None,
        changed: Callable[[Machine, Machine, Happening], None] = lambda *_: None,
    ) -> None:
        self._queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._report = report
        self._on_changed = changed
        self._transport = Transport(url, headers=headers, trust_env=False)
        decoder = SSEDecoder(self._comment, last_event_id=last_event_id)
        self._driver = Driver(
            self._transport,
            ReportingSink(decoder, self._queue.put, stall_s=read_timeout_s),
            tokens=Tokens(None),
            policy=Policy(backoff=Backoff(base_s=initial_delay_s), polling=False),
            limits=Limits(first_byte_s=None),
            breaker=Breaker(clock=asyncio.get_running_loop().time, rng=random.random),
            params={},
            stream_path="",
            stream_method=method,
            stream_body=body,
            decoder=decoder,
            honours_retry=True,
            changed=self._changed,
        )
        self._reporting = asyncio.create_task(self._forward())

    @property
    def state(self) -> State:
        return self._driver.machine.state

    def start(self) -> None:
        self._driver.start()
        self._driver.signal(Signal.CONNECT)

    def restart(self) -> None:
        self._driver.signal(Signal.REOPEN)

    async def aclose(self) -> None:
        await self._driver.aclose()
        self._reporting.cancel()
        await asyncio.gather(self._reporting, return_exceptions=True)
        await self._transport.aclose()

    def _comment(self, text: str) -> None:
        self._queue.put_nowait({"kind": "comment", "comment": text})

    def _changed(self, before: Machine, after: Machine, happening: Happening) -> None:
        # An open stream that ends is no error: it is opened again. One that fell silent is (read-timeout).
        if after.state in (State.ERROR, State.FAILED) or happening.reason == "silence":
            self._queue.put_nowait({"kind": "error", "error": after.reason or happening.reason})
        self._on_changed(before, after, happening)

    async def _forward(self) -> None:
        while True:
            await self._report(await self._queue.get())


class Service:
    """The HTTP side."""

    def __init__(self) -> None:
        self._clients: dict[str, ContractClient] = {}
        self._count = 0
        self._http = httpx2.AsyncClient(trust_env=False)
        self.stopped = asyncio.Event()

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/", self._describe, methods=["GET"]),
                Route("/", self._open, methods=["POST"]),
                Route("/", self._stop, methods=["DELETE"]),
                Route("/clients/{number}", self._command, methods=["POST"]),
                Route("/clients/{number}", self._close, methods=["DELETE"]),
            ]
        )

    async def aclose(self) -> None:
        for client in self._clients.values():
            await client.aclose()
        await self._http.aclose()

    async def _describe(self, _: Request) -> Response:
        return JSONResponse({"capabilities": CAPABILITIES})

    async def _open(self, request: Request) -> Response:
        try:
            wanted = Wanted.model_validate_json(await request.body())
            client = self._client(wanted)
        except ValidationError as exc:
            return _refusal(exc)
        except ValueError as exc:  # a URL or a header that cannot be one
            return JSONResponse({"error": str(exc)}, status_code=400)
        self._count += 1
        number = str(self._count)
        self._clients[number] = client
        client.start()
        return Response(status_code=201, headers={"Location": f"/clients/{number}"})

    def _client(self, wanted: Wanted) -> ContractClient:
        """Raises ValueError."""
        told = 0

        async def report(message: dict[str, Any]) -> None:
            nonlocal told
            told += 1
            await self._http.post(f"{wanted.callback_url}/{told}", json=message)

        return ContractClient(
            wanted.stream_url,
            report,
            initial_delay_s=DEFAULT_DELAY_S if wanted.initial_delay_ms is None else wanted.initial_delay_ms / 1000,
            read_timeout_s=None if wanted.read_timeout_ms is None else wanted.read_timeout_ms / 1000,
            last_event_id=wanted.last_event_id or "",
            headers=wanted.headers,
            method=wanted.method or "GET",
            body=None if wanted.body is None else wanted.body.encode(),
        )

    async def _command(self, request: Request) -> Response:
        client = self._clients.get(request.path_params["number"])
        if client is None:
            return Response(status_code=404)
        try:
            wanted = Command.model_validate_json(await request.body())
        except ValidationError as exc:
            return _refusal(exc)
        if wanted.command == "restart":
            client.restart()
            return Response(status_code=202)
        return Response(status_code=400)

    async def _close(self, request: Request) -> Response:
        client = self._clients.pop(request.path_params["number"], None)
        if client is None:
            return Response(status_code=404)
        await client.aclose()
        return Response(status_code=204)

    async def _stop(self, _: Request) -> Response:
        self.stopped.set()
        return Response(status_code=204)


def _refusal(exc: ValidationError) -> Response:
    errors = exc.errors(include_context=False, include_input=False, include_url=False)
    return JSONResponse({"errors": errors}, status_code=400)


async def run(port: int) -> None:
    """Serve until DELETE /."""
    service = Service()
    server = uvicorn.Server(uvicorn.Config(service.app(), host="127.0.0.1", port=port, log_level="warning"))
    serving = asyncio.create_task(server.serve())
    await service.stopped.wait()
    server.should_exit = True
    await serving
    await service.aclose()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8000)
    asyncio.run(run(parser.parse_args().port))


if __name__ == "__main__":
    main()
