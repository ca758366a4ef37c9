"""Bounds on what comes before a request."""

import socket
import time
from pathlib import Path

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
