"""The JSON Schemas of documents, inputs and events, from their models: what OpenAPI and AsyncAPI refer to."""

from collections.abc import Iterable, Mapping
from copy import deepcopy
from functools import cached_property
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from sync_core.domain.command import Command, Domain
from sync_core.domain.document import Document
from sync_core.events import EventInput, EventType
from sync_core.filters import ENTITY_ID_PATTERN, ENTITY_KEYS, EVENT_TYPE_PATTERN
from sync_server.reference.operation import Schema

__all__ = ["CURSOR", "TIME", "VERSION", "Schemas", "deleted_name", "envelope_schema", "ref"]

CURSOR: Schema = {
    "type": "string",
    "pattern": r"^[0-9a-z]{8}\.(0|[1-9][0-9]{0,17})$",
    "description": "A place in the log.",
    "examples": ["k3f9a2c1.1042"],
}
TIME: Schema = {"type": "string", "format": "date-time"}
VERSION: Schema = {"type": "integer", "minimum": 1}


def ref(name: str) -> dict[str, Any]:
    """A reference to the component *name*."""
    return {"$ref": f"#/components/schemas/{name}"}


def deleted_name(kind: type[Document]) -> str:
    """The component that is what is left of a deleted document."""
    return f"Deleted{kind.__name__}"


class Schemas:
    """All components; the same objects every time, not to be changed."""

    def __init__(self, domain: Domain, event_types: Iterable[EventType]) -> None:
        self.domain = domain
        self.event_types = tuple(event_types)
        self._names: dict[Any, str] = {}

    @cached_property
    def components(self) -> dict[str, Any]:
        """Name to schema."""
        inputs: list[tuple[type[BaseModel], JsonSchemaMode]] = [(c.input, "validation") for c in self.domain.commands]
        kinds: list[tuple[type[BaseModel], JsonSchemaMode]] = [
            (kind, "serialization") for kind in self.domain.kinds.values()
        ]
        data: dict[type[BaseModel], JsonSchemaMode] = {t.data: "validation" for t in self.event_types}
        data[EventInput] = "validation"
        refs, made = models_json_schema(
            [*inputs, *kinds, *data.items()], ref_template="#/components/schemas/{model}"
        )  # fmt: skip
        for (model, _), schema in refs.items():
            self._names[model] = schema["$ref"].rpartition("/")[2]
        components = {name: _tidy(schema) for name, schema in made["$defs"].items()}
        for command in self.domain.commands:
            _without(components[self._names[command.input]], command.path_parameters)
        for kind in self.domain.kinds.values():
            components[self._names[kind]] = _document(components[self._names[kind]], kind)
            components[deleted_name(kind)] = _deleted(kind)
        bodiless = {self._names[c.input] for c in self.domain.commands if not c.body_fields}
        components["EntityID"] = {"type": "string", "pattern": ENTITY_ID_PATTERN}
        return {name: components[name] for name in sorted(set(components) - bodiless)}

    def of(self, model: type[BaseModel]) -> dict[str, Any]:
        """A reference to the schema of *model*."""
        _ = self.components
        return ref(self._names[model])

    def documents_of(self, command: Command) -> list[type[Document]]:
        """The kinds that *command* can change, its target first."""
        by_name = {t.name: t for t in self.event_types}
        kinds = [self.domain.kinds[kind] for name in command.emits if (kind := by_name[name].document) is not None]
        return list(dict.fromkeys([command.target, *kinds]))


def envelope_schema(data: Schema, *, event_type: str | None = None, version: bool = False) -> dict[str, Any]:
    """What leaves for a reader: *data* in its envelope."""
    name: Schema = {"const": event_type} if event_type else {"type": "string", "pattern": EVENT_TYPE_PATTERN}
    properties: dict[str, Any] = {
        "id": CURSOR,
        "eventType": name,
        "timestamp": TIME,
        "data": data,
        **dict.fromkeys(ENTITY_KEYS, ref("EntityID")),
        "clientID": {"type": "string", "description": "The instance that caused it."},
        "occurredAt": {**TIME, "description": "The sender's own time."},
    }
    required = ["id", "eventType", "timestamp", "data"]
    if version:
        properties["version"] = VERSION
        required.append("version")
    return {"type": "object", "properties": properties, "required": required}


def _tidy(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Without the titles that pydantic makes of the fields' names."""
    tidy = deepcopy(dict(schema))
    for part in tidy.get("properties", {}).values():
        part.pop("title", None)
    return tidy


def _without(schema: dict[str, Any], fields: Iterable[str]) -> None:
    for field in fields:
        schema["properties"].pop(field, None)
    required = [field for field in schema.pop("required", ()) if field in schema["properties"]]
    if required:
        schema["required"] = required


def _document(schema: dict[str, Any], kind: type[Document]) -> dict[str, Any]:
    """A document as it leaves: what has no value is not there."""
    fields = {name: _without_null(part) for name, part in schema["properties"].items() if name != "version"}
    required = [*schema.get("required", ()), "version"]
    ordered = {kind.id_key: fields.pop(kind.id_key), **fields, "version": VERSION}
    return {**schema, "properties": ordered, "required": required}


def _without_null(schema: Mapping[str, Any]) -> dict[str, Any]:
    if "anyOf" not in schema:
        return dict(schema)
    options = [option for option in schema["anyOf"] if option != {"type": "null"}]
    rest = {name: value for name, value in schema.items() if name not in ("anyOf", "default")}
    return {**options[0], **rest} if len(options) == 1 else {**rest, "anyOf": options}


def _deleted(kind: type[Document]) -> dict[str, Any]:
    return {
        "type": "object",
        "title": deleted_name(kind),
        "description": f"What is left of a deleted {kind.kind}.",
        "properties": {kind.id_key: {"type": "string"}, "version": VERSION, "deleted": {"const": True}},
        "required": [kind.id_key, "version", "deleted"],
    }
