"""One operation of the HTTP API as it is told to others: what to send, what comes back."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["JSON", "TICKET", "Operation", "Parameter", "Reply", "Schema"]

Schema = Mapping[str, Any]
"""A JSON Schema, references to ``#/components/schemas`` included."""

JSON = "application/json"
TICKET = "ticket"
"""The security scheme of those operations alone that say so."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter in the path, the query or the head. *comma_list* ones take several values with commas between."""

    name: str
    place: str
    description: str
    schema: Schema
    comma_list: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer that is no problem document. *headers* are names of ``#/components/headers``."""

    status: int
    description: str
    schema: Schema | None = None
    media_type: str = JSON
    headers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Operation:
    """*id* is unique; *problems* are the statuses with which it refuses; *extensions* are ``x-`` members.

    *public* ones need no credential, where others do.
    """

    method: str
    path: str
    id: str
    tag: str
    summary: str
    replies: tuple[Reply, ...]
    problems: tuple[int, ...] = ()
    parameters: tuple[Parameter, ...] = ()
    body: Schema | None = None
    body_example: Any = None
    body_optional: bool = False
    description: str = ""
    extensions: Mapping[str, Any] | None = None
    public: bool = False
    takes_ticket: bool = False
