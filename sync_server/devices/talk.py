"""``/ws``: the cashier's protocol (seed 003) over a socket. Its messages: incoming.py, outgoing.py; docs/devices.md.

A till hears everything from the moment that its socket is open. With ``connect`` it is told first what it missed since
its cursor, or (without one, or where that is too old) all devices. What it sends becomes a command like those of the
REST routes, decided in the log's transaction, and reaches all others through the feed; itself only if it was refused.
"""

import asyncio
import re
import secrets
from collections import OrderedDict
from dataclasses import dataclass, field
from time import time_ns
from typing import Any

import structlog
from pydantic import ValidationError

from sync_core.cursor import Cursor
from sync_core.domain.catalog import CASHIER
from sync_core.domain.devices import Device
from sync_core.filters import Filter
from sync_core.problems import Problem, TooManyRequests, Unavailable
from sync_core.times import iso_from_ms
from sync_server.api.canonical import fingerprint_of
from sync_server.commands.answer import Answer
from sync_server.commands.dispatch import Call, Dispatch
from sync_server.commands.write import Guard
from sync_server.devices.incoming import Hello, InvalidMessage, Wish, parse
from sync_server.devices.outgoing import (
    RESYNC,
    UNREADABLE,
    about,
    code_of,
    device_made,
    message_of,
    text_of,
    unreadable_text,
)
from sync_server.feed.admission import Admission
from sync_server.feed.feed import Feed
from sync_server.feed.framing import MappedMessages
from sync_server.feed.request import FeedRequest
from sync_server.feed.view import Sight, View
from sync_server.log.base import EventLog, LogError, Selection
from sync_server.log.records import StoredDocument
from sync_server.sockets.door import SocketRoute
from sync_server.sockets.limits import MessageRate, SocketLimits, Verdict
from sync_server.sockets.socket import MAX_AGE_S, Socket

__all__ = ["CASHIER_SOCKET_PATH", "CashierSockets"]

CASHIER_SOCKET_PATH = "/ws"
MAX_OWN = 1000
"""So many devices' versions, that a till has made itself, are remembered for it."""
RETRY_AFTER_S = 2
PAGE = 500
GREETINGS_PER_S = 20
"""Of one socket: each may bring all devices."""

_EVENTS = Filter(event_types=frozenset(event_type.name for event_type in CASHIER.event_types))
_NO_NAME = re.compile(r"[^A-Za-z0-9._-]")

log = structlog.get_logger("sync_server")


def to_all(envelope: dict[str, Any]) -> dict[str, Any] | None:
    """What tills that see all devices are told."""
    return _told(envelope, whole=True)


def to_some(envelope: dict[str, Any]) -> dict[str, Any] | None:
    """What tills are told that see some devices only."""
    return _told(envelope, whole=False)


def _told(envelope: dict[str, Any], *, whole: bool) -> dict[str, Any] | None:
    if envelope["eventType"] == "reset":
        return _resync(envelope)
    try:
        return message_of(envelope, whole=whole)
    except (LookupError, TypeError, ArithmeticError):  # of a newer server; the rest of the feed is not to end with it
        device_id = str(envelope.get("deviceID", ""))
        told = {"type": "error", "code": UNREADABLE, "message": unreadable_text(device_id), "timestamp": _now()}
        return told | {"cursor": envelope["id"], "deviceId": device_id}


def _resync(envelope: dict[str, Any]) -> dict[str, Any]:
    text = "What you missed is not kept any more; send connect again, without a cursor."
    return {"type": "error", "code": RESYNC, "message": text, "timestamp": _now(), "cursor": envelope["id"]}


@dataclass(slots=True)
class _Devices:
    """What a till is told first: devices, and the ids of those that a newer server wrote."""

    known: list[Device] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)

    def add(self, stored: StoredDocument) -> None:
        try:
            self.known.append(Device.model_validate_json(stored.body))
        except ValidationError as exc:
            log.error("document_unreadable", kind=stored.kind, id=stored.id, faults=exc.error_count())
            self.unreadable.append(stored.id)


