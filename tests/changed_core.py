"""Servers and programs of another version: with a copy of sync_core in which something is declared differently.

env = changed_core(directory, "domain/orders.py", lambda text: text + ONE_MORE)
with SyncServer(tmp_path, env=env) as server: ...
said(PROGRAM, server.base_url, env=env)
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sync_core
from tests.servers import clean_environment

__all__ = ["changed_core", "said"]


def changed_core(directory: Path, file: str, change: Callable[[str], str]) -> dict[str, str]:
    """The environment of processes that find a copy in *directory*, with *file* changed, before the package itself."""
    copy = directory / "sync_core"
    shutil.copytree(Path(sync_core.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    before = (copy / file).read_text(encoding="utf-8")
    after = change(before)
    assert after != before
    (copy / file).write_text(after, encoding="utf-8")
    return {"PYTHONPATH": os.pathsep.join([str(directory), str(Path(__file__).parents[1])])}


def said(program: str, *arguments: str, env: dict[str, str]) -> Any:
    """What a Python program prints, as JSON."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", program, *arguments],  # not what lies in the working directory
        env=clean_environment(env), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
