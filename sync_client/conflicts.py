"""Conflicts: what a program's hook is told of one, and the command that comes out of what it says."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from pydantic_core import to_json

from sync_client.attempts import was_cancelled
from sync_client.logs import get_logger
from sync_client.pending import OutboxEntry, PendingCommand
from sync_core.domain.command import CommandInput
from sync_core.domain.document import Document

__all__ = ["Conflict", "ConflictHook", "ask", "current_version"]

log = get_logger()


@dataclass(frozen=True, slots=True)
class Conflict:
    """A command that the server refused with 409."""

    name: str
    """``order.edit``"""
    given: CommandInput
    problem: Mapping[str, Any]
    """The server's problem document; its ``type`` is "stale" where the document was another than the person saw."""
    current: Mapping[str, Any]
    """The documents as they stand, by kind: ``{"order": {...}}``."""
    shown: Document | None
    """The document that it is about as the screen showed it until now, with the command's own effect."""


ConflictHook = Callable[[Conflict], "Hooked | Awaitable[Hooked]"]
"""Gives the input that is to be sent on top of *current*, whole or as the fields that change; or None to give up."""
Hooked = CommandInput | Mapping[str, Any] | None


async def ask(hook: ConflictHook, entry: OutboxEntry, conflict: Conflict) -> CommandInput | None:
    """What *hook* wants to be sent instead; None where it gives up, raises, or gives what is no input."""
    try:
        wanted = hook(conflict)
        if inspect.isawaitable(wanted):
            wanted = await wanted
        return None if wanted is None else _merged(entry.given, wanted)
    except asyncio.CancelledError:
        if was_cancelled():
            raise
    except ValidationError as exc:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in exc.errors())
        log.error("conflict_hook_invalid", command=conflict.name, faults=faults)
    except Exception:
        log.exception("conflict_hook_failed", command=conflict.name)
    return None


def _merged(given: CommandInput, wanted: CommandInput | Mapping[str, Any]) -> CommandInput:
    """By the server's own rules for inputs. Raises ValidationError, PydanticSerializationError."""
    if isinstance(wanted, CommandInput):
        whole = wanted.model_dump(mode="json", exclude_unset=True)
    else:
        whole = given.model_dump(mode="json", exclude_unset=True) | dict(wanted)
    return type(given).model_validate_json(to_json(whole), strict=True)


def current_version(command: PendingCommand, current: Mapping[str, Any]) -> int | None:
    """Of the document that *command* is about, as *current* has it."""
    kind, target = command.command.target, command.target
    several = current.get(kind.plural)
    for content in (current.get(kind.kind), *(several if isinstance(several, list) else ())):
        if isinstance(content, dict) and target is not None and content.get(kind.id_key) == target.id:
            version = content.get("version")
            return version if type(version) is int else None
    return None
