"""The shop's documents for programs without asyncio: collections.py, looked at from another thread."""

import functools
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from sync_client.blocking_outbox import Sent, Thread
from sync_client.collections import Collection as AsyncCollection
from sync_client.collections import Watch as AsyncWatch
from sync_client.replica import Entry
from sync_core.domain.document import Document

__all__ = ["Collection", "Watch"]

D = TypeVar("D", bound=Document)


class Collection(Generic[D]):
    """All documents of one kind that this client sees."""

    def __init__(self, thread: Thread, collection: AsyncCollection[D]) -> None:
        self._thread = thread
        self._collection = collection

    @property
    def fresh(self) -> bool:
        """Whether everything is in here that the server has told."""
        return self._thread.do(lambda: self._collection.fresh)

    @property
    def age_s(self) -> float | None:
        """How long ago, in seconds, this was surely how things stood; None if that is not known."""
        return self._thread.do(lambda: self._collection.age_s)

    def get(self, document_id: str) -> Entry[D] | None:
        """The document with what this client's waiting commands make of it; None if there is none in view."""
        return self._thread.do(lambda: self._collection.get(document_id))

    def __iter__(self) -> Iterator[Entry[D]]:
        """All of them, by id, as they are at this moment."""
        return iter(self._thread.do(lambda: list(self._collection)))

    def __len__(self) -> int:
        return self._thread.do(lambda: len(self._collection))

    def __bool__(self) -> bool:
        return True

    def __contains__(self, document_id: object) -> bool:
        return self._thread.do(lambda: document_id in self._collection)

    def watch(self, document_id: str | None = None, *, timeout_s: float | None = None) -> "Watch":
        """``for entry in bays.watch("B1")``: its state now, then each newer one; None when it is gone.

        Without an id: the collection, now and after every change in it. Ends when the client is closed, or when nothing
        has changed for *timeout_s*. Callbacks run in between.
        """
        return Watch(self, self._thread, self._thread.do(lambda: self._collection.watch(document_id)), timeout_s)

    def __getattr__(self, name: str) -> Callable[..., Sent]:
        """A command of this kind."""
        if name.startswith("_"):
            raise AttributeError(name)
        command = getattr(self._collection, name)

        @functools.wraps(command)
        def give(*args: Any, **kwargs: Any) -> Sent:
            return Sent(self._thread, self._thread.attend(command(*args, **kwargs)))

        return give

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *dir(self._collection)})

    def __repr__(self) -> str:
        return repr(self._collection)


class Watch(Iterator[Any]):
    """The states of one thing, the newest only."""

    def __init__(
        self, collection: Collection[Any], thread: Thread, watch: AsyncWatch[Any], timeout_s: float | None
    ) -> None:
        self._collection = collection
        self._thread = thread
        self._watch = watch
        self._timeout_s = timeout_s

    def __iter__(self) -> "Watch":
        return self

    def __next__(self) -> Any:
        state = self._thread.next_of(self._watch, self._timeout_s)
        return self._collection if isinstance(state, AsyncCollection) else state
