"""The page and its files: found, kept by browsers as long as is right, never mixed, nothing from elsewhere."""

import json
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from tests.serving import Served

pytestmark = pytest.mark.asyncio(loop_scope="session")

DASHBOARD = Path(__file__).parents[2] / "sync_server" / "dashboard"


@pytest_asyncio.fixture(loop_scope="session")
async def http(served: Served) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=served.url, trust_env=False) as client:
        yield client


async def links(http: httpx2.AsyncClient) -> list[str]:
    return re.findall(r'(?:href|src)="(assets/[^"]+)"', (await http.get("/")).text)


async def test_everything_the_page_names_is_there_for_ever(http: httpx2.AsyncClient) -> None:
    found = await links(http)
    assert len(found) > 40, "styles, and every module that is imported"
    for link in found:
        reply = await http.get(f"/{link}")
        assert (reply.status_code, reply.headers["cache-control"]) == (200, "public, max-age=31536000, immutable"), link


async def test_links_are_relative(http: httpx2.AsyncClient) -> None:
    page = (await http.get("/")).text
    assert not re.findall(r'(?:href|src)="(?:/|https?:)', page)


async def test_the_page_is_asked_for_again_and_answered_304(http: httpx2.AsyncClient) -> None:
    first = await http.get("/")
    assert first.headers["cache-control"] == "no-cache"
    again = await http.get("/", headers={"If-None-Match": f'"other", {first.headers["etag"]}'})
    assert (again.status_code, again.content) == (304, b"")


async def test_the_library_has_an_address_that_stays(http: httpx2.AsyncClient) -> None:
    reply = await http.get("/assets/latest/js/sync.js")
    assert reply.headers["content-type"].startswith("text/javascript")
    assert reply.headers["cache-control"] == "no-cache"
    assert reply.text == (DASHBOARD / "js" / "sync.js").read_text()


async def test_who_cannot_unpack_gets_the_plain_file(http: httpx2.AsyncClient) -> None:
    plain = await http.get("/assets/latest/css/base.css", headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    packed = await http.get("/assets/latest/css/base.css")
    assert packed.headers["content-encoding"] == "gzip"
    assert plain.text == packed.text


@pytest.mark.parametrize("path", ["pages.py", "index.html", "../app.py", "%2e%2e/app.py", "nothing.js", ""])
async def test_nothing_else_is_given_out(http: httpx2.AsyncClient, path: str) -> None:
    assert (await http.get(f"/assets/latest/{path}")).status_code == 404


async def test_only_own_scripts_and_styles_may_run(http: httpx2.AsyncClient) -> None:
    policy = (await http.get("/")).headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "style-src 'self';" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy


async def test_no_markup_is_made_of_text_and_nothing_comes_from_elsewhere() -> None:
    for path in [*DASHBOARD.rglob("*.js"), *DASHBOARD.rglob("*.css"), DASHBOARD / "index.html"]:
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|https?://", text), path


@pytest.fixture(scope="module")
def strings() -> dict[str, dict[str, Any]]:
    """The table of words, read by who can read it."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("No node to read the table of words with.")
    module = (DASHBOARD / "app" / "strings.js").as_uri()
    code = f"console.log(JSON.stringify((await import({module!r})).STRINGS))"
    printed = subprocess.run([node, "--input-type=module", "-e", code], capture_output=True, text=True, check=True)
    table: dict[str, dict[str, Any]] = json.loads(printed.stdout)
    return table


async def test_every_language_has_every_word(strings: dict[str, dict[str, Any]]) -> None:
    def holes(text: Any) -> set[str]:
        return set(re.findall(r"{\w+}", text if isinstance(text, str) else text["other"]))

    english, arabic = strings["en"], strings["ar"]
    assert {key: holes(text) for key, text in arabic.items()} == {key: holes(text) for key, text in english.items()}


async def test_every_word_is_used_and_every_use_has_its_word(strings: dict[str, dict[str, Any]]) -> None:
    sources = "".join(path.read_text("utf-8") for path in (DASHBOARD / "app").glob("*.js") if path.name != "strings.js")
    words = set(strings["en"])
    assert set(re.findall(r"\bt\('([\w.]+)'", sources)) <= words
    made = (
        "action.",
        "banner.",
        "bay.",
        "bays.idle.",
        "breaker.",
        "event.",
        "feed.",
        "health.",
        "login.",
        "order.",
        "page.",
    )
    made += ("payment.", "role.", "settings.", "stage.", "state.", "transport.")
    assert [word for word in words if f"'{word}'" not in sources and not word.startswith(made)] == []
