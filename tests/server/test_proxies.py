"""Where a request comes from: believed of those who are trusted, and of nobody else."""

from typing import Any

import pytest

from sync_server.gate.proxies import Proxies

TRUSTED = ["10.0.0.0/8", "192.0.2.1", "2001:db8::/32"]


def located(peer: str | None, *headers: tuple[str, str], trusted: list[str] | None = None) -> tuple[str, str]:
    """The client's address and scheme, for a request from *peer*."""
    scope: dict[str, Any] = {
        "client": None if peer is None else (peer, 1234),
        "scheme": "http",
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers],
    }
    Proxies(TRUSTED if trusted is None else trusted).locate(scope)
    return (scope["client"] or ("-",))[0], scope["scheme"]


def forwarded(*values: str) -> list[tuple[str, str]]:
    return [("X-Forwarded-For", value) for value in values]


@pytest.mark.parametrize(
    ("peer", "values", "client"),
    [
        ("10.1.1.1", ["203.0.113.9"], "203.0.113.9"),
        ("::ffff:10.1.1.1", ["203.0.113.9"], "203.0.113.9"),
        ("2001:db8::5", ["203.0.113.9:5678"], "203.0.113.9"),
        ("10.1.1.1", ["[2001:4860::1]:80"], "2001:4860::1"),
        ("10.1.1.1", ["2001:4860::1"], "2001:4860::1"),
        ("10.1.1.1", ["1.1.1.1, 203.0.113.9"], "203.0.113.9"),  # the client wrote the first one
        ("10.1.1.1", ["1.1.1.1, 203.0.113.9, 10.2.2.2, 192.0.2.1"], "203.0.113.9"),
        ("10.1.1.1", ["1.1.1.1", "203.0.113.9"], "203.0.113.9"),  # a proxy that adds a header of its own
        ("10.1.1.1", ["10.3.3.3, 10.2.2.2"], "10.3.3.3"),  # all of them ours
        ("10.1.1.1", ["203.0.113.9, garbage"], "10.1.1.1"),
        ("10.1.1.1", ["203.0.113.9, unknown, 10.2.2.2"], "10.2.2.2"),
        ("10.1.1.1", [""], "10.1.1.1"),
        ("10.1.1.1", [", ,"], "10.1.1.1"),
        ("10.1.1.1", ["\xff\x00"], "10.1.1.1"),
        ("10.1.1.1", [], "10.1.1.1"),
        ("203.0.113.1", ["1.1.1.1"], "203.0.113.1"),
        ("192.0.2.2", ["1.1.1.1"], "192.0.2.2"),
    ],
)
def test_the_client_is_the_last_that_is_no_proxy_of_ours(peer: str, values: list[str], client: str) -> None:
    assert located(peer, *forwarded(*values))[0] == client


def test_the_scheme_is_what_the_nearest_proxy_says() -> None:
    proto = "X-Forwarded-Proto"
    assert located("10.1.1.1", (proto, "https"))[1] == "https"
    assert located("10.1.1.1", (proto, "http, https"))[1] == "https"
    assert located("10.1.1.1", (proto, "https"), (proto, "http"))[1] == "http"
    for value in ("javascript", "HTTPS ", "", "https\x00"):
        assert located("10.1.1.1", (proto, value))[1] == "http"
    assert located("203.0.113.1", (proto, "https"))[1] == "http"


def test_without_proxies_nothing_is_believed() -> None:
    headers = [*forwarded("1.1.1.1"), ("X-Forwarded-Proto", "https")]
    assert located("127.0.0.1", *headers, trusted=[]) == ("127.0.0.1", "http")
    assert located(None, *headers) == ("-", "http")
