"""The debug panel: it fits every screen, the most important first."""

import dataclasses
import io
from typing import Any

import pytest
from rich.console import Console

from sync_client.changes import StateChange
from sync_client.console.panel import Facts, panel
from sync_client.console.screen import health_rows
from sync_client.health import Health, Metrics
from sync_client.states import Machine, State

REASON = "ConnectError: All connection attempts failed, one after the other, and so on until the line is full"


def filled(kind: Any, **given: Any) -> Any:
    """A dataclass with something in every field."""
    names = {field.name: getattr(field.type, "__name__", str(field.type)) for field in dataclasses.fields(kind)}
    of_type = {"str": "text", "int": 7, "float": 1.5, "bool": True, "tuple": (1.5, 2.5)}
    return kind(**{name: given.get(name, of_type.get(type_name, 2.5)) for name, type_name in names.items()})


def facts(*, transitions: int, errors: int) -> Facts:
    changes = [
        StateChange(State.ERROR, State.CONNECTING, f"{n} {REASON}", 1_700_000_000_000) for n in range(transitions)
    ]
    return Facts(
        health=filled(Health, status="error", state="error", reason=REASON, transport="sse"),
        metrics=filled(Metrics),
        machine=Machine(),
        transitions=changes,
        errors=[(float(n), f"{n} {REASON}") for n in range(errors)],
        cache=("cache /somewhere/" + "x" * 100, {"cursor": "k3f9a2c1.1042", "waiting for handlers": "3"}),
    )


def lines(shown: Facts, *, width: int, height: int | None) -> list[str]:
    file = io.StringIO()
    Console(file=file, width=width, height=height or 100, highlight=False).print(
        panel(shown, width=width, height=height)
    )
    return file.getvalue().splitlines()


@pytest.mark.parametrize("width", [60, 80, 100, 200])
@pytest.mark.parametrize("height", [23, 29, 50])
@pytest.mark.parametrize(("transitions", "errors"), [(0, 0), (1, 1), (50, 20)])
def test_it_fits_the_screen(width: int, height: int, transitions: int, errors: int) -> None:
    shown = lines(facts(transitions=transitions, errors=errors), width=width, height=height)
    assert len(shown) <= height
    assert max(map(len, shown)) <= width
    assert shown[0].startswith("ERROR")
    for word in ("breaker", "cursor", "last errors", "transitions"):
        assert any(word in line for line in shown)


def test_a_small_screen_shows_fewer_rows_and_the_newest_of_them() -> None:
    shown = "\n".join(lines(facts(transitions=8, errors=5), width=80, height=14))
    assert "4 ConnectError" in shown
    assert "0 ConnectError" not in shown


def test_a_large_screen_shows_everything() -> None:
    shown = "\n".join(lines(facts(transitions=8, errors=5), width=80, height=60))
    assert shown.count("error → connecting") == 8
    assert shown.count(" s ago  ") >= 5
    for title in ("cache", "machine", "metrics"):
        assert f"\n{title}" in shown


def test_a_file_gets_all_of_it_uncut() -> None:
    shown = "\n".join(lines(facts(transitions=8, errors=5), width=10_000, height=None))
    assert shown.count(REASON) == 8 + 5 + 1
    assert "x" * 100 in shown


def test_commands_are_shown_where_there_are_any() -> None:
    held = dataclasses.replace(filled(Health), commands_waiting=3, commands_failed=0, commands_held_by="no token")
    assert health_rows(held)["commands waiting"] == "3 (no token)"
    none = dataclasses.replace(held, commands_waiting=0)
    assert "commands waiting" not in health_rows(none)
