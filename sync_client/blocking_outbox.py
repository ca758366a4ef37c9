"""The outbox for programs without asyncio. See outbox.py and sent.py; what waits there waits here too, and meanwhile
calls the callbacks that are due."""

import inspect
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from sync_client.conflicts import Conflict
from sync_client.errors import ConfigurationError
from sync_client.mailbox import Mailbox
from sync_client.outbox import Outbox as AsyncOutbox
from sync_client.pending import OutboxEntry
from sync_client.sent import Sent as AsyncSent

__all__ = ["Outbox", "Sent", "Thread"]

H = TypeVar("H", bound=Callable[[Conflict], Any])
T = TypeVar("T")


class Thread(Protocol):
    """The thread that the client's event loop runs in, as the program's own thread sees it."""

    def do(self, function: Callable[[], T]) -> T:
        """Call *function* there."""

    def attend(self, work: Coroutine[Any, Any, T]) -> T:
        """Run *work* there, and callbacks here until it is done. Raises what it raises, and Closed."""

    def next_of(self, things: AsyncIterator[T], timeout_s: float | None) -> T:
        """The next of *things*; callbacks run here until it comes. Raises StopIteration after *timeout_s*."""


class Sent:
    """One command that was given."""

    def __init__(self, thread: Thread, sent: AsyncSent) -> None:
        self._thread = thread
        self._sent = sent

    @property
    def name(self) -> str:
        return self._sent.name

    @property
    def id(self) -> str:
        """Of the document that it is about; of a new one, too."""
        return self._sent.id

    @property
    def key(self) -> str:
        return self._sent.key

    def __repr__(self) -> str:
        return repr(self._sent)

    def done(self, timeout_s: float | None = None) -> Mapping[str, Any]:
        """Wait for the answer. Raises CommandFailed, Closed, TimeoutError."""
        return self._thread.attend(self._sent.done(timeout_s))


class Outbox:
    """The commands that have no answer yet, and those that failed."""

    def __init__(self, thread: Thread, outbox: AsyncOutbox, mailbox: Mailbox) -> None:
        self._thread = thread
        self._outbox = outbox
        self._mailbox = mailbox

    def __len__(self) -> int:
        return self._thread.do(lambda: len(self._outbox))

    def __iter__(self) -> Iterator[OutboxEntry]:
        return self._thread.do(lambda: iter(self._outbox))

    def __bool__(self) -> bool:
        return True

    @property
    def queued(self) -> Sequence[OutboxEntry]:
        return self._thread.do(lambda: self._outbox.queued)

    @property
    def in_flight(self) -> Sequence[OutboxEntry]:
        return self._thread.do(lambda: self._outbox.in_flight)

    @property
    def failed(self) -> Sequence[OutboxEntry]:
        return self._thread.do(lambda: self._outbox.failed)

    def on_conflict(self, hook: H) -> H:
        """Decorator: ``hook(conflict)``, called by ``process``; commands behind it wait until it was called."""
        if inspect.iscoroutinefunction(hook):
            raise ConfigurationError("a blocking client calls plain functions; async ones are for SyncClient")

        async def ask(conflict: Conflict) -> Any:
            answers: list[Any] = []
            await self._mailbox.wrap(lambda: answers.append(hook(conflict)))()
            return answers[0]

        self._thread.do(lambda: self._outbox.on_conflict(ask))
        return hook

    def retry(self, key: str) -> Sent:
        """Give a failed command once more, as a new one at the end of the queue."""
        return Sent(self._thread, self._thread.attend(self._outbox.retry(key)))

    def discard(self, key: str) -> None:
        """Forget a command."""
        self._thread.attend(self._outbox.discard(key))

    def flush(self, timeout_s: float | None = None) -> None:
        """Wait until everything has its answer. Raises TimeoutError, Closed."""
        self._thread.attend(self._outbox.flush(timeout_s))
