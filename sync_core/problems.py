"""What can be wrong with a request, as a tree, and how it is told: RFC 9457 problem documents.

    SyncError
    └── Problem                     carries status, type, title, detail, errors
        ├── InvalidRequest     400  the request's form is wrong (parameters, JSON that does not parse)
        ├── Unauthorized       401  nobody knows who calls; WWW-Authenticate says how to tell
        ├── Forbidden          403  the caller is known and may not do it
        ├── NotFound           404
        ├── MethodNotAllowed   405
        ├── Conflict           409  the rules or the state forbid it
        ├── CursorGone         410  the cursor leads nowhere: resync
        ├── TooLarge           413
        ├── UnsupportedMedia   415
        ├── Unprocessable      422  well-formed, but its content is not acceptable
        ├── TooManyRequests    429  slow down; Retry-After says how long
        ├── InternalError      500  a fault of the server, which its log tells more of
        └── Unavailable        503  not now; Retry-After says when
            └── OutcomeUnknown 503  it may or may not have happened: re-send with the same key

Subclasses differ by what the caller should do. Source: protocol.md 5.
"""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, ClassVar

__all__ = [
    "Conflict",
    "CursorGone",
    "FieldError",
    "Forbidden",
    "InternalError",
    "InvalidRequest",
    "MethodNotAllowed",
    "NotFound",
    "OutcomeUnknown",
    "Problem",
    "SyncError",
    "TooLarge",
    "TooManyRequests",
    "Unauthorized",
    "Unavailable",
    "Unprocessable",
    "UnsupportedMedia",
]

MEDIA_TYPE = "application/problem+json"


class SyncError(Exception):
    """Base of every error that this project raises on purpose."""


@dataclass(frozen=True, slots=True)
class FieldError:
    """One fault: *path* is where (``events[3].data.newStage``), *message* what and what to do."""

    path: str
    message: str


class Problem(SyncError):
    """A refusal with an HTTP status. *retry_after_s* is in whole seconds, None where it means nothing."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "about:blank"

    def __init__(
        self,
        detail: str,
        *,
        errors: tuple[FieldError, ...] = (),
        retry_after_s: int | None = None,
        extensions: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = errors
        self.retry_after_s = retry_after_s
        self.extensions = extensions or {}

    def document(self) -> dict[str, Any]:
        """The problem document, ready for JSON; extensions are top-level members of it."""
        document: dict[str, Any] = {
            "type": self.type,
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
        }
        if self.errors:
            document["errors"] = [{"path": e.path, "message": e.message} for e in self.errors]
        return document | self.extensions


class InvalidRequest(Problem):
    status = 400


class Unauthorized(Problem):
    status = 401


class Forbidden(Problem):
    status = 403


class NotFound(Problem):
    status = 404


class MethodNotAllowed(Problem):
    status = 405


class Conflict(Problem):
    status = 409


class CursorGone(Problem):
    status = 410
    type = "cursor-gone"


class TooLarge(Problem):
    status = 413


class UnsupportedMedia(Problem):
    status = 415


class Unprocessable(Problem):
    status = 422


class TooManyRequests(Problem):
    status = 429


class InternalError(Problem):
    status = 500


class Unavailable(Problem):
    status = 503
    type = "unavailable"


class OutcomeUnknown(Unavailable):
    type = "outcome-unknown"
