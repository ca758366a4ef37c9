"""The file under a running SQLite log."""

import http.client
import json
from pathlib import Path

from tests.servers import SyncServer, wait_until


def test_a_deleted_file_is_noticed_and_nothing_more_is_acknowledged(tmp_path: Path) -> None:
    body = json.dumps({"eventType": "stage_change", "data": {"newStage": "x"}})

    def publish(server: SyncServer) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        try:
            connection.request("POST", "/api/v1/sync/events", body, {"Content-Type": "application/json"})
            return connection.getresponse().status
        finally:
            connection.close()

    with SyncServer(tmp_path) as server:
        assert publish(server) == 201
        (tmp_path / "sync.db").unlink()
        assert publish(server) == 503
        wait_until(lambda: server.get("/readyz") == 503, timeout_s=20)
        assert "was deleted or replaced" in server.log_text()
