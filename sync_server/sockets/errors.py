"""How a socket's client is told that something is wrong: a code for programs, a message for people, a close code.

    error code       close code
    INVALID_MESSAGE   -     not JSON, not an object, no type, or its content cannot be used
    NOT_FOUND         -     (a protocol may have a more telling one, such as DEVICE_NOT_FOUND)
    CONFLICT          -
    FORBIDDEN         -     1008 in a greeting
    RATE_LIMITED      -     this message was not done; 1008 at twice the rate
    UNAUTHORIZED      1008  not said who it is, or that is over
    TOO_LARGE         1009
    INTERNAL          1011  a fault of the server
    UNAVAILABLE       1013  not now; come back later

Without an error before it: 1001 for an end that the server planned (a ``goodbye`` says why where there is one) and for
silence; 1002 and 1007 for what breaks the protocol; 1011 for a ping without a pong; 1012 for a server that is stopped.
"""

from sync_core.problems import Problem
from sync_server.feed.socket_connection import GOING_AWAY

__all__ = ["CLOSE_CODES", "ERROR_CODES", "GOING_AWAY", "INTERNAL", "POLICY_VIOLATION", "TOO_LARGE", "code_of"]

POLICY_VIOLATION = 1008
TOO_LARGE = 1009
INTERNAL = 1011
TRY_AGAIN_LATER = 1013

CLOSE_CODES = {"TOO_LARGE": TOO_LARGE, "INTERNAL": INTERNAL, "UNAVAILABLE": TRY_AGAIN_LATER}
"""By error code; all others are POLICY_VIOLATION where they end the socket."""

_CODES = {
    400: "INVALID_MESSAGE",
    401: "UNAUTHORIZED",
    403: "FORBIDDEN",
    404: "NOT_FOUND",
    409: "CONFLICT",
    410: "CURSOR_GONE",
    413: "TOO_LARGE",
    422: "INVALID_MESSAGE",
    429: "RATE_LIMITED",
    503: "UNAVAILABLE",
}


ERROR_CODES = frozenset({*_CODES.values(), "INTERNAL"})
"""All of them; a protocol may have more."""


def code_of(problem: Problem) -> str:
    """The error code of a refusal."""
    return _CODES.get(problem.status, "INTERNAL")
