"""What stands in front of all routes: who calls, and whether that is too often.

    locate      the client's address and scheme, where a trusted proxy passed the request on
    address     what it may ask for, counted before anything is verified: guessing costs as much as asking
    caller      the credential, but for the paths that are for everybody
    principal   what the caller may ask for

Without access control everybody is the open caller, and only the number of streams is limited.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from starlette.types import Message, Receive, Scope

from sync_core.problems import Forbidden, TooManyRequests, Unauthorized
from sync_server.access.caller import OPEN_CALLER, Caller
from sync_server.access.limits import Limits, Rate, address_key
from sync_server.accounts.authenticate import Authenticator
from sync_server.metrics import Metrics

__all__ = ["Guard", "PublicPaths"]

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class PublicPaths:
    """Paths that need no credential: single ones, and *prefixes* (ending in a slash) below which all are."""

    paths: frozenset[str]
    prefixes: tuple[str, ...] = ()

    def __contains__(self, path: str) -> bool:
        return path in self.paths or path.startswith(self.prefixes)
