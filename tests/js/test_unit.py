"""The modules one by one: each test of unit/*.test.js is a test here, run in one page."""

import asyncio
import re
from pathlib import Path

import pytest
from playwright.async_api import Error, Page

FILES = sorted((Path(__file__).parent / "unit").glob("*.test.js"))
TESTS = [
    (file.name, name)
    for file in FILES
    for name in re.findall(r"^test\('([^']+)'", file.read_text(encoding="utf-8"), re.MULTILINE)
]

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.mark.parametrize(
    ("file", "name"), TESTS, ids=[f"{file.removesuffix('.test.js')}: {name}" for file, name in TESTS]
)
async def test_in_the_browser(file: str, name: str, unit_page: Page) -> None:
    try:
        async with asyncio.timeout(20):  # a page in an endless loop answers nobody
            await unit_page.evaluate(
                """async ([file, name]) => {
                  const { run } = await import('/tests/unit/harness.js');
                  await import(`/tests/unit/${file}`);
                  await run(`${name}`);
                }""",
                [file, name],
            )
    except Error as error:
        pytest.fail(str(error).removeprefix("Page.evaluate: "), pytrace=False)


async def test_every_test_of_the_files_is_run(unit_page: Page) -> None:
    """What the pattern above does not find would never be run."""
    registered = await unit_page.evaluate(
        """async (files) => {
          const { names } = await import('/tests/unit/harness.js');
          for (const file of files) await import(`/tests/unit/${file}`);
          return names();
        }""",
        [file.name for file in FILES],
    )
    assert sorted(registered) == sorted(name for _, name in TESTS)
