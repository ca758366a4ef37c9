"""What the browser's client knows of the declarations: sync_server/dashboard/js/declared.js.

``python -m sync_server.reference.javascript`` writes it anew. It is a file, and not served as it is worked out, because
programs of others get the client as a package. Which pictures JavaScript can make of a command is said in commands.js.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from textwrap import wrap
from typing import Any

from sync_core.domain.catalog import DOMAIN
from sync_core.domain.command import Command, Domain

__all__ = ["FILE", "declared", "method_name"]

FILE = Path(__file__).parents[1] / "dashboard" / "js" / "declared.js"
_WIDTH = 116


def method_name(command: Command) -> str:
    """``orders.changeStage``"""
    first, *rest = command.name.split("_")
    return f"{command.target.plural}.{first}{''.join(word.capitalize() for word in rest)}"


def declared(domain: Domain) -> str:
    """The module's text."""
    return "\n".join(_lines(domain)) + "\n"


def _lines(domain: Domain) -> Iterator[str]:
    yield "/** Made out of sync_core/domain by `python -m sync_server.reference.javascript`; a test compares. */"
    yield ""
    yield "/** Kinds by plural name: their names in events and answers, and the field with a document's id. */"
    yield "export const DECLARED_KINDS = Object.freeze({"
    for kind in domain.kinds.values():
        yield f"  {kind.plural}: {_object({'key': kind.kind, 'id': kind.id_key})},"
    yield "});"
    yield ""
    yield "/** Commands by name: their routes, and the ids that are made where they are left out. */"
    yield "export const DECLARED_COMMANDS = Object.freeze({"
    for command in domain.commands:
        fields = {"method": command.method, "path": command.path}
        made = {"made": list(command.made)} if command.made else {}
        yield f"  '{method_name(command)}': {_object(fields | made)},"
    yield "});"
    yield ""
    yield "/** The types of all events that are no custom ones. */"
    yield "export const DECLARED_EVENT_TYPES = Object.freeze(["
    names = dict.fromkeys(event_type.name for event_type in domain.event_types)
    yield from wrap(", ".join(f"'{name}'" for name in names) + ",", _WIDTH, initial_indent="  ", subsequent_indent="  ")
    yield "]);"


def _object(fields: dict[str, Any]) -> str:
    values = (f"{name}: {json.dumps(value)}".replace('"', "'") for name, value in fields.items())
    return f"{{ {', '.join(values)} }}"


if __name__ == "__main__":
    FILE.write_text(declared(DOMAIN), encoding="utf-8")
