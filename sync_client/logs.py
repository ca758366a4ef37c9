"""Where the library logs to: the standard logger "sync_client", as events with fields, so that any program's
own logging takes them in. Never payloads, never tokens.
"""

import logging
from typing import Any

__all__ = ["get_logger"]

_STANDARD = logging.getLogger("sync_client")


class _Logger:
    """structlog on the standard logger, loaded at the first line that is wanted: it takes 70 ms to import."""

    def __init__(self) -> None:
        self._bound: Any = None

    def _write(self, level: int, event: str, fields: dict[str, Any]) -> None:
        if not _STANDARD.isEnabledFor(level):
            return
        if self._bound is None:
            import structlog

            self._bound = structlog.wrap_logger(
                _STANDARD,
                processors=[
                    structlog.processors.format_exc_info,
                    structlog.processors.KeyValueRenderer(key_order=["event"]),
                ],
                wrapper_class=structlog.stdlib.BoundLogger,
                context_class=dict,
            )
        self._bound.log(level, event, **fields)

    def info(self, event: str, **fields: Any) -> None:
        self._write(logging.INFO, event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        self._write(logging.WARNING, event, fields)

    def error(self, event: str, **fields: Any) -> None:
        self._write(logging.ERROR, event, fields)

    def exception(self, event: str, **fields: Any) -> None:
        """An error with the traceback of the exception that is being handled."""
        self._write(logging.ERROR, event, {"exc_info": True, **fields})


def get_logger() -> _Logger:
    """The library's logger: ``log.warning("event_name", field=value)``."""
    return _Logger()
