"""Client and server are killed with kill -9 at random points while events flow; then everything is counted.

    python e2e/crash_recovery.py [--rounds 50] [--seed N]

Exit status 0: every event took effect exactly once in the transactional handler and reached the plain handler at
least once, with the same id, in order. The rounds come from SYNC_TEST_ROUNDS where the option is not given.
"""

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from e2e.client.chaos import KILLS
from e2e.client.script import chaos_rounds, run_script
from e2e.client.show import rows_of, show_table, show_verdict


async def run(rounds: int, seed: int) -> int:
    """The exit status."""
    with tempfile.TemporaryDirectory(prefix="crash-recovery-") as directory:
        verdict = await chaos_rounds("crash recovery", KILLS, Path(directory), rounds=rounds, seed=seed)
    show_table("Crash recovery", rows_of(verdict))
    return show_verdict(verdict.faults)


if __name__ == "__main__":
    run_script(run, doc=__doc__)
