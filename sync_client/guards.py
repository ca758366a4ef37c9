"""Guards: what ``If-Match`` comes to mean while the commands that it counts in are applied, refused or replaced. Pure.

A guard is the version that the person saw: that of the document as the server has told it, and what the commands before
it that waited for their answer were to add (``leans``, by key). It must never come to mean a version that somebody else
has made and that nobody here has seen, nor stop meaning the one that was seen.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from sync_client.conflicts import current_version
from sync_client.pending import OutboxEntry

__all__ = ["applied", "failed", "renamed"]


def applied(entries: Iterable[OutboxEntry], key: str, answer: Mapping[str, Any]) -> list[OutboxEntry]:
    """What becomes of *entries* when the command with that *key* was applied; those that change.

    The feed may have been faster than the *answer*: what was shown then had the command in it twice. What the command
    has made anew goes on behind what was deleted under that id, of which nobody here may know: its version is the
    answer's.
    """
    entries = list(entries)
    made = next((entry.command.target for entry in entries if entry.key == key and _makes_target(entry)), None)
    settled = []
    for entry in _leaning(entries, key):
        version, guard = current_version(entry.command, answer), entry.command.guard
        if version is not None and guard is not None and entry.command.target == made:
            later = {each: count for each, count in entry.leans.items() if each != key}
            command = replace(entry.command, guard=version + sum(later.values()))
            settled.append(replace(entry, command=command, leans=later))
            continue
        known = None if guard is None else guard - sum(entry.leans.values())
        was_told = version is not None and known is not None and version <= known
        settled.append(_leaned(entry, key, is_counted=not was_told))
    return settled


def failed(entries: Iterable[OutboxEntry], key: str) -> list[OutboxEntry]:
    """When the command with that *key* will make no version."""
    return [_leaned(entry, key, is_counted=False) for entry in _leaning(entries, key)]


def renamed(entries: Iterable[OutboxEntry], key: str, new_key: str) -> list[OutboxEntry]:
    """When the command with that *key* goes on under another."""
    return [
        replace(entry, leans={new_key if each == key else each: count for each, count in entry.leans.items()})
        for entry in _leaning(entries, key)
    ]


def _makes_target(entry: OutboxEntry) -> bool:
    return entry.command.command.makes_target


def _leaning(entries: Iterable[OutboxEntry], key: str) -> list[OutboxEntry]:
    return [entry for entry in entries if key in entry.leans and entry.is_pending]


def _leaned(entry: OutboxEntry, key: str, *, is_counted: bool) -> OutboxEntry:
    """*entry*, whose guard does not wait for the command with that *key* any more."""
    leans, guard = dict(entry.leans), entry.command.guard
    count = leans.pop(key)
    if not is_counted and guard is not None:
        entry = replace(entry, command=replace(entry.command, guard=guard - count))
    return replace(entry, leans=leans)
