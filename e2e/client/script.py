"""What the stand-alone checks share: their options, and their rounds of chaos with a bar for those who watch."""

import argparse
import asyncio
import os
import random
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from e2e.client.chaos import Chaos, Fault, Verdict
from e2e.client.harness import open_shop
from e2e.client.show import bar

__all__ = ["chaos_rounds", "run_script"]

Script = Callable[[int, int], Awaitable[int]]


def run_script(script: Script, *, doc: str | None) -> None:
    """Run ``script(rounds, seed)`` as the program, whose exit status it returns; *doc* is shown by --help."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=int(os.environ.get("SYNC_TEST_ROUNDS", "50")))
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    given = parser.parse_args()

    async def run() -> int:
        return await script(given.rounds, given.seed)

    sys.exit(asyncio.run(run()))


async def chaos_rounds(title: str, faults: Mapping[str, Fault], directory: Path, *, rounds: int, seed: int) -> Verdict:
    """*rounds* of *faults* on a shop of its own in *directory*, counted."""
    async with open_shop(directory) as shop:
        with bar(f"{title} (seed {seed})", rounds) as step:
            return await Chaos(shop, directory, rng=random.Random(seed)).run(rounds, dict(faults), progress=step)
