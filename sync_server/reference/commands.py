"""What the commands look like over HTTP, from their declarations. Source: protocol.md 4."""

from collections.abc import Iterator
from typing import Any

from pydantic import TypeAdapter

from sync_core.domain.command import Command
from sync_core.domain.fields import DocumentID
from sync_core.paths import OUTCOME_PATH, PREFIX
from sync_server.reference.examples import example
from sync_server.reference.operation import Operation, Parameter, Reply, Schema
from sync_server.reference.schemas import CURSOR, Schemas, deleted_name, ref

__all__ = ["CLIENT_ID", "command_operations", "path_parameters"]

CLIENT_ID = Parameter(
    "X-Client-ID", "header", "The instance that sends it; stands on its events as `clientID`.",
    {"type": "string", "minLength": 1, "maxLength": 128},
)  # fmt: skip
IDEMPOTENCY_KEY = Parameter(
    "Idempotency-Key",
    "header",
    "Makes the command take effect at most once: a repeat is given the stored outcome, for 7 days. Best a UUID.",
    {"type": "string", "minLength": 1, "maxLength": 128, "pattern": "^[ -~]*$"},
)
IF_MATCH = Parameter(
    "If-Match",
    "header",
    'Only if the document is at this version, such as `"7"` (several with commas), or `*`: if there is one at all. '
    "Else 409 with the document as it is.",
    {"type": "string", "pattern": r'^(\*|"[0-9]{1,15}"(, ?"[0-9]{1,15}")*)$', "examples": ['"7"']},
)
_ID: Schema = TypeAdapter(DocumentID).json_schema()
_PROBLEMS = (400, 401, 403, 404, 409, 413, 415, 422, 429, 503)


def command_operations(schemas: Schemas) -> Iterator[Operation]:
    """One for each command, and the one that tells what became of a key."""
    for command in schemas.domain.commands:
        yield _operation(command, schemas)
    yield Operation(
        "GET", OUTCOME_PATH, "commands_outcome", "Commands", "What became of the command with that key.",
        description="For information. After a crash send the command again with its key: that gives its outcome.",
        parameters=(Parameter("key", "path", "The Idempotency-Key.", IDEMPOTENCY_KEY.schema),),
        replies=(Reply(200, "What is known of it.", _outcome()),),
        problems=(400, 401, 429, 503),
    )  # fmt: skip


def path_parameters(names: tuple[str, ...]) -> tuple[Parameter, ...]:
    """Those with these names, ids all of them."""
    return tuple(
        Parameter(name, "path", f"Which {name.removesuffix('ID')}.", {**_ID, "examples": [example({}, {}, name=name)]})
        for name in names
    )


def _operation(command: Command, schemas: Schemas) -> Operation:
    target = command.target
    body = schemas.of(command.input) if command.body_fields else None
    headers = ["Idempotency-Replayed"] if command.method == "DELETE" else ["ETag", "Idempotency-Replayed"]
    if command.creates:
        headers.append("Location")
    reply = Reply(
        201 if command.creates else 200,
        "Done: every document that it changed, and the place in the log behind it.",
        _answer(command, schemas),
        headers=tuple(headers),
    )
    rule = (command.rule.__doc__ or "").strip().partition("\n")[2].strip()
    return Operation(
        command.method,
        PREFIX + command.path,
        f"{target.plural}_{command.name}",
        target.heading(),
        command.summary,
        description=" ".join(rule.split()),
        parameters=(
            *path_parameters(command.path_parameters), IDEMPOTENCY_KEY, IF_MATCH, CLIENT_ID
        ),
        body=body,
        body_example=None if body is None else example(body, schemas.components),
        body_optional=not command.needs_body,
        replies=(reply,),
        problems=_PROBLEMS,
        extensions={"x-permission": command.permission, "x-emits": list(command.emits)},
    )  # fmt: skip


def _answer(command: Command, schemas: Schemas) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for kind in schemas.documents_of(command):
        whole = schemas.of(kind)
        # What no command is about comes and goes with what others are about.
        goes_along = not any(schemas.domain.of(kind))
        deletes = goes_along or (command.method == "DELETE" and kind is command.target)
        fields[kind.kind] = {"anyOf": [ref(deleted_name(kind)), whole]} if deletes else whole
    return {"type": "object", "properties": {**fields, "cursor": CURSOR}, "required": ["cursor"]}


def _outcome() -> dict[str, Any]:
    states = ["applied", "rejected", "unknown"]
    return {
        "type": "object",
        "properties": {
            "key": {"type": "string"},
            "state": {"enum": states},
            "cursor": CURSOR,
            "problem": ref("Problem"),
        },
        "required": ["key", "state"],
    }
