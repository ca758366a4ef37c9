"""The cases that every client has to pass, through source.js in a real browser: bodies, statuses, types, redirects."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import BrowserContext

from tests.js.site import Site

pytestmark = pytest.mark.asyncio(loop_scope="session")

TESTS = Path(__file__).parents[1]
BODIES: list[dict[str, Any]] = json.loads(
    (TESTS / "core" / "cases" / "sse_decoder_cases.json").read_text(encoding="utf-8")
)["cases"]
ANSWERS: list[dict[str, Any]] = [
    case
    for case in json.loads((TESTS / "client" / "sse_connection_cases.json").read_text(encoding="utf-8"))["cases"]
    if case["kind"] in ("http", "redirect")
]
# The standard says to ignore the charset of the Content-Type. Chromium refuses all but UTF-8, which ours names.
NOT_CHROMIUM = {"format-utf-8"}
CASES = {str(n): case for n, case in enumerate([*BODIES, *ANSWERS]) if case["name"] not in NOT_CHROMIUM}

READ = """async (text) => {
  const { Source } = await import('/js/source.js');
  const read = ([number, types]) => new Promise((resolve) => {
    const events = [];
    new Source(`/api/case/${number}`, {
      factory: (url, init) => new EventSource(url, init), withCredentials: false, types,
      handlers: {
        event: (type, data, lastEventId) => { events.push({ type, data, lastEventId }); },
        failed: (isRefused) => { resolve([number, { events, isRefused }]); },
      },
    });
  });
  const found = [];
  for (const wanted of JSON.parse(text)) found.push(await read(wanted));
  return JSON.stringify(Object.fromEntries(found));
}"""


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The case whose number stands in the address, and then the end."""
    target = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
    number, _, step = target.removeprefix("/api/case/").partition("/")
    case = CASES[number]
    responses = case.get("connections", [case])
    given = responses[int(step or 0)]
    fields = [
        f"HTTP/1.1 {given['status']} x",
        "Connection: close",
        f"Content-Type: {given.get('content_type', 'text/plain')}",
    ]
    if "location" in given:
        fields[-1] = f"Location: /api/case/{number}/1"
    writer.write("\r\n".join(fields).encode() + b"\r\n\r\n" + base64.b64decode(given.get("bytes") or ""))
    await writer.drain()
    writer.close()


@pytest_asyncio.fixture(loop_scope="session")
async def scripted(site: Site) -> AsyncIterator[Site]:
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    site.upstream = ("127.0.0.1", server.sockets[0].getsockname()[1])
    yield site
    server.close()
    await server.wait_closed()


async def test_every_case_is_passed(context: BrowserContext, scripted: Site) -> None:
    page = await context.new_page()
    await page.goto(scripted.url("/page"))
    types = {n: sorted({"message", *(event["type"] for event in case["expected_events"])}) for n, case in CASES.items()}
    found = json.loads(await page.evaluate(READ, json.dumps(list(types.items()))))
    for number, case in CASES.items():
        is_refused = case.get("expected_state") == "closed"
        assert found[number] == {"events": case["expected_events"], "isRefused": is_refused}, case["name"]
