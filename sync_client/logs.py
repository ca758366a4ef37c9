"""Where the library logs to: the standard logger "sync_client", as events with fields, so that any program's
own logging takes them in. Never payloads, never tokens.
"""

import logging
from typing import Any

__all__ = ["get_logger"]

_STANDARD = logging.getLogger("sync_client")


class _Logger:
    """Writes ``event='state' before='connected'``: one line to read and to search."""

    def info(self, event: str, **fields: Any) -> None:
        self._write(logging.INFO, event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        self._write(logging.WARNING, event, fields)

    def error(self, event: str, *, exc_info: BaseException | None = None, **fields: Any) -> None:
        """*exc_info*: an exception whose traceback follows."""
        self._write(logging.ERROR, event, fields, exc_info)

    def exception(self, event: str, **fields: Any) -> None:
        """An error with the traceback of the exception that is being handled."""
        self._write(logging.ERROR, event, fields, True)

    def _write(
        self, level: int, event: str, fields: dict[str, Any], exc_info: BaseException | bool | None = None
    ) -> None:
        if _STANDARD.isEnabledFor(level):
            text = " ".join(f"{name}={value!r}" for name, value in {"event": event, **fields}.items())
            _STANDARD.log(level, "%s", text, exc_info=exc_info, stacklevel=3)


def get_logger() -> _Logger:
    """The library's logger: ``log.warning("event_name", field=value)``."""
    return _Logger()
