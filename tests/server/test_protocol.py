"""Bounds on what comes around a request's body."""

import socket
import time
from pathlib import Path

import pytest

from sync_server.protocol import MAX_HEAD_BYTES
from tests.servers import SyncServer


def answer_to(port: int, *pieces: bytes) -> bytes:
    """What the server says to *pieces*, until it closes or has said a line."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        try:
            for piece in pieces:
                sock.sendall(piece)
            return sock.recv(65536)
        except ConnectionError:
            return b""


def test_a_head_without_end_is_refused(tmp_path: Path) -> None:
    with SyncServer(tmp_path) as server:
        lines = [b"a: b\r\n" * 1000] * (MAX_HEAD_BYTES // 6000 + 2)
        answer = answer_to(server.port, b"GET /healthz HTTP/1.1\r\n", *lines)
        assert answer == b"" or answer.startswith(b"HTTP/1.1 431 ")
        answer = answer_to(server.port, b"GET /healthz?" + b"a" * (MAX_HEAD_BYTES + 1))
        assert answer.startswith(b"HTTP/1.1 431 ")
        head, _, body = answer.partition(b"\r\n\r\n")
        assert b"content-length: %d\r\n" % len(body) in head + b"\r\n"
        assert server.get("/healthz") == 200


def test_a_large_filter_and_keep_alive_fit(tmp_path: Path) -> None:
    with SyncServer(tmp_path) as server, socket.create_connection(("127.0.0.1", server.port), timeout=10) as sock:
        values = b",".join([b"%0128d" % n for n in range(200)])
        for _ in range(5):  # the bound is per request, not per connection
            sock.sendall(b"GET /api/v1/sync/poll?orderID=" + values + b" HTTP/1.1\r\nHost: x\r\n\r\n")
            received = b""
            deadline_s = time.monotonic() + 10
            while b'"serverTime"' not in received:
                assert time.monotonic() < deadline_s
                received += sock.recv(65536)
            assert received.startswith(b"HTTP/1.1 200 ")


EVENT = b'{"eventType":"stage_change","orderID":"ORDER-001","data":{"newStage":"done","note":"%b"}}'
CHUNKED = (
    b"POST /api/v1/sync/events HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)


def chunk(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(body), body)


@pytest.mark.parametrize("at_once", [True, False])
def test_trailers_are_no_headers(tmp_path: Path, at_once: bool) -> None:
    """Or who comes through a proxy could say where from, in words that the proxy did not look at."""
    with SyncServer(tmp_path, config='[access]\ntrusted_proxies = ["127.0.0.1"]\n') as server:
        request = CHUNKED + chunk(EVENT % b"") + b"0\r\nX-Request-ID: smuggled\r\n\r\n"
        pieces = [request] if at_once else [request[:-20], request[-20:]]
        answer = answer_to(server.port, *pieces)
        assert answer.startswith(b"HTTP/1.1 201 ")
        assert b"x-request-id: " in answer.lower()
        assert b"smuggled" not in answer


@pytest.mark.parametrize(
    ("begin", "more"),
    [
        (chunk(EVENT % b"") + b"0\r\n", b"a: b\r\n"),
        (chunk(EVENT % b"") + b"0\r\na: ", b"bbbbbb"),
        (b"5;a=", b"bbbbbb"),
    ],
    ids=["trailers", "a trailer", "a chunk's extension"],
)
def test_what_follows_a_head_without_end_is_cut_off(tmp_path: Path, begin: bytes, more: bytes) -> None:
    with SyncServer(tmp_path) as server, socket.create_connection(("127.0.0.1", server.port), timeout=10) as sock:
        sock.sendall(CHUNKED + begin)
        with pytest.raises(ConnectionError):
            sock.sendall(more * 100 * MAX_HEAD_BYTES)
        assert server.get("/healthz") == 200


def test_a_body_may_come_in_any_pieces(tmp_path: Path) -> None:
    """What is counted between them begins anew with each."""
    body = EVENT % (b"x" * 200_000)
    with SyncServer(tmp_path) as server, socket.create_connection(("127.0.0.1", server.port), timeout=30) as sock:
        for size in (len(body), 50_000, 700):
            sock.sendall(CHUNKED)
            for begin in range(0, len(body), size):
                sock.sendall(b"%x;" % len(body[begin : begin + size]))
                sock.sendall(b"%b\r\n%b\r\n" % (b"e" * 500, body[begin : begin + size]))
            sock.sendall(b"0\r\nA: b\r\n\r\n")
            answer = sock.recv(65536)
            assert answer.startswith(b"HTTP/1.1 201 "), answer
