"""A kiosk: a window that shows what each order is at, and how the connection is. No asyncio in sight.

    python examples/kiosk_tk.py [--url http://127.0.0.1:8000] [--text] [--for SECONDS]

``--text`` prints instead of opening a window, for machines without a display. Unplug the network, kill the server,
kill the kiosk: it comes back with what it showed and what it missed. Ctrl-C ends it.
"""

import argparse
import signal
import threading
import time
from collections.abc import Callable
from typing import Protocol

from sync_client import Event
from sync_client.blocking import SyncClient

COLOURS = {"healthy": "#2e7d32", "polling": "#f9a825", "reconnecting": "#f9a825", "error": "#c62828"}
TICK_MS = 50
KEPT_S = 24 * 3600.0
RECENT = 1000
"""So much of a day is on the screen again after a restart."""


class Screen(Protocol):
    """What the kiosk draws on."""

    def show_order(self, order_id: str, stage: str) -> None: ...

    def show_status(self, text: str, colour: str) -> None: ...

    def run(self, tick: Callable[[], bool]) -> None:
        """Call *tick* every few milliseconds until it says that it is over."""


class TextScreen:
    """Lines on standard output."""

    def __init__(self) -> None:
        self._status = ""

    def show_order(self, order_id: str, stage: str) -> None:
        print(f"{order_id}: {stage}", flush=True)

    def show_status(self, text: str, colour: str) -> None:
        del colour
        if text != self._status:
            self._status = text
            print(f"[{text}]", flush=True)

    def run(self, tick: Callable[[], bool]) -> None:
        while not tick():
            time.sleep(TICK_MS / 1000)


class TkScreen:
    """A window with a row for each order and a coloured line below."""

    def __init__(self) -> None:
        import tkinter as tk
        from tkinter import ttk

        self.root = tk.Tk()
        self.root.title("Orders")
        self._rows = ttk.Treeview(self.root, columns=("stage",))
        self._rows.heading("#0", text="order")
        self._rows.heading("stage", text="stage")
        self._rows.pack(fill="both", expand=True)
        self._status = tk.Label(self.root, anchor="w", foreground="white")
        self._status.pack(fill="x")

    def show_order(self, order_id: str, stage: str) -> None:
        if self._rows.exists(order_id):
            self._rows.set(order_id, "stage", stage)
        else:
            self._rows.insert("", 0, iid=order_id, text=order_id, values=(stage,))

    def show_status(self, text: str, colour: str) -> None:
        self._status.configure(text=text, background=colour)

    def run(self, tick: Callable[[], bool]) -> None:
        def again() -> None:
            if tick():
                self.root.destroy()
            else:
                self.root.after(TICK_MS, again)

        again()
        self.root.mainloop()


class Kiosk:
    """What happens, whatever it is drawn on."""

    def __init__(self, client: SyncClient, screen: Screen) -> None:
        self._client = client
        self._screen = screen
        client.on_stage_change()(self._stage_changed)

    def fill(self) -> None:
        """What it showed before it was ended: the cache has it. What is new since then comes as events."""
        for event in self._client.recent(RECENT):
            if event.is_processed and "newStage" in event.data:
                self._stage_changed(event, None, event.data["newStage"])

    def tick(self) -> None:
        """Call this every few milliseconds from the thread that draws."""
        self._client.process()
        health = self._client.health
        text = health.status.upper() + (" (polling)" if health.is_polling_fallback else "")
        self._screen.show_status(text, COLOURS.get(health.status, "#616161"))

    def _stage_changed(self, event: Event, before: str | None, stage: str) -> None:
        del before
        self._screen.show_order(event.order_id or "?", stage)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--text", action="store_true")
    parser.add_argument("--for", dest="seconds", type=float)
    given = parser.parse_args()
    stop = threading.Event()
    # Not KeyboardInterrupt: it would be raised inside whatever callback runs, and Tk would print and forget it.
    signal.signal(signal.SIGINT, lambda *_: stop.set())
    end_s = float("inf") if given.seconds is None else time.monotonic() + given.seconds
    client = SyncClient(
        given.url, client_name="kiosk", start="earliest", unattended=True,
        retention_s=KEPT_S, retention_events=RECENT,
    )  # fmt: skip
    screen = TextScreen() if given.text else TkScreen()
    kiosk = Kiosk(client, screen)

    def tick() -> bool:
        kiosk.tick()
        return stop.is_set() or time.monotonic() >= end_s

    with client:
        kiosk.fill()
        screen.run(tick)


if __name__ == "__main__":
    main()
