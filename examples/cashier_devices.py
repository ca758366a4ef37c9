"""An evening in a games café: three tills over WebSocket (`/ws`), from the first guest to the last (seed 003).

    python examples/cashier_devices.py                                # with a server of its own
    python examples/cashier_devices.py --url http://127.0.0.1:8000    # with one that runs, without access control

Each till keeps its own picture of the devices from what it is told, shows what it does at once, and takes it back if
the server refuses. Prints what each is told; exits with 1 if the pictures are not the same in the end. Needs the
library `websockets` (`pip install '.[ws]'`). The messages: docs/devices.md.
"""

import asyncio
import contextlib
import copy
import json
import sys
import tempfile
import time
import uuid
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from stage import PATIENCE_S, Server, arguments, ask, check, play
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

Message = dict[str, Any]


def now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")


def pretty(message: Message) -> str:
    """What matters of *message* to people."""
    left_out = {"type", "timestamp", "cursor", "version", "fromVersion", "session", "id"}
    more = {name: value for name, value in message.items() if name not in left_out}
    return f"{message['type']} {json.dumps(more, ensure_ascii=False)}"


class Till:
    """One cash desk. *devices* is what its screen shows; *cursor* where it goes on when it was away."""

    def __init__(self, name: str, url: str) -> None:
        self.name = name
        self.devices: dict[str, Message] = {}
        self.told: list[Message] = []
        self._url = url.replace("http", "ws", 1) + "/ws"
        self._cursor: str | None = None
        self._session: str | None = None
        self._before: dict[str, dict[str, Message]] = {}  # what the screen showed, by the message that changed it
        self._socket: ClientConnection | None = None
        self._reading: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Connect, and be told what was missed."""
        self._socket = await connect(self._url)
        greeting = {"type": "connect", "clientId": self.name, "timestamp": now()}
        if self._cursor is not None:
            greeting |= {"cursor": self._cursor, "session": self._session or ""}
        await self._socket.send(json.dumps(greeting))
        self._reading = asyncio.create_task(self._read(self._socket))
        await self.hears("connected")

    async def pull_the_cable(self) -> None:
        """As a network does it: without a word."""
        assert self._socket is not None
        assert self._reading is not None
        self._socket.transport.abort()
        await self._reading

    async def close(self) -> None:
        if self._socket is not None:
            await self._socket.close()

    async def _read(self, connection: ClientConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for text in connection:
                message = json.loads(text)
                print(f"{self.name:>10} ← {pretty(message)}", flush=True)
                self._take(message)
                self.told.append(message)

    async def hears(self, kind: str, *, count: int = 1) -> Message:
        """Wait until it was told *count* of that type; the last one, and all before it are done with."""
        end_s = time.monotonic() + PATIENCE_S
        while sum(message["type"] == kind for message in self.told) < count:
            check(time.monotonic() < end_s, f"{self.name} was told no {kind}")
            await asyncio.sleep(0.01)
        found = [message for message in self.told if message["type"] == kind][count - 1]
        del self.told[: self.told.index(found) + 1]
        return found

    async def does(self, kind: str, **content: Any) -> None:
        """Show it at once, then send it."""
        assert self._socket is not None
        message = {"type": kind, **content, "timestamp": now(), "id": str(uuid.uuid4())}
        print(f"{self.name:>10} → {pretty(message)}", flush=True)
        self._before[message["id"]] = copy.deepcopy(self.devices)
        self._show(kind, content)
        await self._socket.send(json.dumps(message, ensure_ascii=False))

    # -- the screen -----------------------------------------------------------------------------------

    def _take(self, message: Message) -> None:
        self._cursor = message.get("cursor", self._cursor)
        match message["type"]:
            case "connected":
                self._session = message["session"]
                if message["resume"] != "resumed":
                    self.devices.clear()  # all of them follow
            case "device_created":
                self.devices[message["deviceId"]] = message["data"]
            case "device_updated":
                self._show("device_update", message)
            case "order_added":
                self._show("order_placed", message)
            case "order_modified":
                self._show("order_updated", message)
            case "order_removed":
                self._show("order_deleted", message)
            case "device_transferred":
                self._show("device_transfer", message)
            case "device_cleared":
                self._show("device_reset", message)
            case "device_removed":
                self._show("device_deleted", message)
            case "ack":
                self._before.pop(message["id"], None)
            case "error" if message.get("id", "") in self._before:
                self.devices = self._before.pop(message["id"])  # it was not to be
                if "data" in message:
                    self.devices[message["deviceId"]] = message["data"]

    def _show(self, kind: str, content: Message) -> None:
        device = self.devices.get(str(content.get("deviceId", content.get("fromDeviceId"))))
        if device is None:
            return
        match kind:
            case "device_update":
                device.update(content["data"])
            case "order_placed":
                device["orders"] = [*device["orders"], *content["orders"]]
            case "order_updated":
                device["orders"][content["orderIndex"]].update(content["data"])
            case "order_deleted":
                del device["orders"][content["orderIndex"]]
            case "device_transfer":
                target = self.devices[content["toDeviceId"]]
                target.update({name: value for name, value in device.items() if name != "name"})
                device.update(_fresh())
            case "device_reset":
                device.update(_fresh())
            case "device_deleted":
                del self.devices[content["deviceId"]]


def _fresh() -> Message:
    return {
        "isRunning": False, "elapsedSeconds": 0, "mode": "single", "customerCount": 1, "notes": "", "orders": [],
    }  # fmt: skip


def order(name: str, price: float, quantity: int = 1, notes: str = "") -> Message:
    at = now()
    return {
        "name": name, "price": price, "quantity": quantity, "notes": notes, "firstOrderTime": at, "lastOrderTime": at,
    }  # fmt: skip


async def evening(url: str) -> None:
    """From the first guest to the last."""
    tag = uuid.uuid4().hex[:6]  # so that it can be played again and again on the same server
    pc1, pc5, pc10 = (f"pc{number}-{tag}" for number in (1, 5, 10))

    async def office(method: str, path: str, body: Any = None) -> Any:  # it needs no socket
        return await asyncio.to_thread(ask, url, path, body, method=method)

    for device_id in (pc1, pc5):
        await office("POST", "/devices", {"deviceID": device_id})
    front, bar, door = tills = [Till(name, url) for name in ("front", "bar", "door")]
    async with contextlib.AsyncExitStack() as stack:
        for till in tills:
            await till.open()
            stack.push_async_callback(till.close)
            while not {pc1, pc5} <= till.devices.keys():
                await till.hears("device_created")

        async def all_but(one: Till, kind: str) -> None:
            for till in tills:
                if till is not one:
                    await till.hears(kind)

        await office("POST", "/devices", {"deviceID": pc10})
        for till in tills:
            await till.hears("device_created")

        await front.does(
            "device_update", deviceId=pc1, data={"isRunning": True, "elapsedSeconds": 0, "customerCount": 2}
        )
        await all_but(front, "device_updated")
        await bar.does("order_placed", deviceId=pc1, orders=[order("كولا", 1000, 2, "بارد"), order("شاي", 500.5)])
        await all_but(bar, "order_added")
        await bar.does("order_updated", deviceId=pc1, orderIndex=0, data={"quantity": 3, "notes": "بارد جداً"})
        await all_but(bar, "order_modified")
        await front.does("order_deleted", deviceId=pc1, orderIndex=1)
        await all_but(front, "order_removed")

        await front.does("device_transfer", fromDeviceId=pc1, toDeviceId=pc5)
        await all_but(front, "device_transferred")

        print("           (the cable of the till at the door is pulled)")
        await door.pull_the_cable()
        await bar.does("order_placed", deviceId=pc5, orders=[order("قهوة", 1500)])
        await front.hears("order_added")
        await door.open()
        missed = await door.hears("order_added")
        check(missed["orders"][0]["name"] == "قهوة", "what was missed was told")

        await front.does("device_update", deviceId=pc5, data={"notes": "زبون مهم"}, baseVersion=1)
        refusal = await front.hears("error")
        check(refusal["code"] == "CONFLICT", "who goes by an old version is refused")
        check(front.devices[pc5]["notes"] == "", "and has taken it back")

        await door.does("device_reset", deviceId=f"nowhere-{tag}")
        check((await door.hears("error"))["code"] == "DEVICE_NOT_FOUND", "what is not there is told")

        catalog = f"/catalog/cafe-{tag}"
        await office("PUT", f"{catalog}/categories", {"categories": [{"name": "مشروبات"}]})
        await office("PUT", f"{catalog}/prices", {"prices": [{"name": "كولا", "category": "مشروبات", "price": "1250"}]})
        for till in tills:
            await till.hears("categories_updated")
            await till.hears("prices_updated")

        await bar.does("device_reset", deviceId=pc5)
        await all_but(bar, "device_cleared")
        await front.does("device_update", deviceId=pc10, data={"mode": "multi", "customerCount": 4})
        await all_but(front, "device_updated")
        await door.does("device_deleted", deviceId=pc1)
        await all_but(door, "device_removed")

        mine = {pc1, pc5, pc10}
        pictures = [{name: till.devices[name] for name in mine & till.devices.keys()} for till in tills]
        check(pictures[0] == pictures[1] == pictures[2], f"the tills show the same: {pictures}")
        for name, picture in pictures[0].items():
            stored = (await office("GET", f"/devices/{name}"))["device"]
            check(stored["orders"] == picture["orders"] == [], f"{name} has no orders")
            check((stored["mode"], stored["customerCount"]) == (picture["mode"], picture["customerCount"]), "the same")
        check(set(pictures[0]) == {pc5, pc10}, "one of them is gone")


async def run(url: str | None) -> None:
    with tempfile.TemporaryDirectory(prefix="cashier-") as directory:
        server = Server(Path(directory)) if url is None else None
        try:
            if server is not None:
                await asyncio.to_thread(server.start)
            await evening(url or server.url)  # type: ignore[union-attr]
        finally:
            if server is not None:
                server.kill()
    print("All tills show the same, and so does the server.")


if __name__ == "__main__":
    given = arguments(__doc__).parse_args()
    sys.exit(play(partial(run, given.url), url=given.url))
