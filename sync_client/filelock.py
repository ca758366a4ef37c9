"""A lock on a file that the operating system lets go of when its holder dies, on every platform.

The process id written into the file is for people only; nothing is decided by it.
"""

import os
import sys
from pathlib import Path
from typing import BinaryIO

from sync_client.errors import CacheLocked

__all__ = ["FileLock"]

# Windows locks byte ranges, and a locked range cannot be read: far behind the text, so that it can be.
_OFFSET = 1 << 20

if sys.platform == "win32":
    import msvcrt

    def _lock(file: BinaryIO) -> None:
        file.seek(_OFFSET)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)

    def _unlock(file: BinaryIO) -> None:
        file.seek(_OFFSET)
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)
else:
    import fcntl

    def _lock(file: BinaryIO) -> None:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _unlock(file: BinaryIO) -> None:
        fcntl.flock(file.fileno(), fcntl.LOCK_UN)


class FileLock:
    """Held from the making to ``close``. Raises CacheLocked if another process has it, OSError else."""

    def __init__(self, path: Path) -> None:
        self._file: BinaryIO | None = None
        # "a+b" makes the file if there is none and truncates nothing.
        file = path.open("a+b")
        try:
            _lock(file)
        except OSError as exc:
            file.seek(0)
            holder = file.read(32).decode("ascii", "replace").strip()
            file.close()
            raise CacheLocked(
                f"{path.with_suffix('.db')} is in use by another process (pid {holder or 'unknown'}): "
                "end that one, or give each program its own client_name."
            ) from exc
        file.truncate(0)
        file.write(f"{os.getpid()}\n".encode())
        file.flush()
        self._file = file

    def close(self) -> None:
        """Let go. Idempotent. The file stays: removing it would let two processes lock two files of one name."""
        if self._file is not None:
            _unlock(self._file)
            self._file.close()
            self._file = None
