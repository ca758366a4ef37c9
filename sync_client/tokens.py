"""The access token: a fixed text, or a function that fetches one."""

import inspect
from collections.abc import Awaitable, Callable

__all__ = ["TokenProvider", "Tokens"]

TokenProvider = str | Callable[[], str | Awaitable[str]]
"""A token, or a function, sync or async, that gives a fresh one. It is called once at the start, and again when
the server says that the token is no longer good. What it raises counts as a passing failure."""


class Tokens:
    """The current token of one client."""

    def __init__(self, provider: TokenProvider | None) -> None:
        self._provider = provider
        self.current: str | None = provider if isinstance(provider, str) else None
        self.changed: Callable[[], None] = lambda: None
        """Called when there is another token."""

    def replace(self, provider: TokenProvider | None) -> bool:
        """Another provider; whether that may change anything."""
        changed = provider != self._provider or callable(provider)
        self._provider = provider
        if isinstance(provider, str) or provider is None:
            self.current = provider
        else:
            self.current = None
        self.changed()
        return changed

    @property
    def needs_fetching(self) -> bool:
        """Whether there is a function that has not been asked yet."""
        return self.current is None and callable(self._provider)

    def expire(self) -> None:
        """The current one is no longer good: the next request fetches another one first, where there is a function."""
        if callable(self._provider):
            self.current = None

    async def renew(self) -> bool:
        """Ask the provider; False if there is none, or it has only what the server refused."""
        if self._provider is None or isinstance(self._provider, str):
            return False
        token = self._provider()
        if inspect.isawaitable(token):
            token = await token
        if not isinstance(token, str) or not token:
            return False
        if token != self.current:
            self.current = token
            self.changed()
        return True
