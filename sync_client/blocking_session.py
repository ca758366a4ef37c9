"""``client.session`` for programs without asyncio: session.py, looked at from another thread."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal, TypeVar

from sync_client.blocking_outbox import Sent, Thread
from sync_client.cart import Items
from sync_client.saving import SaveState, SessionConflict, SessionView
from sync_client.session import Session as AsyncSession
from sync_core.domain.items import Item

__all__ = ["Session"]

T = TypeVar("T")


class Session:
    """A person's cart at this till, saved as it changes. What waits here calls the callbacks that are due."""

    def __init__(self, thread: Thread, session: AsyncSession) -> None:
        self._thread = thread
        self._session = session

    # -- looking ----------------------------------------------------------------------------------------

    @property
    def view(self) -> SessionView:
        """How the cart stands."""
        return self._thread.do(lambda: self._session.view)

    @property
    def items(self) -> Items:
        """What is in the cart; each item has its ``lineID``."""
        return self.view.items

    @property
    def is_kept(self) -> bool:
        """Whether all of it is on this machine's disk, or at the server."""
        return self.view.is_kept

    @property
    def state(self) -> SaveState:
        return self.view.state

    @property
    def conflict(self) -> SessionConflict | None:
        """What is here and what is there, until somebody says what becomes of it."""
        return self.view.conflict

    @property
    def other_till(self) -> str | None:
        """Where the session was last changed, if that is another till."""
        return self.view.other_till

    def watch(self, *, timeout_s: float | None = None) -> Iterator[SessionView]:
        """How the cart stands, now and after each change, the newest only; ends when nothing changed for *timeout_s*,
        or when the client is closed. Callbacks run in between."""
        views = self._thread.do(self._session.watch)
        while True:
            try:
                view = self._thread.next_of(views, timeout_s)
            except StopIteration:
                return
            yield view

    # -- editing ----------------------------------------------------------------------------------------

    def open(self, user: str = "", till: str | int | None = None, *, timeout_s: float = 5.0) -> SessionView:
        """Go on where *user* was. Raises ClientError."""
        return self._thread.attend(self._session.open(user, till, timeout_s=timeout_s))

    def add(self, **item: Any) -> str:
        """Put an item in; the id of its line. Raises InvalidCommand, ClientError."""
        return self._do(lambda: self._session.add(**item))

    def change(self, line: str, **fields: Any) -> None:
        """Change fields of a line. Raises InvalidCommand, ClientError."""
        self._do(lambda: self._session.change(line, **fields))

    def remove(self, line: str) -> None:
        """Take a line out. Raises ClientError."""
        self._do(lambda: self._session.remove(line))

    def replace(self, items: Iterable[Item | Mapping[str, Any]]) -> None:
        """Other items in place of all. Raises InvalidCommand, ClientError."""
        self._do(lambda: self._session.replace(items))

    def save(self) -> None:
        """Return once everything is on this machine's disk. Raises CacheUnwritable, OutboxFull, Closed."""
        self._thread.attend(self._session.save())

    # -- leaving ----------------------------------------------------------------------------------------

    def complete(self, payment: Mapping[str, Any] | None = None) -> Sent:
        """Have it paid; the cart is empty. Raises ClientError, and what ``save`` raises; so do the others."""
        return Sent(self._thread, self._thread.attend(self._session.complete(payment)))

    def assign_to_tab(self, tab: str | int) -> Sent:
        """Put it on a tab; the cart is empty."""
        return Sent(self._thread, self._thread.attend(self._session.assign_to_tab(tab)))

    def logout(self) -> Sent:
        """Leave it for later; the cart is empty."""
        return Sent(self._thread, self._thread.attend(self._session.logout()))

    # -- conflicts and failures -------------------------------------------------------------------------

    def resolve(self, choice: Literal["mine", "theirs", "both"]) -> None:
        """Say what becomes of what is here and what is there. Raises ClientError, InvalidCommand."""
        self._thread.attend(self._session.resolve(choice))

    def retry(self) -> None:
        """Send once more what was refused."""
        self._thread.attend(self._session.retry())

    def go_on_locally(self) -> None:
        """Show no failure any more: the cart goes on with what is here."""
        self._do(self._session.go_on_locally)

    def _do(self, function: Callable[[], T]) -> T:
        return self._thread.do(function)
