"""The way in: interprets what stream and poll bring, drops what is known, commits events and cursor together.

One lock orders all of it, and a commit that has begun is finished even if the task that brought it is
cancelled. So it does not matter which transport brings an event, or whether two overlap for a moment: the
received cursor decides, and it never goes back within an epoch except to begin again after a reset.

Resync. A reset, another filter or other rights commit, in one step, the reason (``resync``) and where to go on:
the log's head, or, to get what is still there, the text ``earliest``, which survives a kill like any cursor.
What came before through the old filter is remembered (``known``) and not handed out again.
A server may contradict itself (two logs behind one address). So the client goes back to the earliest event once,
and again only after something came of it: a new event, or a stream or poll without a reset that brought it up to
date. Until then it is taken at its head, and listeners, who know the state up to there, are not told again.
Source: protocol.md 2, 6.
"""

import asyncio
import enum
import json
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from time import time_ns
from typing import Any, Protocol, TypeVar

from sync_client.event import tags_of
from sync_client.keeper import Keeper
from sync_client.logs import get_logger
from sync_client.notes import NOTHING, Taken
from sync_client.records import Arrival, Batch, Saved, StoredDocument
from sync_client.wire import (
    age_s,
    cursor_of,
    is_event,
    is_text,
    json_of,
    kept_aside,
    object_of,
    page_events,
    passing,
    read_known,
    text_of,
    write_known,
)
from sync_core.cursor import EARLIEST, Cursor
from sync_core.filters import Filter
from sync_core.sse import ServerSentEvent

__all__ = ["Documents", "Facts", "Intake", "Resync"]

DEFAULT_HEARTBEAT_S = 15.0
STALL_HEARTBEATS = 2.5
MAX_KNOWN = 5
MAX_NOTED = 100
ALWAYS = frozenset({"removed", "sync_failed"})
"""Types that no filter by type leaves out: of the first the server decides, the second is raised here."""

log = get_logger()

T = TypeVar("T")


class Documents(Protocol):
    """The replica, as the way in sees it (replica.py)."""

    def of_event(self, envelope: Mapping[str, Any]) -> StoredDocument | None: ...

    def newer(self, found: Iterable[StoredDocument]) -> list[StoredDocument]: ...

    def apply(self, news: Sequence[StoredDocument]) -> None: ...

    def completed(self, at: Cursor | None) -> Cursor | None: ...

    def demand(self, reason: str, *, at: Cursor | None) -> None: ...

    def note_time(self, text: Any) -> None:
        """What the server's clock says."""

    def stands(self, text: Any) -> None:
        """The feed has come to stand somewhere, and the server's clock says this."""


class Resync(enum.Enum):
    """Where to go on after a reset."""

    EARLIEST = "earliest"
    """At the oldest event that is still there: nothing is left out that can be had."""
    NOW = "now"
    """At the log's head: listeners load the current state themselves."""


@dataclass(slots=True)
class Facts:
    """What the server said about itself and this connection, and counts; for health and metrics."""

    heartbeat_s: float = DEFAULT_HEARTBEAT_S
    head: str = ""
    caught_up: bool = False
    tail_age_s: float = 0.0
    tail_seen_s: float = 0.0
    events: int = 0
    duplicates: int = 0
    malformed: int = 0
    """What should have been events, and was none; kept aside."""
    resets: int = 0
    """Those that listeners are told of."""
    known: list[tuple[Cursor, Filter]] = field(default_factory=list)


