"""Client and server are killed with kill -9 at random points while events flow; then everything is counted.

    python e2e/crash_recovery.py [--rounds 50] [--seed N]

Exit status 0: every event took effect exactly once in the transactional handler and reached the plain handler at
least once, with the same id, in order. The rounds come from SYNC_TEST_ROUNDS where the option is not given.
"""

import argparse
import asyncio
import os
import random
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from e2e.client.chaos import KILLS, Chaos
from e2e.client.harness import open_shop
from e2e.client.show import bar, rows_of, show_table, show_verdict


async def run(rounds: int, seed: int) -> int:
    """The exit status."""
    with tempfile.TemporaryDirectory(prefix="crash-recovery-") as name:
        directory = Path(name)
        async with open_shop(directory) as shop:
            with bar(f"crash recovery (seed {seed})", rounds) as step:
                chaos = Chaos(shop, directory, rng=random.Random(seed))
                verdict = await chaos.run(rounds, KILLS, progress=step)
    show_table("Crash recovery", rows_of(verdict))
    return show_verdict(verdict.faults)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=int(os.environ.get("SYNC_TEST_ROUNDS", "50")))
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    given = parser.parse_args()
    sys.exit(asyncio.run(run(given.rounds, given.seed)))


if __name__ == "__main__":
    main()
