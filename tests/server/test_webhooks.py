"""Webhooks: who has the secret publishes, once, now, and just what the configuration makes of it."""

import hmac
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.server.publishing import assert_problem, head, log_untouched, read
from tests.servers import SyncServer

SECRET = "of-the-cms-0123456789abcdefghijklmnop"
CONFIG = f"""
[events]
custom = [{{ name = "blip", delivery = "ephemeral" }}]
[webhooks.cms]
secret = "{SECRET}"
event_type = "status_update"
key = "/id"
keys = {{ orderID = "/doc/orderID", bayID = "/doc/bays/0/id" }}
data = {{ status = "/doc/status", "note/x" = "/doc/a~1b" }}
audience = ["role:csr"]
[webhooks.whole]
secret = "{SECRET}"
event_type = "payment_update"
signature_header = "X-Hub-Signature-256"
timestamp_header = "X-Time"
[webhooks.passing]
secret = "{SECRET}"
event_type = "blip"
"""
DOC = {"orderID": "ORDER-1", "status": "ready", "bays": [{"id": 7}], "a/b": [1]}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SyncServer]:
    with SyncServer(tmp_path_factory.mktemp("webhooks"), config=CONFIG) as server:
        yield server
        assert "Traceback" not in server.log_text()


@pytest.fixture
def http(server: SyncServer) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=server.base_url, timeout=30, trust_env=False) as client:
        yield client


def sign(timestamp: str, body: bytes, *, secret: str = SECRET) -> str:
    return hmac.new(secret.encode(), timestamp.encode() + b"." + body, sha256).hexdigest()


