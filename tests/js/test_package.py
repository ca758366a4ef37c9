"""The package: what its types and its README say is what there is."""

import json
import re

import pytest
from playwright.async_api import Page

from tests.js.site import LIBRARY

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.mark.parametrize("module", ["sync", "react", "testing"])
async def test_the_types_declare_what_is_exported(module: str, unit_page: Page) -> None:
    text = (LIBRARY / f"{module}.d.ts").read_text(encoding="utf-8")
    declared = set(re.findall(r"^export declare (?:class|const|function) (\w+)", text, re.MULTILINE))
    exported = set(await unit_page.evaluate(f"import('/js/{module}.js').then((found) => Object.keys(found))"))
    if module == "react":  # which gives what sync.js gives as well
        exported -= set(await unit_page.evaluate("import('/js/sync.js').then((found) => Object.keys(found))"))
    assert declared == exported


async def test_the_types_know_every_option_and_member(unit_page: Page) -> None:
    text = (LIBRARY / "sync.d.ts").read_text(encoding="utf-8")
    options = re.search(r"export interface SyncOptions \{(.*?)\n\}", text, re.DOTALL)
    client = re.search(r"export declare class SyncClient \{(.*?)\n\}", text, re.DOTALL)
    assert options is not None
    assert client is not None
    found = await unit_page.evaluate(
        """Promise.all([import('/js/options.js'), import('/js/client.js')]).then(([{ readOptions }, { SyncClient }]) =>
          [Object.keys(readOptions({})), Object.getOwnPropertyNames(SyncClient.prototype)])"""
    )
    assert set(re.findall(r"^  (\w+)\?:", options[1], re.MULTILINE)) == set(found[0])
    assert set(re.findall(r"^  (?:readonly )?(\w+)[:(]", client[1], re.MULTILINE)) == set(found[1])


async def test_the_readme_knows_every_option_and_command(unit_page: Page) -> None:
    text = (LIBRARY / "README.md").read_text(encoding="utf-8")
    options = await unit_page.evaluate(
        "import('/js/options.js').then(({ readOptions }) => Object.keys(readOptions({})))"
    )
    table = text[text.index("## Options") : text.index("## The connection")]
    assert [name for name in options if f"`{name}`" not in table] == []
    commands = await unit_page.evaluate("import('/js/commands.js').then(({ COMMANDS }) => Object.keys(COMMANDS))")
    assert [name for name in commands if name.split(".")[1] not in text] == []


async def test_every_module_is_named_in_the_readme() -> None:
    text = (LIBRARY / "README.md").read_text(encoding="utf-8")
    small = {"cursor.js", "errors.js", "filter.js", "ids.js", "options.js", "page.js", "sync.js", "work.js"}
    assert sorted(f.name for f in LIBRARY.glob("*.js") if f.name not in text) == sorted(small - {"sync.js"})


async def test_what_the_package_offers_is_there() -> None:
    package = json.loads((LIBRARY / "package.json").read_text(encoding="utf-8"))
    entries = package["exports"].values()
    offered = [path for entry in entries for path in ([entry] if isinstance(entry, str) else entry.values())]
    assert [path for path in offered if not (LIBRARY / path).is_file()] == []


async def test_no_module_reaches_out_of_the_folder() -> None:
    """No dependency, no network address, no evaluation of text: what a strict content policy allows."""
    for file in LIBRARY.glob("*.js"):
        text = file.read_text(encoding="utf-8")
        imported = set(re.findall(r"from '([^']+)'", text))
        allowed = {"react"} if file.name in ("react.js", "panel.js") else set()
        assert {name for name in imported if not name.startswith("./")} <= allowed, file.name
        assert not re.search(r"\beval\(|new Function|innerHTML|document\.write|https?://(?!127)", text), file.name
