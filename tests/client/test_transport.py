"""How answers become errors: the pure logic of responses, without a socket."""

import httpx2
import pytest
import respx

from sync_client.errors import (
    CursorLost,
    NetworkFailed,
    NotAStream,
    Refused,
    RequestFailed,
    ServerBusy,
    StopAsked,
    Unauthorized,
)
from sync_client.transport import POLL_PATH, STREAM_PATH, Transport

BASE = "http://shop.example"


async def failure_of(transport: Transport) -> RequestFailed:
    with pytest.raises(RequestFailed) as failed:
        await transport.get_json(POLL_PATH)
    return failed.value


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (204, StopAsked), (400, Refused), (401, Unauthorized), (403, Unauthorized), (404, Refused), (408, ServerBusy),
        (410, Refused), (422, Refused), (425, ServerBusy), (429, ServerBusy), (500, ServerBusy), (502, ServerBusy),
        (503, ServerBusy), (304, Refused),
    ],
)  # fmt: skip
async def test_a_status_becomes_the_error_that_says_what_to_do(
    respx_mock: respx.MockRouter, status: int, kind: type[RequestFailed]
) -> None:
    respx_mock.get(f"{BASE}{POLL_PATH}").mock(httpx2.Response(status, headers={"Retry-After": "7"}))
    transport = Transport(BASE)
    failed = await failure_of(transport)
    await transport.aclose()
    assert (type(failed), failed.status) == (kind, status)
    assert failed.retry_after_s == (7 if kind is ServerBusy else None)


async def test_a_410_of_ours_carries_the_reset(respx_mock: respx.MockRouter) -> None:
    document = {"reason": "expired", "head": "aaaaaaaa.9", "floor": "aaaaaaaa.3"}
    respx_mock.get(f"{BASE}{POLL_PATH}").mock(httpx2.Response(410, json=document))
    transport = Transport(BASE)
    failed = await failure_of(transport)
    await transport.aclose()
    assert isinstance(failed, CursorLost)
    assert failed.document == document


@pytest.mark.parametrize(
    "error",
    [httpx2.ConnectError("x"), httpx2.ReadTimeout("x"), httpx2.RemoteProtocolError("x"), httpx2.PoolTimeout("x")],
)
async def test_network_errors_are_one_error(respx_mock: respx.MockRouter, error: Exception) -> None:
    respx_mock.get(f"{BASE}{POLL_PATH}").mock(side_effect=error)
    transport = Transport(BASE)
    assert type(await failure_of(transport)) is NetworkFailed
    await transport.aclose()


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"5", b"", b"\xff"])
async def test_what_is_no_json_object_is_told(respx_mock: respx.MockRouter, body: bytes) -> None:
    respx_mock.get(f"{BASE}{POLL_PATH}").mock(httpx2.Response(200, content=body))
    transport = Transport(BASE)
    assert type(await failure_of(transport)) is NotAStream
    await transport.aclose()


async def test_parameters_token_and_path_go_where_they_belong(respx_mock: respx.MockRouter) -> None:
    route = respx_mock.get(f"{BASE}/under/a/path{POLL_PATH}").mock(httpx2.Response(200, json={"ok": 1}))
    transport = Transport(f"{BASE}/under/a/path/", headers={"X-Client-ID": "till#1"})
    assert await transport.get_json(POLL_PATH, params={"orderID": "Ä,B"}, token="secret") == {"ok": 1}
    await transport.aclose()
    request = route.calls[0].request
    assert request.url.params["orderID"] == "Ä,B"
    assert request.headers["authorization"] == "Bearer secret"
    assert request.headers["x-client-id"] == "till#1"


@pytest.mark.parametrize("location", [f"https://shop.example{POLL_PATH}", "http://other.example/", "//other.example/"])
async def test_another_origin_gets_neither_token_nor_name(respx_mock: respx.MockRouter, location: str) -> None:
    respx_mock.get(f"{BASE}{POLL_PATH}").mock(httpx2.Response(302, headers={"Location": location}))
    target = respx_mock.get(location if "://" in location else f"http:{location}").mock(httpx2.Response(200, json={}))
    transport = Transport(BASE, headers={"X-Client-ID": "till#1"})
    await transport.get_json(POLL_PATH, token="secret")
    await transport.aclose()
    headers = target.calls[0].request.headers
    assert "authorization" not in headers
    assert "x-client-id" not in headers


async def test_the_last_event_id_travels_as_bytes(respx_mock: respx.MockRouter) -> None:
    answer = httpx2.Response(200, headers={"Content-Type": "text/event-stream; charset=utf-8"}, content=b"data: x\n\n")
    route = respx_mock.get(f"{BASE}{STREAM_PATH}").mock(answer)
    transport = Transport(BASE)
    async with transport.stream(last_event_id="…") as stream:
        assert [chunk async for chunk in stream.chunks()] == [b"data: x\n\n"]
    await transport.aclose()
    headers = dict(route.calls[0].request.headers.raw)
    assert headers[b"Last-Event-ID"] == "…".encode()
    assert headers[b"Accept-Encoding"] == b"identity"


@pytest.mark.parametrize("kind", ["text/html", "x bogus", "text/x-event-stream", ""])
async def test_another_media_type_is_no_stream(respx_mock: respx.MockRouter, kind: str) -> None:
    respx_mock.get(f"{BASE}{STREAM_PATH}").mock(httpx2.Response(200, headers={"Content-Type": kind}, content=b"x"))
    transport = Transport(BASE)
    with pytest.raises(NotAStream):
        async with transport.stream():
            pass
    await transport.aclose()