class CashierSockets:
    """What the sockets at ``/ws`` have in common."""

    def __init__(self, dispatch: Dispatch, feed: Feed, event_log: EventLog) -> None:
        self._dispatch = dispatch
        self._feed = feed
        self._log = event_log

    def route(self, limits: SocketLimits) -> SocketRoute:
        """To be given to the door."""
        return SocketRoute(CASHIER_SOCKET_PATH, self.talk, limits, late=True)

    async def talk(self, socket: Socket) -> None:
        """One till, to its end. Raises Problem, SocketLost."""
        till = _Till(socket, self._dispatch, self._feed, self._log)
        # Before the handshake is answered: whoever has its answer hears of everything from there on.
        admission = await till.admission(None) if socket.is_identified else None
        await socket.accept()
        if admission is not None:
            till.attach(admission)
        async for message in socket:
            try:
                await till.take(message)
            except InvalidMessage as fault:
                await socket.error("INVALID_MESSAGE", fault.detail, **about(fault, fault.errors))


class _Till:
    """One socket. Its messages are done one after the other, in their order."""

    def __init__(self, socket: Socket, dispatch: Dispatch, feed: Feed, event_log: EventLog) -> None:
        self._socket = socket
        self._dispatch = dispatch
        self._feed = feed
        self._log = event_log
        self._greetings = MessageRate(GREETINGS_PER_S)
        self._client_id = ""
        self._session = _new_session("")
        self._own: OrderedDict[str, int] = OrderedDict()
        """By device the version that this till made last: it knows it, though it is not told of it."""

    async def take(self, message: dict[str, Any]) -> None:
        """Do what *message* asks for. Raises InvalidMessage, SocketLost; Problem where that ends the socket."""
        match parse(message):
            case Hello() as hello:
                await self._greet(hello)
            case Wish() as wish:
                await self._do(wish)

    # -- what it hears ------------------------------------------------------------------------------

    async def _greet(self, hello: Hello) -> None:
        """Answer ``connect``: from where it goes on, and before that all devices if that is nowhere."""
        self._socket.caller.rights.require(Device.view_permission)
        if self._greetings.judge(0) is not Verdict.ACCEPTED:
            await self._socket.refuse(TooManyRequests(f"At most {GREETINGS_PER_S} times a second."))
            return
        self._socket.leave()  # or what happens meanwhile would come between
        self._client_id = hello.clientId or ""
        self._session = hello.session or _new_session(self._client_id)
        admission = await self.admission(hello.cursor) if hello.cursor is not None else None
        resume, devices = "resumed", _Devices()
        if admission is None or admission.begins.resume != "resumed":
            resume = "snapshot" if admission is None else "reset"
            cursor, devices = await self._devices()
            admission = await self.admission(cursor)
        await self._socket.send(
            {
                "type": "connected", "success": True, "message": "Connected to server", "timestamp": _now(),
                "cursor": admission.hub.cursor_text(admission.begins.seq), "session": self._session, "resume": resume,
                "devices": len(devices.known),
            }
        )  # fmt: skip
        for device in devices.known:
            now_ms = _now_ms()
            await self._socket.send(device_made(device, now_ms=now_ms, now=iso_from_ms(now_ms)))
            await asyncio.sleep(0)
        for device_id in devices.unreadable:
            await self._socket.error(UNREADABLE, unreadable_text(device_id), deviceId=device_id)
        self.attach(admission)

    async def admission(self, cursor: str | None) -> Admission:
        """To hear what happens from *cursor* on (None: from now). Raises Unavailable."""
        caller = self._socket.caller
        view = View(Sight(_EVENTS, caller.rights), self._session, caller)
        return await Admission.of(self._feed, FeedRequest(view, cursor, "", {}))

    def attach(self, admission: Admission) -> None:
        framing = MappedMessages(to_some if self._socket.caller.rights.bound else to_all)
        self._socket.attach(admission, framing, max_age_s=MAX_AGE_S)

    async def _devices(self) -> "tuple[str, _Devices]":
        """All devices that it may see, and a cursor from which the feed brings what may be newer."""
        caller, cursor, found = self._socket.caller, "", _Devices()
        selection, after = Selection((Device.kind,)), None
        try:
            await self._log.ensure(caller.tenant)
            while True:
                page = await self._log.documents(caller.tenant, selection, after=after, limit=PAGE)
                cursor = cursor or str(Cursor(page.bounds.epoch, page.bounds.head))
                for stored in page.documents:
                    if caller.rights.sees_document(Device, stored.grants, stored.audience):
                        found.add(stored)
                        await asyncio.sleep(0)  # a full one takes 4 ms; between two of them others have their turn
                if page.next is None:
                    return cursor, found
                after = page.next
        except LogError as exc:
            raise Unavailable("The event log cannot be read now.", retry_after_s=RETRY_AFTER_S) from exc

    # -- what it does -------------------------------------------------------------------------------

    async def _do(self, wish: Wish) -> None:
        try:
            answer = await self._dispatch(self._socket.caller, self._call(wish))
            if answer.refusal is not None:
                raise answer.refusal.problem(self._dispatch.domain.kinds)
        except Problem as problem:
            device = _current(problem, wish)
            await self._socket.error(code_of(problem), text_of(problem, wish), **about(wish, problem.errors, device))
            return
        self._remember(answer, adds=wish.adds)
        if wish.id is not None:
            versions = {item.id: item.version for item in answer.changed}
            # Without the cursor of its commit: what others did before that may still be on its way here.
            await self._socket.send({"type": "ack", "id": wish.id, "timestamp": _now(), "versions": versions})

    def _call(self, wish: Wish) -> Call:
        key = None
        if wish.id is not None:
            # Two tills without a name may count their messages alike.
            key = "ws-" + fingerprint_of(self._client_id or self._session, wish.id)
        return Call(
            command=wish.command,
            given=wish.given,
            client_id=self._session,
            guard=self._guard(wish),
            key=key,
            fingerprint=fingerprint_of(wish.type, wish.given.model_dump(mode="json")),
            size_bytes=wish.size_bytes,
        )

    def _guard(self, wish: Wish) -> Guard | None:
        """That the device is as this till knows it; what only adds to it is welcome however it is."""
        if wish.base_version is not None:
            return Guard(frozenset({wish.base_version}))
        cursor = self._socket.cursor
        if wish.adds or cursor is None:
            return None
        own = self._own.get(wish.device_id)
        return Guard(frozenset() if own is None else frozenset({own}), upto_seq=Cursor.parse(cursor).seq)

    def _remember(self, answer: Answer, *, adds: bool) -> None:
        for item in answer.changed:
            if adds and self._own.get(item.id) != item.version - 1:
                # Added to what others may have made: this till has not seen all of it before it is told.
                self._own.pop(item.id, None)
                continue
            self._own[item.id] = item.version
            self._own.move_to_end(item.id)
        while len(self._own) > MAX_OWN:
            self._own.popitem(last=False)


def _current(problem: Problem, wish: Wish) -> dict[str, Any] | None:
    """The device as it stands, of a conflict that tells."""
    current: dict[str, Any] = problem.extensions.get("current", {})
    for device in [*current.get(Device.plural, ()), *([current[Device.kind]] if Device.kind in current else ())]:
        if device["deviceID"] == wish.device_id:
            return {**device, "elapsedSeconds": Device.model_validate(device).elapsed_s(_now_ms())}
    return None


def _new_session(client_id: str) -> str:
    """Names this socket in what it causes."""
    return f"{_NO_NAME.sub('', client_id)[:64] or 'till'}#{secrets.token_hex(6)}"


def _now_ms() -> int:
    return time_ns() // 1_000_000


def _now() -> str:
    return iso_from_ms(_now_ms())
