"""The page at /docs in a real browser, below a path that a proxy takes away: all of it comes from this server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from playwright.async_api import ConsoleMessage, Request, async_playwright

from tests.server.shop import API
from tests.serving import Served, serving, sqlite_settings

CHROMIUM_ARGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
                 "--disable-background-networking", "--disable-component-update"]  # fmt: skip
LIST = "#operations-Orders-orders_list"


@asynccontextmanager
async def below(prefix: str, served: Served) -> AsyncIterator[str]:
    """A proxy that serves *served* below *prefix*, and takes that away from what it passes on; its URL."""

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        method, _, rest = head.partition(b" ")
        if not rest.startswith(prefix.encode()):
            writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        else:
            upstream, sink = await asyncio.open_connection("127.0.0.1", served.port)
            request = method + b" " + rest.removeprefix(prefix.encode())
            sink.write(request.replace(b"Connection: keep-alive", b"Connection: close"))
            while piece := await upstream.read(65536):
                writer.write(piece)
                await writer.drain()
            sink.close()
        writer.close()

    server = await asyncio.start_server(forward, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}{prefix}"


async def test_the_page_shows_and_tries_every_operation(chromium_path: Path, tmp_path: Path) -> None:
    said: list[str] = []
    asked: list[str] = []

    def heard(message: ConsoleMessage) -> None:
        said.append(message.text)

    def requested(request: Request) -> None:
        asked.append(request.url)

    async with (
        serving(sqlite_settings(tmp_path)) as served,
        below("/shop/till", served) as url,
        async_playwright() as playwright,
    ):
        browser = await playwright.chromium.launch(executable_path=str(chromium_path), args=CHROMIUM_ARGS)
        page = await browser.new_page()
        page.on("console", heard)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", requested)
        await page.goto(f"{url}/docs")
        await page.locator(f"{LIST} .opblock-summary-control").click()
        await page.locator(f"{LIST} .try-out__btn").click()
        await page.locator(f"{LIST} .execute").click()
        answer = await page.locator(f"{LIST} .live-responses-table .response").inner_text()
        shown = await page.locator(".opblock").count()
        operations = await page.evaluate(
            "Object.values(ui.specSelectors.specJson().toJS().paths).map(p => Object.keys(p).length)"
        )
        await browser.close()

    assert '"orders": []' in answer
    assert shown == sum(operations) > 30
    assert f"{url}{API}/orders?limit=500" in asked
    assert [address for address in asked if not address.startswith(url)] == []
    assert said == []
