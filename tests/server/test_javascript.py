"""The browser's module of declarations is what the declarations make."""

from sync_core.domain.catalog import DOMAIN
from sync_server.reference.javascript import FILE, declared


def test_the_file_is_up_to_date() -> None:
    written = FILE.read_text(encoding="utf-8")
    assert written == declared(DOMAIN), "run: python -m sync_server.reference.javascript"


def test_no_line_is_too_long() -> None:
    assert max(map(len, declared(DOMAIN).splitlines())) <= 120
