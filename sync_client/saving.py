"""How a cart stands: what a screen shows of it. Only data."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from sync_client.cart import Items
from sync_core.domain.sessions import OrderSession

__all__ = ["SaveState", "SessionConflict", "SessionView", "parsed"]


class SaveState(enum.StrEnum):
    SAVED = "saved"
    """The server has it."""
    CHANGED = "changed"
    """It is in memory only, for half a second at most."""
    WAITING = "waiting"
    """It is on this machine's disk, and the server has not answered yet."""
    CONFLICT = "conflict"
    """Somebody else has changed it too: ``resolve``. What is here is on this machine's disk."""
    FAILED = "failed"
    """It was refused, or this machine's disk takes nothing: ``problem`` says why. ``retry``, or ``go_on_locally``."""
    LOCAL = "local"
    """As FAILED, and somebody has chosen to go on with what is here."""


@dataclass(frozen=True, slots=True)
class SessionConflict:
    """A save that the server refused because of what others did. *theirs* is the session to go on with as it stands;
    None: there is none. *mine* leaves out what is kept elsewhere: sold by now, say, with the session that it was in."""

    mine: Items
    theirs: OrderSession | None
    problem: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SessionView:
    """The cart at one moment. *other_till* is where the session was last changed, if that is not this one."""

    items: Items
    state: SaveState
    is_kept: bool = True
    """Whether all of it is on this machine's disk, or at the server."""
    session_id: str | None = None
    other_till: str | None = None
    conflict: SessionConflict | None = None
    problem: Mapping[str, Any] | None = None


def parsed(content: Any) -> OrderSession | None:
    """The session in an answer or a refusal; None for what is none (any more)."""
    if not isinstance(content, dict) or content.get("deleted"):
        return None
    try:
        return OrderSession.model_validate(content)
    except ValidationError:
        return None
