"""``python -m bench [NAME ...]``: all measurements, or those named, one after the other (about two hours).

    fanout    deliveries per CPU second beside five other servers, at 100 to 10,000 readers
    connect   seconds to accept 10,000 readers, and memory per idle one, beside the same
    latency   publish to delivery at 20 events/s, to the first and the last of 1,000 readers, beside nginx+nchan
    storm     5,000 readers come back at once with cursors within the last 10,000 events
    filters   10,000 readers of as many orders, and 100 tenants, beside one channel and one tenant
    audiences 1,000 readers of 50 audiences, beside as many without
    compression  shared gzip beside none, and beside a compressor for each reader
    workers   two processes beside one, on MongoDB, and what MongoDB does
    publish   durable events/s through HTTP
    devices   a cashier's change to the 99 other tills on /ws
    near      the nearest of 10,000 vehicles, by HTTP
    tracking  1,000 vehicles, a position a second, on 200 maps, some of them slow
    cost      what one more reader, delivery, event and tenant takes: the model of docs/capacity.md
    commands  commands/s through HTTP, and a snapshot of 50,000 orders
    catchup   100,000 events to one reader after a restart

And not among all, since it takes an hour:

    soak      2,000 readers, 20 of them cut off every second, 50 events/s: memory, descriptors, tasks, sequences

Each is also ``python -m bench.NAME --help``. Results are printed and written to bench/results/NAME.json.
Needs: Linux with 2 CPUs, taskset, cc, ulimit -n 20000; mongod from the development extra; and for the other servers
nginx with libnginx-mod-nchan, redis-server, node with npm (apt), and the way to the npm registry and PyPI.
"""

import subprocess
import sys

NAMES = (
    "fanout", "connect", "latency", "storm", "filters", "audiences", "compression", "workers", "publish", "devices",
    "near", "tracking", "commands", "catchup", "cost",
)  # fmt: skip
ALONE = ("soak",)


def main() -> int:
    """Run them, each in a process of its own; the number of those that failed."""
    names = sys.argv[1:] or NAMES
    unknown = sorted(set(names) - {*NAMES, *ALONE})
    if unknown:
        print(__doc__)
        print(f"There is no bench {', '.join(unknown)}.", file=sys.stderr)
        return 2
    return sum(subprocess.run([sys.executable, "-m", f"bench.{name}"], check=False).returncode != 0 for name in names)


if __name__ == "__main__":
    sys.exit(main())
