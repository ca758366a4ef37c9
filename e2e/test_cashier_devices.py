"""The evening of examples/cashier_devices.py: three tills over WebSocket, server processes on each store."""

import subprocess
import sys
from pathlib import Path

import pytest

from e2e.test_kills import config_for
from tests.fixtures import MongoDatabase
from tests.servers import SyncServer, clean_environment

EXAMPLE = Path(__file__).parents[1] / "examples" / "cashier_devices.py"


def play(*options: str) -> str:
    """The example's output, once it has ended well."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLE), *options], capture_output=True, text=True, timeout=90, check=False,
        env=clean_environment(),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("store", ["sqlite", "mongodb", "mongodb, two processes"])
def test_the_evening_ends_with_the_same_picture_everywhere(
    store: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    config = ""
    if store != "sqlite":
        database: MongoDatabase = request.getfixturevalue("mongodb_database")
        config = config_for(database.uri, database.name)
    if store.endswith("processes"):
        config += "[server]\nworkers = 2\n"
    with SyncServer(tmp_path, config=config) as server:
        for _ in range(2):  # once more, with what the first evening left
            told = play("--url", server.base_url)
            for kind in ("device_transferred", "order_modified", "CONFLICT", "DEVICE_NOT_FOUND", "prices_updated"):
                assert kind in told
            assert told.splitlines()[-1] == "All tills show the same, and so does the server."
        assert "Traceback" not in server.log_text()


def test_it_brings_its_own_server() -> None:
    assert "All tills show the same" in play()
