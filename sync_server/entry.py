"""The entry point of the command ``sync-server``, which is installed with the client too.

Only the standard library is imported before it is known whether the server's libraries are there.
"""

import sys

__all__ = ["main"]

EXIT_CONFIG = 2
SERVER_LIBRARIES = frozenset(
    {"argon2", "bson", "cryptography", "httptools", "jwt", "limits", "prometheus_client", "pydantic_settings",
     "pymongo", "starlette", "structlog", "uvicorn", "uvloop", "websockets"}
)  # fmt: skip
"""What ``order-sync[server]`` brings along; anything else that is missing is a fault and shows as one."""


def main() -> None:
    """Run the command line. Some libraries are imported only when a command needs them."""
    try:
        from sync_server import cli

        cli.main()
    except ModuleNotFoundError as exc:
        if (exc.name or "").partition(".")[0] not in SERVER_LIBRARIES:
            raise
        sys.stderr.write("sync-server: the server's libraries are not installed: pip install 'order-sync[server]'\n")
        sys.exit(EXIT_CONFIG)
