"""Passwords: argon2id, in a thread of its own, and the same time for users that do not exist."""

import asyncio
import functools
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from sync_core.problems import Unavailable

T = TypeVar("T")

__all__ = ["MAX_PASSWORD", "MIN_PASSWORD", "Passwords"]

MIN_PASSWORD = 10
MAX_PASSWORD = 256
MAX_WAITING = 64
"""A hash takes about 50 ms of a core by design; what would wait for seconds is refused at once."""


class Passwords:
    """Hashes and verifies, one at a time: a flood of logins must not take the feed's core."""

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        self._hasher = hasher or PasswordHasher()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="passwords")
        self._waiting = 0

    async def hash(self, password: str) -> str:
        """What is stored in its place."""
        return await self._run(functools.partial(self._hasher.hash, password))

    async def fits(self, stored: str | None, password: str) -> bool:
        """Whether *password* is the one behind *stored*; with None the same work, and never."""
        return await self._run(functools.partial(self._fits, stored, password))

    def _fits(self, stored: str | None, password: str) -> bool:
        nobody = self._nobody  # made by the first login, whoever that is of: it takes as long for all
        try:
            return self._hasher.verify(stored or nobody, password) and stored is not None
        except (VerificationError, InvalidHashError):
            return False

    @functools.cached_property
    def _nobody(self) -> str:
        return self._hasher.hash("nobody has this password")

    async def _run(self, work: "functools.partial[T]") -> T:
        if self._waiting >= MAX_WAITING:
            raise Unavailable("Too many logins at once.", retry_after_s=2)
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)
