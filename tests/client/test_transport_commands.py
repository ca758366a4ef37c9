"""What the answers to a command become, without a socket: applied, refused by the server, or to be sent again."""

import json
from typing import Any

import httpx2
import pytest
import respx

from sync_client.errors import NetworkFailed, NotAStream, RequestFailed, ServerBusy, Unauthorized
from sync_client.transport import Reply, Transport

BASE = "http://shop.example"
URL = f"{BASE}/api/v1/orders/A"
PROBLEM = {"type": "stale", "title": "Conflict", "status": 409, "detail": "changed"}
OURS = {"Content-Type": "application/problem+json"}


async def ask(answer: httpx2.Response | Exception, mock: respx.MockRouter, **options: Any) -> Reply:
    route = mock.patch(URL)
    route.mock(side_effect=answer) if isinstance(answer, Exception) else route.mock(answer)
    transport = Transport(BASE, max_body_bytes=options.pop("max_body_bytes", 10_000))
    try:
        return await transport.command("PATCH", "/orders/A", **{"body": b"{}", "key": "k", "guard": None, **options})
    finally:
        await transport.aclose()


async def test_the_request_says_who_what_and_on_which_version(respx_mock: respx.MockRouter) -> None:
    answer = httpx2.Response(200, json={"cursor": "aaaaaaaa.1"})
    await ask(answer, respx_mock, body=b'{"notes":"x"}', key="key-1", guard=7, token="secret")
    request = respx_mock.calls.last.request
    assert request.content == b'{"notes":"x"}'
    sent = {
        name: request.headers.get(name) for name in ("content-type", "idempotency-key", "if-match", "authorization")
    }
    assert sent == {
        "content-type": "application/json", "idempotency-key": "key-1", "if-match": '"7"',
        "authorization": "Bearer secret",
    }  # fmt: skip


async def test_a_command_without_a_body_says_nothing_about_one(respx_mock: respx.MockRouter) -> None:
    await ask(httpx2.Response(200, json={"cursor": "aaaaaaaa.1"}), respx_mock, body=None)
    headers = respx_mock.calls.last.request.headers
    assert ("content-type" in headers, "if-match" in headers) == (False, False)


@pytest.mark.parametrize("status", [200, 201])
async def test_what_was_applied_comes_with_its_documents(respx_mock: respx.MockRouter, status: int) -> None:
    document = {"order": {"orderID": "A", "version": 2}, "cursor": "aaaaaaaa.1"}
    assert await ask(httpx2.Response(status, json=document), respx_mock) == Reply(status, document)


@pytest.mark.parametrize("status", [400, 403, 404, 405, 409, 410, 413, 415, 422])
async def test_a_refusal_of_the_server_is_an_answer(respx_mock: respx.MockRouter, status: int) -> None:
    problem = PROBLEM | {"status": status}
    answer = httpx2.Response(status, headers=OURS, content=json.dumps(problem))
    assert await ask(answer, respx_mock) == Reply(status, problem)


@pytest.mark.parametrize(
    "answer",
    [
        httpx2.Response(404, html="<h1>not here</h1>"),
        httpx2.Response(403, json=PROBLEM | {"status": 403}),
        httpx2.Response(403, headers=OURS, json=PROBLEM),
        httpx2.Response(413, headers=OURS, content=b"x" * 20_000),
        httpx2.Response(403, headers={"Content-Encoding": "br"}, content=b"\x00"),
    ],
    ids=["html", "another media type", "another status", "too large", "packed"],
)
async def test_a_refusal_that_is_no_problem_document_of_the_server_is_told_apart(
    respx_mock: respx.MockRouter, answer: httpx2.Response
) -> None:
    reply = await ask(answer, respx_mock)
    assert (reply.status, reply.is_ours) == (answer.status_code, False)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (httpx2.Response(401, headers=OURS, json=PROBLEM), Unauthorized),
        (httpx2.Response(408), ServerBusy),
        (httpx2.Response(425), ServerBusy),
        (httpx2.Response(429, headers={"Retry-After": "7"}), ServerBusy),
        (httpx2.Response(500), ServerBusy),
        (httpx2.Response(503, headers=OURS | {"Retry-After": "7"}, json={"type": "outcome-unknown"}), ServerBusy),
        (httpx2.Response(204), NotAStream),
        (httpx2.Response(200, html="<h1>Welcome</h1>"), NotAStream),
        (httpx2.Response(200, json={"welcome": True}), NotAStream),
        (httpx2.Response(200, json={"cursor": "aaaaaaaa.1", "x": "x" * 20_000}), NotAStream),
        (httpx2.Response(303, headers={"Location": "/api/v1/orders/A"}), NotAStream),
        (httpx2.Response(307, headers={"Location": "http://portal.example/login"}), NotAStream),
        (httpx2.Response(304), NotAStream),
        (httpx2.ReadTimeout("x"), NetworkFailed),
    ],
    ids=lambda value: str(getattr(value, "status_code", "")),
)
async def test_everything_else_is_to_be_sent_again(
    respx_mock: respx.MockRouter, answer: httpx2.Response | Exception, kind: type[RequestFailed]
) -> None:
    with pytest.raises(RequestFailed) as failed:
        await ask(answer, respx_mock)
    assert type(failed.value) is kind
    retry_after = answer.headers.get("retry-after") if isinstance(answer, httpx2.Response) else None
    assert failed.value.retry_after_s == (None if retry_after is None else 7)


async def test_a_redirect_within_the_server_is_followed_as_it_is(respx_mock: respx.MockRouter) -> None:
    there = respx_mock.patch(f"{BASE}/shop/orders/A").mock(httpx2.Response(200, json={"cursor": "aaaaaaaa.1"}))
    reply = await ask(httpx2.Response(307, headers={"Location": "/shop/orders/A"}), respx_mock, body=b'{"a":1}')
    assert reply.status == 200
    assert there.calls.last.request.content == b'{"a":1}'
    assert there.calls.last.request.headers["idempotency-key"] == "k"
