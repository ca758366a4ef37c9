"""Clients that are none of ours: npm's `ws`, and a browser's own WebSocket. (`websockets` is in all other tests.)"""

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser

from tests.js.site import Site
from tests.serving import serving, sqlite_settings, stage_change
from tests.sockets.routes import echo, serve_at
from tests.sockets.test_socket import PATH

WS = Path(__file__).parent / "vendor" / "ws"

SCRIPT = """
const WebSocket = require(process.argv[1]);
const socket = new WebSocket(process.argv[2]);
socket.on("message", (data) => {
  const message = JSON.parse(data);
  console.log(JSON.stringify(message));
  if (message.eventType === "caught_up") socket.send('{"eventType": "ping"}');
  if (message.eventType === "stage_change") socket.send("x".repeat(1024 * 1024 + 1));
});
socket.on("close", (code) => console.log(JSON.stringify({ closed: code })));
socket.on("error", (error) => console.log(JSON.stringify({ failed: error.message })));
"""

PAGE = """
async (path) => {
  const socket = new WebSocket(location.origin.replace("http", "ws") + path);
  const seen = [];
  socket.onmessage = (message) => {
    seen.push(JSON.parse(message.data));
    if (seen.at(-1).eventType === "caught_up") socket.send(JSON.stringify({ eventType: "ping" }));
    if (seen.at(-1).eventType === "pong") fetch("/api/v1/sync/events", {
      method: "POST", headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ eventType: "stage_change", data: { newStage: "مغسول" }, orderID: "A" }),
    });
    if (seen.at(-1).eventType === "stage_change") socket.close(1000);
  };
  return await new Promise((done) => { socket.onclose = (closed) => done([seen, closed.code]); });
}
"""

OTHERS = """
(url) => new Promise((done) => {
  const socket = new WebSocket(url);
  socket.onopen = () => done("open");
  socket.onerror = () => done("refused");
})
"""


async def test_the_npm_package_ws(tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node")
    async with serving(sqlite_settings(tmp_path)) as served:
        url = f"ws://127.0.0.1:{served.port}/api/v1/sync/ws"
        process = await asyncio.create_subprocess_exec(
            node, "-e", SCRIPT, str(WS), url, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None

        async def said() -> dict[str, Any]:
            async with asyncio.timeout(20):
                return dict(json.loads(await process.stdout.readline()))  # type: ignore[union-attr]

        assert [(await said())["eventType"] for _ in range(3)] == ["connected", "caught_up", "pong"]
        await served.publish(stage_change(1, data={"newStage": "مغسول"}))
        assert (await said())["data"] == {"newStage": "مغسول"}
        assert (await said())["code"] == "TOO_LARGE"
        assert (await said())["closed"] == 1009
        _, errors = await process.communicate()
        assert (process.returncode, errors) == (0, b"")


@pytest.mark.asyncio(loop_scope="session")
async def test_a_browser_on_our_page(tmp_path: Path, browser: Browser) -> None:
    async with serving(sqlite_settings(tmp_path)) as served:
        page = await browser.new_page()
        try:
            await page.goto(f"{served.url}/")
            seen, code = await page.evaluate(PAGE, "/api/v1/sync/ws?orderID=A")
            assert [message["eventType"] for message in seen] == ["connected", "caught_up", "pong", "stage_change"]
            assert seen[-1]["data"] == {"newStage": "مغسول"}
            assert code == 1000
        finally:
            await page.close()


@pytest.mark.asyncio(loop_scope="session")
async def test_a_browser_on_pages_of_others(tmp_path: Path, browser: Browser) -> None:
    async with Site() as friend, Site() as stranger:
        settings = sqlite_settings(tmp_path, access={"cors_origins": [friend.url("")]})
        async with serving(settings) as served:
            serve_at(served, echo)
            page = await browser.new_page()
            try:
                for site, answer in ((friend, "open"), (stranger, "refused")):
                    await page.goto(site.url("/page"))
                    for path in ("/api/v1/sync/ws", PATH):
                        assert await page.evaluate(OTHERS, f"ws://127.0.0.1:{served.port}{path}") == answer
            finally:
                await page.close()
