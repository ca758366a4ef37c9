"""The commands of the outbox in memory, and in its file, in step: first there, then here."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from sync_client.errors import Closed
from sync_client.logs import get_logger
from sync_client.outbox_file import OutboxDamaged, OutboxFile
from sync_client.pending import OutboxEntry
from sync_core.domain.command import Domain

__all__ = ["Journal"]

CLOSE_S = 0.2
"""How long a disk that hangs is waited for."""
PER_COMMAND_BYTES = 512
"""What one takes beside its input and its problem document."""

log = get_logger()
T = TypeVar("T")


class Journal:
    """In memory only until it is opened with a path. The file has a thread of its own: a slow disk stops nobody."""

    def __init__(self, domain: Domain, *, note: Callable[[str], None]) -> None:
        """*note* is told what people should know."""
        self._domain = domain
        self._note = note
        self._path: Path | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._sizes: dict[str, int] = {}
        self.file: OutboxFile | None = None
        self.entries: dict[str, OutboxEntry] = {}
        """All of them by key, in order."""
        self.size_bytes = 0
        self.is_closed = False

    async def open(self, path: Path | None) -> None:
        """Read what an earlier run has left at *path*; None: keep everything in memory. Raises CacheUnwritable.

        Then it ``is_missing``; ``open_again`` may help.
        """
        self._path = path
        self.is_closed = False
        if path is not None:
            await self.open_again()

    async def open_again(self) -> None:
        """Raises CacheUnwritable."""
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="sync-client-outbox")
        path = self._path
        assert path is not None
        file = await self._call(lambda: OutboxFile(path, self._domain))
        self._put(await self._call(file.load))
        self.file = file

    @property
    def is_missing(self) -> bool:
        """Whether there should be a file, and it could not be opened yet."""
        return self._path is not None and self.file is None

    async def aclose(self) -> None:
        """Let go of the file, after what is being written is. Idempotent."""
        self.is_closed = True
        thread, self._thread = self._thread, None
        if thread is not None:
            closing = asyncio.wrap_future(thread.submit(self._close_file))
            done, _ = await asyncio.wait([closing], timeout=CLOSE_S)
            thread.shutdown(wait=bool(done))

    def _close_file(self) -> None:
        if self.file is not None:
            self.file.close()

    async def write(self, *, put: Sequence[OutboxEntry] = (), drop: Iterable[str] = (), lazily: bool = False) -> None:
        """One commit, see OutboxFile.write. Raises CacheUnwritable with nothing changed, Closed."""
        file, drop = self.file, list(drop)
        if file is not None:
            try:
                await self._call(lambda: file.write(put=put, drop=drop, lazily=lazily))
            except OutboxDamaged:
                after = self.after(put, drop)
                await self._call(lambda: file.begin_anew(after))
                kept_as = file.newly_set_aside
                log.error("outbox_written_anew", path=str(file.path), kept_as=str(kept_as))
                why = "removed" if kept_as is None else f"damaged ({kept_as} can be removed)"
                self._note(f"the outbox was {why} and has been written anew")
                file.newly_set_aside = None
        for key in drop:
            self.entries.pop(key, None)
            self.size_bytes -= self._sizes.pop(key, 0)
        self._put(put)

    async def _call(self, work: Callable[[], T]) -> T:
        if self._thread is None:
            raise Closed("the client is closed")
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _put(self, entries: Iterable[OutboxEntry]) -> None:
        for entry in entries:
            self.entries[entry.key] = entry
            size_bytes = self.size_of(entry)
            self.size_bytes += size_bytes - self._sizes.get(entry.key, 0)
            self._sizes[entry.key] = size_bytes
        places = [entry.place for entry in list(self.entries.values())[-2:]]
        if places != sorted(places):  # one that stands for another has its place
            self.entries = {entry.key: entry for entry in sorted(self.entries.values(), key=_place)}

    def after(self, put: Iterable[OutboxEntry], drop: Iterable[str]) -> list[OutboxEntry]:
        """What there would be, in order."""
        after = self.entries | {entry.key: entry for entry in put}
        for key in drop:
            after.pop(key, None)
        return sorted(after.values(), key=_place)

    @staticmethod
    def size_of(entry: OutboxEntry) -> int:
        """In bytes, about."""
        given = entry.given.model_dump_json(exclude_unset=True)
        return PER_COMMAND_BYTES + len(given) + (len(str(entry.problem)) if entry.problem is not None else 0)


def _place(entry: OutboxEntry) -> int:
    return entry.place
