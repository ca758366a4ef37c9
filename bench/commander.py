"""Sends commands over HTTP: each caller leads one order after the other through its life, with a key on each command.

``--shape order``: taken, its status told, edited, paid, in progress, completed. ``--shape queue``: taken, into the
queue that all callers share, called into the caller's own bay, finished, the bay cleaned. ``--shape take``: taken,
and no more. Run by the harness like publisher.py, whose loop it uses: ``python -S -m bench.commander``.
"""

import json
import uuid
from collections.abc import Iterator

from bench.publisher import Caller, common_options, run

ITEM = {"sku": "WASH-L", "name": "Large wash", "quantity": 1, "unitPrice": "12.50"}
QUEUE = "hall"

Command = tuple[str, str, dict[str, object] | None]


def main() -> None:
    """Send commands as the command line says."""
    parser = common_options(__doc__)
    parser.add_argument("--shape", choices=LIVES, default="order")
    options = parser.parse_args()
    scripts = [LIVES[options.shape](number) for number in range(options.callers)]
    host = f"Host: 127.0.0.1:{options.port}\r\n".encode()

    def send(caller: Caller, _count: int) -> None:
        method, path, content = next(scripts[caller.number])
        body = b"" if content is None else json.dumps(content).encode()
        caller.sock.sendall(
            b"%b /api/v1%b HTTP/1.1\r\n%bContent-Type: application/json\r\nX-Client-ID: till-%d\r\n"
            b"Idempotency-Key: %b\r\nContent-Length: %d\r\n\r\n%b"
            % (method.encode(), path.encode(), host, caller.number, uuid.uuid4().hex.encode(), len(body), body)
        )

    run(options, send)


def _order_life(number: int) -> Iterator[Command]:
    count = 0
    while True:
        count += 1
        order = f"order-{number}-{count}"
        yield _take(order)
        yield "POST", f"/orders/{order}/status", {"status": "Waiting for the key."}
        yield "PATCH", f"/orders/{order}", {"notes": "Mind the roof rack."}
        yield "POST", f"/orders/{order}/payment", {"status": "paid", "amount": "25.00", "method": "card"}
        yield "POST", f"/orders/{order}/stage", {"newStage": "in_progress"}
        yield "POST", f"/orders/{order}/stage", {"newStage": "completed"}


def _queue_life(number: int) -> Iterator[Command]:
    count, bay = 0, f"bay-{number}"
    while True:
        count += 1
        order, job = f"order-{number}-{count}", f"job-{number}-{count}"
        yield _take(order)
        yield "POST", f"/queues/{QUEUE}/entries", {"orderID": order}
        yield "POST", f"/queues/{QUEUE}/call-next", {"bayID": bay, "jobID": job}
        yield "POST", f"/bays/{bay}/jobs/{job}/finish", None
        yield "PATCH", f"/bays/{bay}", {"status": "available"}


def _taking(number: int) -> Iterator[Command]:
    count = 0
    while True:
        count += 1
        yield _take(f"order-{number}-{count}")


def _take(order: str) -> Command:
    return "POST", "/orders", {"orderID": order, "items": [ITEM, ITEM], "customer": {"name": "R. Haddad"}}


LIVES = {"order": _order_life, "queue": _queue_life, "take": _taking}

if __name__ == "__main__":
    main()
