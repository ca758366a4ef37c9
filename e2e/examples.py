"""The examples, run as people run them."""

import asyncio
import subprocess
import sys
from pathlib import Path

from tests.servers import clean_environment

__all__ = ["EXAMPLES", "played"]

EXAMPLES = Path(__file__).parents[1] / "examples"
RUN_TIMEOUT_S = 100


async def played(name: str, *arguments: str, status: int = 0) -> str:
    """What examples/*name* prints, faults included; it has to end with *status*, and without a traceback."""

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(EXAMPLES / name), *arguments], env=clean_environment(), stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, timeout=RUN_TIMEOUT_S,
        )  # fmt: skip

    done = await asyncio.to_thread(run)
    assert done.returncode == status, done.stdout
    assert "Traceback" not in done.stdout
    return done.stdout
