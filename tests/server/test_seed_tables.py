"""The tables of docs/seeds name files and tests that are there."""

import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs" / "seeds").glob("*.md"))
FOLDERS = ("sync_core", "sync_server", "sync_client", "tests", "e2e", "examples", "bench", "docs")


@cache
def files() -> list[str]:
    return [*FOLDERS] + [
        path.relative_to(ROOT).as_posix()
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*")
        if "__pycache__" not in path.parts and "node_modules" not in path.parts
    ]


@cache
def known_tests() -> frozenset[str]:
    sources = [path for folder in ("tests", "e2e") for path in (ROOT / folder).rglob("*.py")]
    return frozenset(name for path in sources for name in re.findall(r"def (test_\w+)", path.read_text("utf-8")))


FILE = re.compile(r"[\w./-]+\.(py|js|md|jsonl|toml),?|[\w./-]+/")


def named(page: Path) -> list[str]:
    """What stands in backticks in the tables, but for their first column: those are the seed's own words."""
    rows = [line for line in page.read_text("utf-8").splitlines() if line.startswith("|")]
    cells = [cell for row in rows for cell in row.split("|")[2:]]
    return [name for cell in cells for text in re.findall(r"`([^`]+)`", cell) for name in text.split()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_test_that_is_named_exists(page: Path) -> None:
    wanted = {name.rstrip("…_") for name in named(page) if re.fullmatch(r"test_[\w…]+", name)}
    missing = [name for name in wanted if not any(test.startswith(name) for test in known_tests())]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_file_that_is_named_exists(page: Path) -> None:
    wanted = {name.rstrip("/,") for name in named(page) if FILE.fullmatch(name)}
    missing = [name for name in wanted if not any(f"/{path}".endswith(f"/{name}") for path in files())]
    assert missing == []


def test_the_index_leads_to_every_page() -> None:
    index = (ROOT / "docs" / "seeds.md").read_text("utf-8")
    assert [page for page in PAGES if f"(seeds/{page.name})" not in index] == []
