"""schemathesis against the OpenAPI document and a running server: whatever is sent, no 5xx, and no answer but those
that the document tells of. Deterministic; SYNC_TEST_SEED draws other requests."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2

from tests.servers import SyncServer, clean_environment

MAX_TIME_S = 15
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,"
    "response_schema_conformance"
)
STREAM = "/api/v1/sync/events"
POLL = "/api/v1/sync/poll"


def test_requests_at_random_are_answered_as_documented(tmp_path: Path) -> None:
    with SyncServer(tmp_path / "server") as server:
        document = httpx2.get(f"{server.base_url}/openapi.json", trust_env=False).json()
        (tmp_path / "openapi.json").write_text(json.dumps(answerable(document)))
        command = [
            *(sys.executable, "-m", "schemathesis.cli", "run", "openapi.json", "--url", server.base_url),
            *("--checks", CHECKS, "--phases", "examples,coverage,fuzzing,stateful", "--max-examples", "8"),
            *("--seed", os.environ.get("SYNC_TEST_SEED", "1"), "--max-time", str(MAX_TIME_S), "--no-color"),
            *("--warnings", "off", "--generation-database", "none"),
        ]
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env=clean_environment({"COLUMNS": "200"}),
            capture_output=True,
            text=True,
            timeout=MAX_TIME_S + 60,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
        assert "request_failed" not in server.log_text()


def answerable(document: dict[str, Any]) -> dict[str, Any]:
    """*document* without what never ends, takes long, or is hardly ever right by chance, and with links from what
    makes a document to what uses it."""
    del document["paths"][STREAM]["get"]
    (wait,) = (p for p in document["paths"][POLL]["get"]["parameters"] if p["name"] == "wait")
    wait["schema"]["maximum"] = 0.01
    operations = [operation for methods in document["paths"].values() for operation in methods.values()]
    for operation in operations:
        parameters = operation.get("parameters", [])
        operation["parameters"] = [
            p for p in parameters if p["name"] not in ("If-Match", "Idempotency-Key", "pageToken")
        ]
    for kind in ("order", "queue", "bay"):
        key = f"{kind}ID"
        created = document["paths"][f"/api/v1/{kind}s"]["post"]["responses"]["201"]
        created["links"] = {
            operation["operationId"]: {
                "operationId": operation["operationId"],
                "parameters": {key: f"$response.body#/{kind}/{key}"},
            }
            for operation in operations
            if [p["name"] for p in operation.get("parameters", ()) if p["in"] == "path"] == [key]
        }
    return document
