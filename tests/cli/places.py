"""Where a command is run, and what it is given."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from tests.server.publishing import EVENT

JSON_LINE = json.dumps(EVENT)
FREE_PORT = {"SYNC_SERVER__PORT": "1"}  # nobody listens there, so nothing is mistaken for our server


class Place(NamedTuple):
    """A working directory, and the environment that names its log."""

    path: Path
    env: dict[str, str]


def lines(*events: dict[str, Any]) -> str:
    return "".join(json.dumps(event, ensure_ascii=False) + "\n" for event in events)
