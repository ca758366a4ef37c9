"""What `sync-server publish` takes from a file, and how it tells what is wrong; the log is written without a server."""

import asyncio
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from sync_server.console.publish import FileError, publish_file
from sync_server.settings import load_settings
from tests.server.publishing import EVENT

JSON_LINE = json.dumps(EVENT)


def lines(*events: dict[str, Any]) -> str:
    return "".join(json.dumps(event, ensure_ascii=False) + "\n" for event in events)


def publish(directory: Path, body: str) -> int:
    path = str(directory / "sync.db")
    settings = load_settings(server={"port": 1}, log={"store": "sqlite", "sqlite": {"path": path}})
    shown: list[str | None] = []
    count = asyncio.run(
        publish_file(settings, body.encode(), name="day.json", url=None, show=lambda i, t, d: shown.append(i))
    )
    assert count == len(shown)
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT count(*) FROM events").fetchone() == (count,)
    db.close()
    return count


@pytest.mark.parametrize(
    ("body", "count"),
    [
        (json.dumps(EVENT), 1),
        (json.dumps(EVENT, indent=2), 1),
        (json.dumps([EVENT, EVENT]), 2),
        (json.dumps({"events": [EVENT] * 3}, indent=1), 3),
        (lines(EVENT, EVENT), 2),
        ("\n\r\n" + JSON_LINE + "\r\n\n" + JSON_LINE, 2),
        ("\ufeff" + JSON_LINE, 1),
        (lines(*[EVENT | {"data": {"newStage": "ك" * 1000}}] * 1200), 1200),
    ],
)
def test_publish_takes_json_and_json_lines(tmp_path: Path, body: str, count: int) -> None:
    assert publish(tmp_path, body) == count


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("", ["there is no event in it"]),
        (" \n\n", ["there is no event in it"]),
        ("[]", ["there is no event in it"]),
        ("{", ["not JSON: ", "line 1 column 1"]),
        ('{\n "eventType": "x",\n "data": {]\n}', ["not JSON: ", "line 3 column"]),
        (JSON_LINE + "\n{cut\n", ["day.json, line 2: not JSON"]),
        (JSON_LINE + "\n\n" + '{"eventType": NaN}', ["day.json, line 3: not JSON"]),
        ("[" * 100_000, ["not JSON"]),
        ("5", ["JSON object"]),
        ('"x"', ["JSON object"]),
        ('{"events": 5}', ["events"]),
        ('{"events": [], "x": 1}', ["events"]),
        (lines(EVENT, EVENT | {"x": 1}, {"eventType": "stage_change", "data": {}}),
         ["line 2, x: unknown field", "line 3, data.newStage: is missing", "Nothing was published"]),
        (json.dumps([EVENT, 5]), ["[1]: an event is a JSON object"]),
        (json.dumps({"events": [EVENT, {"eventType": "nonsense", "data": {}}]}), ["events[1], eventType: unknown"]),
        (lines(*[EVENT] * 1000, {"eventType": "nonsense", "data": {}}),
         ["line 1001, eventType", "The 1000 events before were published"]),
        (lines(EVENT, {"eventType": "stage_change", "data": {"newStage": "x" * 300_000}}), ["line 2: too large"]),
        (JSON_LINE + '\n{"eventType":"stage_change","data":{"newStage":"x","n":1e999}}',
         ["day.json, line 2: a number is out of range"]),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_place(tmp_path: Path, body: str, told: list[str]) -> None:
    with pytest.raises(FileError) as caught:
        publish(tmp_path, body)
    assert str(caught.value).startswith("day.json")
    assert [text for text in told if text not in str(caught.value)] == []
