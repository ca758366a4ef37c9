"""``python -m bench [NAME ...]``: all measurements, or those named, one after the other (about 12 minutes).

    fanout    deliveries per CPU second beside nginx+nchan, at 1,000 and 5,000 readers
    connect   seconds to accept 5,000 readers, and memory per idle one
    latency   publish to delivery at 20 events/s
    publish   durable events/s through HTTP
    commands  commands/s through HTTP, and a snapshot of 50,000 orders
    catchup   100,000 events to one reader after a restart

Each is also ``python -m bench.NAME --help``. Results are printed and written to bench/results/NAME.json.
Needs: Linux with 2 CPUs, taskset, cc, nginx with libnginx-mod-nchan, ulimit -n 20000; mongod from the
development extra.
"""

import subprocess
import sys

NAMES = ("fanout", "connect", "latency", "publish", "commands", "catchup")


def main() -> int:
    """Run them, each in a process of its own; the number of those that failed."""
    names = sys.argv[1:] or NAMES
    unknown = sorted(set(names) - set(NAMES))
    if unknown:
        print(__doc__)
        print(f"There is no bench {', '.join(unknown)}.", file=sys.stderr)
        return 2
    return sum(subprocess.run([sys.executable, "-m", f"bench.{name}"], check=False).returncode != 0 for name in names)


if __name__ == "__main__":
    sys.exit(main())
