"""What can go wrong in the client, as a tree; subclasses differ by what the caller should do.

SyncError
└── ClientError
    ├── ConfigurationError      the options are wrong: change the program
    ├── CacheError              the cache cannot be used
    │   ├── CacheLocked         another process has it: use another client_name
    │   └── CacheUnwritable     read-only or full disk
    ├── NoReplica               the client was made without replica=True
    ├── InvalidCommand          a command's input is wrong; its errors say where
    ├── OutboxFull              too many commands wait: connect, or discard some
    ├── CommandFailed           the server refused a command for good
    ├── Closed                  the client is closed
    └── RequestFailed           a request did not succeed
        ├── NetworkFailed       no answer: try again
        ├── ServerBusy          429, 503 and other 5xx: try again, not before retry_after_s
        │   └── BreakerOpen     not even sent
        ├── Unauthorized        401, 403: another token is needed
        ├── Refused             other statuses: trying again changes nothing
        ├── CursorLost          410: the cursor leads nowhere
        ├── StopAsked           204: the server wants no more of this client
        └── NotAStream          200, but no event stream (a captive portal, a wrong URL)
"""

from collections.abc import Sequence
from typing import Any

from sync_core.problems import FieldError, SyncError

__all__ = [
    "BreakerOpen",
    "CacheError",
    "CacheLocked",
    "CacheUnwritable",
    "ClientError",
    "Closed",
    "CommandFailed",
    "ConfigurationError",
    "CursorLost",
    "InvalidCommand",
    "NetworkFailed",
    "NoReplica",
    "NotAStream",
    "OutboxFull",
    "Refused",
    "RequestFailed",
    "ServerBusy",
    "StopAsked",
    "Unauthorized",
]


class ClientError(SyncError):
    """Base of all errors of this package."""


class ConfigurationError(ClientError, ValueError):
    """An option that cannot be used."""


class CacheError(ClientError):
    """The cache cannot be used."""


class CacheLocked(CacheError):
    """Another process holds this cache."""


class CacheUnwritable(CacheError):
    """The cache's directory is read-only, or the disk is full."""


class NoReplica(ClientError, AttributeError):
    """The client keeps no documents."""


class InvalidCommand(ClientError, ValueError):
    """A command whose input the server would refuse; nothing was kept or sent. *errors*: every fault and its path."""

    def __init__(self, name: str, errors: Sequence[FieldError]) -> None:
        super().__init__(f"{name}: " + "; ".join(f"{e.path}: {e.message}" if e.path else e.message for e in errors))
        self.errors = tuple(errors)


class OutboxFull(ClientError):
    """The outbox takes no more commands."""


class CommandFailed(ClientError):
    """The server refused a command for good. *problem* is its problem document, *current* how things stand."""

    def __init__(self, problem: dict[str, Any]) -> None:
        super().__init__(str(problem.get("detail") or problem.get("title") or "refused"))
        self.problem = problem
        self.current: dict[str, Any] = problem.get("current", {})


class Closed(ClientError):
    """The client has been closed."""


class RequestFailed(ClientError):
    """A request did not succeed. *status* is None where there was no answer."""

    status: int | None

    def __init__(self, message: str, *, status: int | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after_s = retry_after_s


class NetworkFailed(RequestFailed):
    """No answer, or half of one."""


class ServerBusy(RequestFailed):
    """429 or 5xx."""


class BreakerOpen(ServerBusy):
    """The circuit breaker kept the request back."""

    def __init__(self, *, retry_after_s: float) -> None:
        super().__init__("the circuit breaker is open", retry_after_s=retry_after_s)


class Unauthorized(RequestFailed):
    """401 or 403."""


class Refused(RequestFailed):
    """A status that repeating does not change."""


class CursorLost(RequestFailed):
    """410. *document* is the body: reason, head, floor."""

    def __init__(self, message: str, *, document: dict[str, Any]) -> None:
        super().__init__(message, status=410)
        self.document = document


class StopAsked(RequestFailed):
    """204."""


class NotAStream(RequestFailed):
    """200 with another content type."""
