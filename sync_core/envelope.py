"""The JSON text of an event as readers get it, put together from parts that are made at different times.

What the publisher said (data, entity keys, ...) is rendered once, when it is accepted: the *tail*. Id, type
and server time come in front of it when the log has given them. Nothing is parsed or rendered again on the
way to a reader. Source: protocol.md 1.
"""

from collections.abc import Iterable

from pydantic_core import to_json

__all__ = ["ENVELOPE_HEAD_BYTES", "envelope", "envelope_tail"]

ENVELOPE_HEAD_BYTES = 160
"""What id, type and timestamp add to an event's tail, at most."""


def envelope_tail(
    data_json: str,
    *,
    tags: Iterable[str] = (),
    client_id: str | None = None,
    occurred_at: str | None = None,
    version: int | None = None,
) -> str:
    """The envelope from ``"data"`` to its closing brace. *data_json* is rendered JSON without line breaks.

    *version* is that of the one whole document in it.
    """
    parts = [f'"data":{data_json}']
    for item in tags:
        key, _, value = item.partition("=")
        parts.append(f'"{key}":{_quoted(value)}')
    if client_id is not None:
        parts.append(f'"clientID":{_quoted(client_id)}')
    if occurred_at is not None:
        parts.append(f'"occurredAt":"{occurred_at}"')
    if version is not None:
        parts.append(f'"version":{version}')
    return ",".join(parts) + "}"


def envelope(event_id: str, event_type: str, timestamp: str, tail: str) -> str:
    """The whole envelope; *event_id*, *event_type* and *timestamp* need no escaping by their grammar."""
    return f'{{"id":"{event_id}","eventType":"{event_type}","timestamp":"{timestamp}",{tail}'


def _quoted(value: str) -> str:
    return to_json(value).decode()
