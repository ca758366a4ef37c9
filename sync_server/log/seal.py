"""The side file that remembers how far a SQLite log had come.

A restored backup ends earlier than what readers have already seen. Served as it is, it would give the same
ids to other events. So the highest head is kept beside the log, and a log that ends below it is refused
until it has a new epoch. The file may lag (it is written about once a second): a log that is *further* is
always fine. Source: protocol.md 1.
"""

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from sync_server.log.base import LogMisconfigured

__all__ = ["HeadSeal"]

WRITE_INTERVAL_S = 1.0

_DAMAGED = (ValueError, TypeError, AttributeError, OverflowError, RecursionError)
"""What reading a file can raise that we did not write."""


class HeadSeal:
    """Highest head per tenant in the file *path*. Used from the log's writer thread only."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._heads: dict[str, tuple[str, int]] = {}
        self._written_s = float("-inf")
        self._dirty = False

    def check(self, read_heads: Callable[[], dict[str, tuple[str, int]]], *, log_name: str) -> None:
        """Compare the log's heads (tenant to epoch, seq) with the file. Raises LogMisconfigured.

        They are read after the file: beside a running server the log goes on meanwhile.
        """
        try:
            sealed = self._read()
        except _DAMAGED:
            raise LogMisconfigured(
                f"{self._path} is damaged. If {log_name} is the original log and no restored copy, delete it; "
                "otherwise run `sync-server log new-epoch` after deleting it."
            ) from None
        except OSError as exc:
            raise LogMisconfigured(f"{self._path} cannot be read ({exc.strerror}).") from exc
        heads = read_heads()
        for tenant, (epoch, seq) in sealed.items():
            log_epoch, log_seq = heads.get(tenant, ("", 0))
            if log_seq < seq or (log_epoch != epoch and seq):
                raise LogMisconfigured(
                    f"{log_name} ends at {log_seq} for tenant {tenant!r}, but {seq} was already handed out: "
                    "it is a restored or cut copy. Run `sync-server log new-epoch`, so that readers resync."
                )
        self._heads = dict(heads)

    def keep(self, heads: dict[str, tuple[str, int]]) -> None:
        """Go on with the file's heads unchecked; those of the log where the file says nothing of a tenant."""
        self._heads = dict(heads)
        with suppress(OSError, *_DAMAGED):
            self._heads |= self._read()

    def advance(self, tenant: str, epoch: str, seq: int, *, now_s: float) -> None:
        """The log has come to *seq*. *now_s* is monotonic."""
        self._heads[tenant] = (epoch, seq)
        self._dirty = True
        if now_s - self._written_s >= WRITE_INTERVAL_S:
            self.write()
            self._written_s = now_s

    def replace(self, tenant: str, epoch: str, seq: int) -> None:
        """The log has begun a new epoch, from which on *seq* counts."""
        self._heads[tenant] = (epoch, seq)
        self._dirty = True
        self.write()

    def _read(self) -> dict[str, tuple[str, int]]:
        try:
            text = self._path.read_text()
        except FileNotFoundError:
            return {}
        return {tenant: (str(epoch), int(seq)) for tenant, (epoch, seq) in json.loads(text).items()}

    def write(self) -> None:
        """Put the file in place in one step. A failure is not the log's: the next one tries again."""
        if not self._dirty:
            return
        temporary = self._path.with_name(self._path.name + ".new")
        try:
            with temporary.open("w") as file:
                file.write(json.dumps(self._heads))
                file.flush()
                os.fsync(file.fileno())  # or a power cut could leave an empty file, and that refuses the log
            temporary.replace(self._path)
            self._dirty = False
        except OSError:
            pass
