"""Is what is stored what the log says? The events, replayed from the start, have to rebuild every document.

Reads only, beside a running server: what was committed after the log was read is looked at again with the events
that brought it. Of documents only a digest is held. Source: protocol.md 1.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, NamedTuple

from pydantic_core import from_json, to_json

from sync_core.domain.command import Domain
from sync_core.domain.document import Ref
from sync_server.log.base import Bounds, EventLog, Selection
from sync_server.log.records import StoredDocument, StoredEvent

__all__ = ["MAX_FINDINGS", "Report", "verify"]

PAGE = 1000
MAX_FINDINGS = 100


class _Version(NamedTuple):
    """What the log says of a document at the last event that carried it."""

    version: int
    deleted: bool
    digest: bytes
    seq: int


@dataclass(slots=True)
class Report:
    """What was looked at, and what differs. *uncovered* documents are older than the oldest event."""

    tenant: str
    bounds: Bounds
    events: int = 0
    documents: int = 0
    uncovered: int = 0
    findings: list[str] = field(default_factory=list)
    finding_count: int = 0

    def found(self, what: str) -> None:
        self.finding_count += 1
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(what)


async def verify(
    event_log: EventLog, tenant: str, domain: Domain, *, progress: Callable[[int, int], None] | None = None
) -> Report:
    """Compare the documents of *tenant* with its log. *progress* hears of events read, and how many there are.

    Raises LogUnavailable.
    """
    bounds = await event_log.ensure(tenant)
    replay = _Replay(Report(tenant, bounds), seq=bounds.floor)
    await _read_on(event_log, replay, progress)
    seen: set[Ref] = set()
    after: Ref | None = None
    while True:
        selection = Selection(kinds=tuple(domain.kinds), deleted=True)
        page = await event_log.documents(tenant, selection, after=after, limit=PAGE)
        if page.bounds.head > replay.seq:
            await _read_on(event_log, replay, progress)
        for document in page.documents:
            seen.add(document.ref)
            replay.compare(document, head=page.bounds.head)
        if page.next is None:
            break
        after = page.next
    await _look_for_missing(event_log, replay, seen, progress)
    return replay.report


async def _read_on(event_log: EventLog, replay: "_Replay", progress: Callable[[int, int], None] | None) -> None:
    tenant = replay.report.tenant
    while True:
        events = await event_log.read(tenant, after=replay.seq, limit=PAGE)
        # Asked for after the events: what retention has taken from them, or from before them, lies below it.
        replay.floor = (await event_log.bounds([tenant]))[tenant].floor
        if not events:
            if replay.floor <= replay.seq:
                return
            replay.skip(replay.floor)
        for event in events:
            replay.take(event)
        if progress is not None:
            progress(replay.report.events, max(replay.report.bounds.head, replay.seq) - replay.report.bounds.floor)


async def _look_for_missing(
    event_log: EventLog, replay: "_Replay", seen: set[Ref], progress: Callable[[int, int], None] | None
) -> None:
    """Documents that the log tells of and no page held: made behind the page meanwhile, or not there."""
    missing = [ref for ref in replay.versions if ref not in seen]
    for start in range(0, len(missing), PAGE):
        chunk = missing[start : start + PAGE]
        page = await event_log.load(replay.report.tenant, chunk)
        if page.bounds.head > replay.seq:
            await _read_on(event_log, replay, progress)
        for document in page.documents:
            replay.compare(document, head=page.bounds.head)
        found = {document.ref for document in page.documents}
        for ref in chunk:
            if ref not in found:
                replay.miss(ref, page.bounds)


class _Replay:
    """The documents as the events make them, up to *seq*. Below *floor* the log has been trimmed by now."""

    def __init__(self, report: Report, *, seq: int) -> None:
        self.report = report
        self.seq = self.floor = seq
        self.versions: dict[Ref, _Version] = {}
        self._time_ms = 0

    def skip(self, seq: int) -> None:
        """Events up to *seq* were trimmed unread, so of what is older nothing is known any more."""
        self.versions.clear()
        self.report.bounds = self.report.bounds._replace(floor=seq)
        self.seq = seq

    def take(self, event: StoredEvent) -> None:
        report = self.report
        if self.seq + 1 < event.seq <= self.floor + 1:
            self.skip(event.seq - 1)
        if event.seq != self.seq + 1:
            report.found(f"events {self.seq + 1} to {event.seq - 1} are missing")
        if event.time_ms < self._time_ms:
            report.found(f"event {event.seq}: its time lies before that of its predecessor")
        self.seq, self._time_ms = event.seq, event.time_ms
        report.events += 1
        if event.reach is not None and event.reach.version:
            self._take_document(event, Ref(event.reach.kind, event.reach.id), event.reach.version)

    def _take_document(self, event: StoredEvent, ref: Ref, version: int) -> None:
        try:
            envelope: dict[str, Any] = from_json("{" + event.tail)
            data = envelope["data"]
            content = data[ref.kind]
            deleted = bool(data.get("deleted"))
            if envelope["version"] != version:
                raise ValueError("version")
        except (ValueError, KeyError, TypeError, AttributeError):
            self.report.found(f"event {event.seq}: does not carry {_name(ref)} in version {version}")
            return
        known = self.versions.get(ref)
        if known is not None and known.deleted and known.seq <= self.floor and version == 1:
            known = None  # its tombstone may have been forgotten, and it has begun anew
        if known is not None and version != known.version + 1:
            self.report.found(f"{_name(ref)}: version {known.version} is followed by {version} (event {event.seq})")
        elif known is None and version != 1 and not self.report.bounds.floor:
            self.report.found(f"{_name(ref)}: begins with version {version} (event {event.seq})")
        self.versions[ref] = _Version(version, deleted, b"" if deleted else _digest(content), event.seq)

    def compare(self, stored: StoredDocument, *, head: int) -> None:
        """*stored*, as it was when the log ended at *head*, with what the events say."""
        report, told = self.report, self.versions.get(stored.ref)
        report.documents += 1
        name = _name(stored.ref)
        if told is not None and told.seq > head:
            return  # changed since that page was read, and the page does not know yet
        if told is None:
            if stored.seq > report.bounds.floor:
                report.found(f"{name}: version {stored.version} is stored, but no event of the log carries it")
            else:
                report.uncovered += 1
            return
        for what in _differences(stored, told):
            report.found(f"{name}: {what}")

    def miss(self, ref: Ref, bounds: Bounds) -> None:
        """There was no document *ref* when the log had these *bounds*."""
        told = self.versions.get(ref)
        if told is None or told.seq > bounds.head:
            return  # its events were trimmed meanwhile, or it was made again since
        # A tombstone is kept only until the floor passes it.
        if not (told.deleted and told.seq <= bounds.floor):
            self.report.found(f"{_name(ref)}: version {told.version} is in the log, but no document is stored")


def _differences(stored: StoredDocument, told: _Version) -> Iterator[str]:
    if stored.version != told.version:
        yield f"version {stored.version} is stored, the log says {told.version}"
    elif stored.deleted != told.deleted:
        yield f"is {'deleted' if stored.deleted else 'there'}, the log says otherwise"
    elif stored.seq != told.seq:
        yield f"points at event {stored.seq}, the log has it at {told.seq}"
    elif not stored.deleted:
        try:
            same = _digest(from_json(stored.body)) == told.digest
        except ValueError:
            yield "what is stored is no JSON"
            return
        if not same:
            yield f"version {stored.version} is stored with another content than event {told.seq} carries"


def _digest(content: Any) -> bytes:
    return blake2b(to_json(content), digest_size=16).digest()


def _name(ref: Ref) -> str:
    return f"{ref.kind} {ref.id}"
