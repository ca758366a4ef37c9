"""``sync-server publish``: the events of a file, through a running server or straight into the log."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from pydantic_core import from_json, to_json

from sync_core.paths import STREAM_PATH
from sync_core.problems import Problem, SyncError
from sync_server.api.body import MAX_BODY_BYTES
from sync_server.api.submission import MAX_EVENTS
from sync_server.console.talk import Refused, checked, client, is_served, own_certificate, server_url
from sync_server.feed.request import ANONYMOUS
from sync_server.settings import Settings
from sync_server.tenants import DEFAULT_TENANT

__all__ = ["FileError", "publish_file"]

_BATCH_HEAD, _BATCH_TAIL = b'{"events":[', b"]}"


class FileError(SyncError):
    """The file cannot be published; the message says where it is wrong."""


class _Item(NamedTuple):
    """One event of the file as JSON, and where it stands: ``line 3`` or ``events[3]``."""

    where: str
    json: bytes


Send = Callable[[bytes], Awaitable[list[dict[str, Any]]]]
Show = Callable[[str | None, str, bool], None]


async def publish_file(
    settings: Settings, body: bytes, *, name: str, url: str | None, show: Show, token: str | None = None
) -> int:
    """Publish the events in *body*; how many. Every one is told to *show* (id, type, duplicate).

    Raises FileError, Problem, httpx2.TransportError.
    """
    batches = list(_batches(_items(body, name)))
    count = 0
    async with _publisher(settings, url, token) as send:
        for batch in batches:
            try:
                receipts = await send(_BATCH_HEAD + b",".join(item.json for item in batch) + _BATCH_TAIL)
            except Refused as exc:
                raise _told(exc.detail, exc.errors, batch, name, count) from None
            except Problem as exc:
                errors = [(e.path, e.message) for e in exc.errors]
                raise _told(exc.detail, errors, batch, name, count) from None
            for receipt in receipts:
                count += 1
                show(receipt["id"], receipt["eventType"], receipt["duplicate"])
    return count


def _items(body: bytes, name: str) -> list[_Item]:
    """The events in *body*: one JSON document, or one a line. Raises FileError."""
    body = body.removeprefix(b"\xef\xbb\xbf")
    lines = [(number, line) for number, line in enumerate(body.split(b"\n"), 1) if line.strip()]
    if not lines:
        raise FileError(f"{name}: there is no event in it")
    try:
        document = from_json(body, allow_inf_nan=False)
    except ValueError as exc:
        # A first line that stands for itself makes it JSON lines; else it is one document with a fault.
        if len(lines) == 1 or not _is_json(lines[0][1]):
            raise FileError(f"{name}: not JSON: {exc}") from None
        return [_item(_parsed(line, f"{name}, line {number}"), f"line {number}", name) for number, line in lines]
    if isinstance(document, dict) and "events" in document and "eventType" not in document:
        unknown = sorted(set(document) - {"events"})
        if unknown or not isinstance(document["events"], list):
            raise FileError(f'{name}: beside one event a line or a list, this is possible: {{"events": [...]}}')
        document, prefix = document["events"], "events"
    else:
        prefix = ""
    if isinstance(document, list):
        if not document:
            raise FileError(f"{name}: there is no event in it")
        return [_item(event, f"{prefix}[{index}]", name) for index, event in enumerate(document)]
    return [_item(document, "", name)]


def _item(event: Any, where: str, name: str) -> _Item:
    """Raises FileError for a number that is JSON but beyond what can be sent, such as 1e999."""
    rendered = to_json(event)
    if b"Infinity" in rendered and not _is_json(rendered):
        raise FileError(f"{', '.join(filter(None, (name, where)))}: a number is out of range")
    return _Item(where, rendered)


def _parsed(line: bytes, where: str) -> Any:
    try:
        return from_json(line, allow_inf_nan=False)
    except ValueError as exc:
        raise FileError(f"{where}: not JSON: {exc}") from None


def _is_json(line: bytes) -> bool:
    try:
        from_json(line, allow_inf_nan=False)
    except ValueError:
        return False
    return True


def _batches(items: list[_Item]) -> Iterator[list[_Item]]:
    """*items* in pieces that a request may carry."""
    batch: list[_Item] = []
    size_bytes = overhead = len(_BATCH_HEAD) + len(_BATCH_TAIL)
    for item in items:
        size_bytes += len(item.json) + 1
        if batch and (len(batch) == MAX_EVENTS or size_bytes > MAX_BODY_BYTES):
            yield batch
            batch, size_bytes = [], overhead + len(item.json) + 1
        batch.append(item)
    yield batch


def _told(detail: str, errors: list[tuple[str, str]], batch: list[_Item], name: str, done: int) -> FileError:
    """A refusal in terms of the file: ``line 7, data.newStage: is missing``."""
    faults = []
    for path, message in errors:
        if path.startswith("events["):
            number, _, rest = path.removeprefix("events[").partition("]")
            rest = rest.removeprefix(".")
            path = ", ".join(part for part in (batch[int(number)].where, rest) if part)
        faults.append(f"{path}: {message}" if path else message)
    before = f" The {done} events before were published." if done else " Nothing was published."
    return FileError("\n  - ".join([f"{name}: {detail}{before}", *faults]))


@asynccontextmanager
async def _publisher(settings: Settings, url: str | None, token: str | None) -> AsyncIterator[Send]:
    """How to publish: through a running server, or into the log itself where nobody serves it."""
    verify = own_certificate(settings) if url is None else True
    async with client(server_url(settings) if url is None else url, token=token, verify=verify) as http:
        if url is not None or await is_served(http):

            async def over_http(body: bytes) -> list[dict[str, Any]]:
                reply = await http.post(STREAM_PATH, content=body, headers={"Content-Type": "application/json"})
                return list(checked(reply)["events"])

            yield over_http
            return
    from sync_server.app import open_application

    async with open_application(settings) as application:

        async def directly(body: bytes) -> list[dict[str, Any]]:
            receipts = await application.publish.submit(DEFAULT_TENANT, ANONYMOUS, body, client_id=None)
            return [{"id": r.event_id, "eventType": r.event_type, "duplicate": r.duplicate} for r in receipts]

        yield directly
