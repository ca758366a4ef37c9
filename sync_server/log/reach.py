"""The text of a Reach, as every store keeps it beside its event."""

from pydantic_core import from_json, to_json

from sync_server.log.records import Reach

__all__ = ["reach_from_text", "reach_text"]


def reach_text(reach: Reach | None) -> str:
    """*reach* as JSON, without control characters; nothing where there is none, as with nearly all events."""
    return "" if reach is None else to_json(reach).decode()


def reach_from_text(text: str | None) -> Reach | None:
    """What ``reach_text`` made *text* of."""
    if not text:
        return None
    kind, document_id, version, left, grants, grants_left, audience, audience_left, sample = from_json(text)
    return Reach(
        kind, document_id, version, tuple(left), tuple(grants), tuple(grants_left), tuple(audience),
        tuple(audience_left), sample,
    )  # fmt: skip
