"""docs/client.md says what is so."""

import dataclasses
import re
from pathlib import Path

import sync_client
from sync_client.diagram import mermaid, transitions
from sync_client.options import Options
from sync_client.states import State

TEXT = (Path(__file__).parents[2] / "docs" / "client.md").read_text(encoding="utf-8")


def test_the_diagram_is_the_tables() -> None:
    """If this fails: python -m sync_client.diagram"""
    assert mermaid() in TEXT


def test_every_state_can_be_reached() -> None:
    assert {after for _, after in transitions()} == set(State) - {State.DISCONNECTED}


def test_the_default_that_the_table_spells_out_can_be_written_with_what_is_exported() -> None:
    written = re.search(r"`(HandlerPolicy\(.+?\))`", TEXT)
    assert written is not None
    exported = {name: getattr(sync_client, name) for name in sync_client.__all__}
    assert eval(written[1], exported) == Options().handler_policy


def test_every_option_is_described() -> None:
    table = TEXT[TEXT.index("## Options") : TEXT.index("## What is promised")]
    described = set(re.findall(r"`(\w+)`", "\n".join(line.split("|")[1] for line in table.splitlines() if "|" in line)))
    assert {field.name for field in dataclasses.fields(Options)} - described == set()