class Intake:
    """See notes.Sink. *behind_bytes* of undelivered events are enough for now."""

    def __init__(
        self,
        keeper: Keeper,
        saved: Saved,
        *,
        filter_: Filter,
        start: str,
        resync: Resync,
        behind_bytes: int,
        clock: Callable[[], float],
        news: Callable[[], None],
        wants: Callable[[str], bool],
        documents: Documents | None = None,
        kinds: Sequence[str] = (),
        types: frozenset[str] = frozenset(),
        stream: str = "sse",
        listens: Callable[[], bool] = lambda: True,
    ) -> None:
        """*documents* asks the feed for more than handlers do. *kinds* are those that were chosen, if any were: they
        are part of what is asked for. *types*, if any, are those that are for handlers; they are not kept at all as
        long as nobody *listens*. *stream* is what carries the stream."""
        self._documents = documents
        self._types = types
        self._stream = stream
        self._listens = listens
        self._keeper = keeper
        self._filter = filter_
        chosen = {"kinds": sorted(kinds)} if kinds else {}
        self._filter_text = json.dumps(filter_.document() | chosen, sort_keys=True)
        self._resync = resync
        self._behind_bytes = behind_bytes
        self._clock = clock
        self._news = news
        self._wants = wants
        self._has_listeners = False
        """Once there has been one, the next one finds what came in between."""
        self._lock = asyncio.Lock()
        self._start = start
        self._cursor = saved.cursor or ""
        self._access = saved.access
        self._resets_in_a_row = 0
        """Since anything came of one."""
        self._is_reset = False
        """Whether the stream that is open now does not stand where it was asked to begin."""
        self._told = ("", "")
        """Reason and head of the last reset that listeners were told of."""
        self._kept_aside: deque[str | None] = deque(maxlen=MAX_NOTED)
        """Ids of the last ones that were no events: the same one is counted once."""
        self.facts = Facts(known=read_known(saved.known))
        self.resync_reason = saved.resync
        """Why listeners are still to be told to resync; "" if they are not."""
        self._saved_filter = saved.filter
        self._saved_snapshot = saved.snapshot_due
        self._recovered = keeper.recovered

    # -- where to go on ---------------------------------------------------------------------------------

    @property
    def cursor(self) -> str:
        return self._cursor or self._start

    @property
    def received(self) -> str:
        """The cursor up to which everything is stored; "" at the very beginning."""
        return self._cursor if self._cursor != EARLIEST else ""

    @property
    def stall_s(self) -> float | None:
        return self.facts.heartbeat_s * STALL_HEARTBEATS

    @property
    def opens_with_headers(self) -> bool:
        return False

    def stream_begins(self) -> None:
        self._is_reset = False
        self.facts.caught_up = False

    async def open(self) -> None:
        """Compare the stored filter with today's; another one makes a resync due."""
        text = self._filter_text
        if self._documents is None and self._saved_snapshot == "":
            # Documents are not kept up to date in this run: whoever has a use for them again begins anew.
            await self._keeper.commit(Batch(snapshot_due="unattended"))
        if self.resync_reason == "cache_lost" and not self._cursor:
            await self._keeper.commit(Batch(filter=text))
            await self._begin_again("cache_lost", head="", had=None)
            return
        if self._saved_filter == text:
            return
        if self._saved_filter is None or not self._cursor:
            await self._keeper.commit(Batch(filter=text))
            return
        old = Filter.parse(json.loads(self._saved_filter))
        await self._begin_again("filter", head=self._cursor, had=old, filter_text=text)

    async def resync_done(self, resets: int) -> None:
        """The listeners have done what they do about the first *resets* of them."""
        async with self._lock:
            if self.facts.resets != resets:
                return  # another came while they were told
            await self._keeper.commit(Batch(resync=""))
            self.resync_reason = ""

    # -- taking in --------------------------------------------------------------------------------------

    async def take(self, events: Sequence[ServerSentEvent], *, last_event_id: str) -> Taken:
        return await self._unbroken(lambda: self._take(events, last_event_id))

    async def take_page(self, page: dict[str, Any]) -> Taken:
        return await self._unbroken(lambda: self._take_page(page))

    async def lose_cursor(self, document: dict[str, Any]) -> Taken:
        return await self._unbroken(lambda: self._take_reset(document))

    async def apart(self, work: Callable[[], Awaitable[T]]) -> T:
        """Run *work* while nothing is taken in; to its end, even if the caller is cancelled."""
        async with self._lock:
            task = asyncio.ensure_future(work())
            try:
                return await asyncio.shield(task)
            except asyncio.CancelledError:
                await asyncio.wait([task])
                raise

    async def _unbroken(self, work: Callable[[], Awaitable[Taken]]) -> Taken:
        """Finish *work* even if the caller is cancelled: the cursor in memory and on disk must not part."""
        return await self.apart(lambda: self._watched(work()))

    async def _watched(self, work: Awaitable[Taken]) -> Taken:
        """*work*; and if the cache was lost meanwhile, what was in it has to come again."""
        taken = await work
        recovered = self._keeper.recovered
        if recovered == self._recovered:
            return taken
        self._resets_in_a_row = 0
        taken = await self._begin_again("cache_lost", head=self._cursor, had=None, filter_text=self._filter_text)
        self._recovered = recovered  # not before it is written: until then it is still to be done
        self._told = ("", "")
        return taken

    async def _take(self, events: Sequence[ServerSentEvent], last_event_id: str) -> Taken:
        arrivals: list[Arrival] = []
        goodbye = None
        for event in events:
            kind = event.event
            if kind == "heartbeat":
                self._note_heartbeat(event)
            elif kind == "connected":
                taken = await self._take_connected(event)
                if taken.reopen is not None:
                    return taken
            elif kind == "caught_up":
                self._note_caught_up()
            elif kind == "goodbye":
                goodbye = str(object_of(event.data).get("reason", ""))
            elif kind == "reset":
                await self._store(arrivals, cursor=None)
                taken = await self._take_reset(object_of(event.data))
                if taken.reopen is not None:
                    return taken
                arrivals = []
            else:
                arrival = self._arrival(event)
                if arrival is not None:
                    arrivals.append(arrival)
                continue
            if self._wants(kind):
                arrivals.append(passing(kind, event.data))
        await self._store(arrivals, cursor=last_event_id)
        return Taken(
            goodbye=goodbye,
            behind=self._keeper.backlog_bytes > self._behind_bytes,
            contradicted=self._resets_in_a_row > 1,
        )

    def _note_caught_up(self) -> None:
        self.facts.caught_up = True
        if not self._is_reset:
            self._resets_in_a_row = 0

    def _arrival(self, event: ServerSentEvent) -> Arrival | None:
        """The event, unless it is known."""
        envelope, text = object_of(event.data), event.data
        if event.event == "removed" and envelope:  # the one type whose data stands alone
            envelope = {"id": event.id, "eventType": "removed", "data": envelope}
            text = json.dumps(envelope)
        if not is_event(envelope) or ("id" in envelope and envelope["id"] != event.id):
            return None if self._is_behind(event.id) else self._malformed(event.event, event.data)
        if "id" not in envelope:
            return self._seen(None, event.event, text, envelope)  # ephemeral
        if self._is_behind(event.id) or self._is_known(event.id, event.event, envelope):
            self.facts.duplicates += 1
            return None
        return self._seen(event.id, event.event, text, envelope)

    def _seen(self, event_id: str | None, event_type: str, text: str, envelope: dict[str, Any]) -> Arrival:
        """An event, for handlers and replica."""
        if self._documents is None:
            return Arrival(event_id, event_type, text)
        is_asked_for = self.is_asked_for(event_type)
        document = None if event_id is None else self._documents.of_event(envelope)
        return Arrival(event_id, event_type, text, document=document, is_asked_for=is_asked_for)

    def is_asked_for(self, event_type: str) -> bool:
        """Whether it is to be kept for handlers and iterators. Nothing is for a client that has documents only."""
        if self._documents is None:
            return True
        self._has_listeners = self._has_listeners or self._listens()
        return self._has_listeners and (not self._types or event_type in self._types or event_type in ALWAYS)

    def _malformed(self, event_type: str, text: str) -> Arrival:
        """What should be an event and is none: kept aside, and the feed goes on behind it.

        Asking for it again would bring the same, for ever.
        """
        arrival = kept_aside(event_type, text)
        if arrival.id not in self._kept_aside:
            self._kept_aside.append(arrival.id)
            self.facts.malformed += 1
            log.error("event_malformed", event_type=event_type, kept_as=arrival.id)
        return arrival

    def _is_behind(self, event_id: str) -> bool:
        """Whether *event_id* is at or before the received cursor."""
        epoch, _, seq = event_id.partition(".")
        have_epoch, _, have_seq = self._cursor.partition(".")
        if epoch != have_epoch or not have_seq:
            return False
        # 18 digits are what a cursor may have; int() of thousands raises.
        return seq.isascii() and seq.isdigit() and len(seq) <= 18 and int(seq) <= int(have_seq)

    def _is_known(self, event_id: str, event_type: str, envelope: dict[str, Any]) -> bool:
        """Whether it was received through an earlier filter."""
        if not self.facts.known:
            return False
        cursor = cursor_of(event_id)
        if cursor is None:
            return False
        tags = tags_of(envelope)
        return any(
            cursor.epoch == upto.epoch and cursor.seq <= upto.seq and old.matches(event_type, tags)
            for upto, old in self.facts.known
        )

    async def _take_connected(self, event: ServerSentEvent) -> Taken:
        data = object_of(event.data)
        heartbeat_s = data.get("heartbeatSeconds")
        if isinstance(heartbeat_s, int | float) and 0.05 <= heartbeat_s <= 3600:
            self.facts.heartbeat_s = float(heartbeat_s)
        self.facts.head = str(data.get("head", ""))
        self._note_tail(0.0)
        access = data.get("access")
        access = access if is_text(access) else None
        cursor = str(data.get("cursor", ""))
        if access is not None and self._access is not None and access != self._access:
            head = self._cursor if cursor_of(self._cursor) else cursor
            return await self._begin_again("access", head=head, had=None, access=access)
        self._access = access
        if data.get("resume") != "reset" and (not self._cursor or self._cursor == EARLIEST) and cursor_of(cursor):
            self._start = cursor  # even if it cannot be written: "now" has been this moment
            await self._keeper.commit(Batch(cursor=cursor, access=access))
            self._cursor = cursor
        elif access is not None:
            await self._keeper.commit(Batch(access=access))
        if self._documents is not None:
            self._documents.stands(data.get("serverTime"))
        return NOTHING

    async def _take_reset(self, document: dict[str, Any]) -> Taken:
        """A reset, or the poll's 410."""
        reason = text_of(document.get("reason", "unknown"))[:100]
        head = str(document.get("head", ""))
        taken = await self._begin_again(
            reason, head=head, had=self._filter, is_news=(reason, head) != self._told or cursor_of(head) is None
        )
        self._told = (reason, head)
        return taken

    async def _begin_again(
        self,
        reason: str,
        *,
        head: str,
        had: Filter | None,
        filter_text: str | None = None,
        access: str | None = None,
        is_news: bool = True,
    ) -> Taken:
        """Make a resync due, in one commit with where to go on. Nothing is changed if that cannot be written."""
        # Once more without anything to show for it would be a loop, and so would "earliest" after "earliest".
        rewind = self._resync is Resync.EARLIEST and not self._resets_in_a_row and self._cursor != EARLIEST
        cursor = EARLIEST if rewind else head if cursor_of(head) else ""
        known, upto = self.facts.known, cursor_of(self._cursor)
        if had is None:
            known = []  # nothing is sure to have been received
        elif rewind and upto is not None:
            known = [*known, (upto, had)][-MAX_KNOWN:]
        documents, at = self._documents, cursor_of(self._cursor)
        done = None if documents is None else documents.completed(at)
        await self._keeper.commit(
            Batch(
                cursor=cursor,
                resync=reason if is_news else None,
                filter=filter_text,
                access=access,
                known=write_known(known),
                snapshot_due=None if documents is None else reason,
                complete_to=None if done is None else str(done),
            )
        )
        self._cursor = cursor
        if documents is not None:
            documents.demand(reason, at=at)
        if access is not None:
            self._access = access
        self._is_reset = True
        self._resets_in_a_row += 1
        self.facts.known = known
        (log.warning if is_news else log.info)("resync", reason=reason, go_on=cursor or "now", is_news=is_news)
        if is_news:
            self.facts.resets += 1
            self.resync_reason = reason
            self._news()
        return Taken(reopen=reason) if rewind else NOTHING

    async def _take_page(self, page: dict[str, Any]) -> Taken:
        arrivals = []
        for envelope in page_events(page):
            text = json_of(envelope)
            if not is_event(envelope) or not all(is_text(envelope.get(key)) for key in ("id", "eventType")):
                arrivals.append(self._malformed("", text))
                continue
            event_id, event_type = envelope["id"], envelope["eventType"]
            if self._is_behind(event_id) or self._is_known(event_id, event_type, envelope):
                self.facts.duplicates += 1
            else:
                arrivals.append(self._seen(event_id, event_type, text, envelope))
        count = sum(arrival.is_asked_for for arrival in arrivals)
        if count and self._wants("polling_data_refresh"):
            arrivals.append(passing("polling_data_refresh", json.dumps({"events": count})))
        self.facts.head = str(page.get("head", ""))
        self.facts.caught_up = page.get("upToDate") is True
        if self.facts.caught_up:
            self._resets_in_a_row = 0
        self._note_tail(age_s(page.get("tailAgeMs", 0)) or 0.0)
        cursor = str(page["cursor"])
        if not self._cursor and not arrivals:
            self._start = cursor  # as with a stream's beginning
        await self._store(arrivals, cursor=cursor, source="polling")
        if self._documents is not None:
            self._documents.stands(page.get("serverTime"))
        return Taken(behind=self._keeper.backlog_bytes > self._behind_bytes)

    async def _store(self, arrivals: list[Arrival], *, cursor: str | None, source: str = "") -> None:
        """One commit: the events and the cursor behind them, which only moves forward."""
        moved = cursor if cursor is not None and self._moves(cursor) else None
        if moved is None and not arrivals:
            return
        known, news = self._known_after(moved), self._news_of(arrivals)
        if self._documents is not None:
            arrivals = [arrival for arrival in arrivals if arrival.is_asked_for]
        batch = Batch(
            arrivals,
            source=source or self._stream,
            received_at_ms=time_ns() // 1_000_000,
            cursor=moved,
            known=known,
            documents=news,
        )
        new = await self._keeper.commit(batch)
        if moved is not None:
            self._cursor = moved
        if new or news:
            self._resets_in_a_row = 0
        self.facts.events += new
        self.facts.duplicates += len(arrivals) - new
        if news and self._documents is not None:
            self._documents.apply(news)  # before handlers hear of it, who may look
        if new:
            self._news()

    def _news_of(self, arrivals: Sequence[Arrival]) -> list[StoredDocument]:
        """What they say about documents that is not known yet."""
        if self._documents is None:
            return []
        return self._documents.newer(arrival.document for arrival in arrivals if arrival.document is not None)

    def _moves(self, cursor: str) -> bool:
        new = cursor_of(cursor)
        old = cursor_of(self._cursor)
        return new is not None and (old is None or (new.epoch == old.epoch and new.seq > old.seq))

    def _known_after(self, cursor: str | None) -> str | None:
        """The shortened list, if *cursor* has passed some of it."""
        if not self.facts.known or cursor is None:
            return None
        now = cursor_of(cursor)
        # Those of another log stay: the server may go back to it, and has given us its events already.
        left = [k for k in self.facts.known if now is None or k[0].epoch != now.epoch or k[0].seq > now.seq]
        if len(left) == len(self.facts.known):
            return None
        self.facts.known = left
        return write_known(left)

    def _note_heartbeat(self, event: ServerSentEvent) -> None:
        data = object_of(event.data)
        self.facts.head = str(data.get("head", self.facts.head))
        if self._documents is not None:
            self._documents.note_time(data.get("timestamp"))
        tail_age_s = age_s(data.get("tailAgeMs"))
        if tail_age_s is not None:
            self._note_tail(tail_age_s)

    def _note_tail(self, age_s: float) -> None:
        self.facts.tail_age_s = age_s
        self.facts.tail_seen_s = self._clock()
