"""Where things are: the paths that more than one module has to know."""

__all__ = ["OUTCOME_PATH", "POLL_PATH", "PREFIX", "SNAPSHOT_PATH"]

PREFIX = "/api/v1"
POLL_PATH = f"{PREFIX}/sync/poll"
SNAPSHOT_PATH = f"{PREFIX}/sync/snapshot"
OUTCOME_PATH = f"{PREFIX}/commands/{{key}}"