def send(
    http: httpx2.Client, content: Any, *, source: str = "cms", timestamp: str | None = None, **headers: str
) -> httpx2.Response:
    """A signed request; *headers* (underscores for hyphens) replace its own."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    timestamp = timestamp if timestamp is not None else str(int(time.time()))
    given = {"Content-Type": "application/json", "X-Timestamp": timestamp, "X-Signature": sign(timestamp, body)}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    return http.post(f"/api/v1/webhooks/{source}", content=body, headers=given)


def test_a_signed_request_becomes_the_event_of_its_mapping(http: httpx2.Client) -> None:
    receipt = send(http, {"id": "first", "doc": DOC}).json()["events"][0]
    (event,) = read(http, after=receipt["id"].partition(".")[0] + ".0")[-1:]
    assert event["id"] == receipt["id"]
    assert (event["eventType"], event["orderID"], event["bayID"]) == ("status_update", "ORDER-1", "7")
    assert event["data"] == {"status": "ready", "note/x": [1]}
    assert "audience" not in event
    assert "key" not in event


def test_without_a_mapping_all_of_it_is_the_data(http: httpx2.Client) -> None:
    body = json.dumps({"status": "paid", "n": 1}).encode()
    now = str(int(time.time()))
    headers = {"X_Hub_Signature_256": f"sha256={sign(now, body).upper()}", "X_Time": now}
    reply = send(http, body, source="whole", **headers)
    assert reply.status_code == 201
    assert read(http, after=reply.json()["events"][0]["id"].partition(".")[0] + ".0")[-1]["data"]["n"] == 1


@pytest.mark.parametrize(
    "headers",
    [
        {"X_Signature": ""}, {"X_Signature": "0" * 64}, {"X_Signature": "not hex"}, {"X_Signature": "sha256="},
        {"X_Timestamp": ""}, {"X_Timestamp": "9"}, {"X_Timestamp": str(int(time.time()) + 1)},
    ],
)  # fmt: skip
def test_a_signature_that_does_not_fit_is_refused(http: httpx2.Client, headers: dict[str, str]) -> None:
    with log_untouched(http):
        assert_problem(send(http, {"id": "forged", "doc": DOC}, **headers), 401)


def test_a_secret_of_another_source_or_another_body_does_not_fit(http: httpx2.Client) -> None:
    now, body = str(int(time.time())), b'{"doc": {"status": "x"}}'
    with log_untouched(http):
        for signature in (sign(now, body, secret="x" * 40), sign(now, body + b" "), sign("1", body), sign(now, b"")):
            assert_problem(send(http, body, timestamp=now, X_Signature=signature), 401)


@pytest.mark.parametrize("off_s", [-301, 302, -(10**9)])
def test_an_old_request_is_refused_though_it_is_signed(http: httpx2.Client, off_s: int) -> None:
    assert_problem(send(http, {"doc": DOC}, timestamp=str(int(time.time()) + off_s)), 401)


@pytest.mark.parametrize("timestamp", ["1e9", "-5", "+1", "١٢٣", "9" * 400, "1.5"])
def test_a_timestamp_of_another_form_is_refused_though_it_is_signed(http: httpx2.Client, timestamp: str) -> None:
    body = b"{}"
    signature = sign(timestamp, body)
    headers = {"Content-Type": "application/json", "X-Signature": signature}
    reply = http.post(
        "/api/v1/webhooks/cms", content=body, headers=[*headers.items(), ("X-Timestamp", timestamp.encode())]
    )
    assert_problem(reply, 401)


def test_a_clock_that_is_a_little_off_is_borne_with(http: httpx2.Client) -> None:
    for off_s in (-290, 290):
        assert send(http, {"id": f"off {off_s}", "doc": DOC}, timestamp=str(int(time.time()) + off_s)).is_success


def test_the_same_request_again_is_refused(http: httpx2.Client) -> None:
    now = str(int(time.time()))
    assert send(http, {"id": "again", "doc": DOC}, timestamp=now).status_code == 201
    with log_untouched(http):
        assert_problem(send(http, {"id": "again", "doc": DOC}, timestamp=now), 409)
    now = str(int(time.time()))
    assert send(http, {"n": 1}, source="passing", timestamp=now).status_code == 201
    assert_problem(send(http, {"n": 1}, source="passing", timestamp=now), 409)


def test_what_the_source_tells_again_is_known_by_its_own_key(http: httpx2.Client) -> None:
    now = int(time.time())
    first = send(http, {"id": "told", "doc": DOC}, timestamp=str(now)).json()["events"][0]
    again = send(http, {"id": "told", "doc": DOC}, timestamp=str(now + 1)).json()["events"][0]
    assert (again["id"], again["duplicate"]) == (first["id"], True)
    other = {**DOC, "status": "other"}
    assert_problem(send(http, {"id": "told", "doc": other}, timestamp=str(now + 2)), 422, "key")


def test_a_refused_event_may_be_sent_again(http: httpx2.Client) -> None:
    """What was not published has not been taken."""
    now = str(int(time.time()))
    for _ in range(2):
        assert_problem(send(http, {"id": "wrong", "doc": {"status": 5}}, timestamp=now), 422, "data.status")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400), (b"{", 400), (b'{"doc": {"status": NaN}}', 400), (b"[1]", 422), (b"5", 422), (b"null", 422),
        (b'{"doc": 1}', 422), (b'{"doc": {"status": "x", "orderID": "a,b"}}', 422),
        (b'{"doc": {"status": 1e999}}', 400),
        (b'{"doc": {"status": "x", "orderID": {"a": 1}}}', 201), (b'{"doc": {"status": "x", "bays": {}}}', 201),
        (b'{"doc": {"status": "x", "bays": []}}', 201), (b"[" * 3000, 400), (b'"' + b"x" * 1_100_000 + b'"', 413),
    ],
)  # fmt: skip
def test_any_body_gets_its_status(http: httpx2.Client, body: bytes, status: int) -> None:
    assert send(http, body).status_code == status


def test_a_large_event_is_refused(http: httpx2.Client) -> None:
    assert_problem(send(http, {"doc": {"status": "x" * 300_000}}), 413, "")


def test_only_json_is_read_and_only_known_sources_are_there(http: httpx2.Client) -> None:
    assert_problem(send(http, {}, Content_Type="text/plain"), 415)
    assert_problem(send(http, {}, source="nowhere"), 404)
    assert http.get("/api/v1/webhooks/cms").status_code == 405


def test_the_hook_for_payload_cms_tells_of_a_change_once(server: SyncServer, http: httpx2.Client) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node")
    hook = Path(__file__).parents[2] / "examples" / "payload_cms" / "afterChange.mjs"
    change = {
        "doc": {"id": 5, "updatedAt": "2026-11-20T10:30:00.000Z", **DOC, "status": "hooked"},
        "operation": "update",
    }
    script = f"""
        import {{ tellOrderSync }} from {json.dumps(hook.as_uri())};
        const change = {json.dumps(change)};
        for (const _ of [1, 2]) console.log(JSON.stringify(await tellOrderSync(change)));
    """
    env = {"ORDER_SYNC_URL": server.base_url, "ORDER_SYNC_SECRET": SECRET, "PATH": os.environ["PATH"]}
    before = head(http)
    done = subprocess.run(
        [node, "--input-type=module", "-e", script], env=env, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.stderr == ""
    assert [json.loads(line) for line in done.stdout.splitlines()] == [change["doc"]] * 2
    (event,) = read(http, after=before)
    assert (event["orderID"], event["data"]["status"]) == ("ORDER-1", "hooked")
