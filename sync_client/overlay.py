"""What commands that wait for their answer make of the documents: a picture on top of the truth. Pure.

The rules are the server's own, run on what this client knows, in the order in which the commands were given. One
that its rule refuses, or that needs documents which are not here, changes nothing; the server will say.

Commands are connected when they touch the same documents. A change of the truth has to be thought through again for
those only that are connected to it, so five hundred waiting commands about five hundred orders cost nothing each time
that one is answered.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from sync_client.logs import get_logger
from sync_client.pending import PendingCommand
from sync_core.domain.command import Changes, Context, Domain
from sync_core.domain.document import Known, Ref
from sync_core.problems import SyncError

__all__ = ["Overlay"]

log = get_logger()


class Overlay:
    """*truth* tells what is known without the commands; it raises Unloaded for what is not here."""

    def __init__(self, domain: Domain, *, truth: Callable[[Ref], Known]) -> None:
        self._kinds = domain.kinds
        self._truth = truth
        self._commands: dict[str, PendingCommand] = {}
        self._places: dict[str, int] = {}
        self._touched: dict[str, frozenset[Ref]] = {}
        """What each command has read or changed."""
        self._added: dict[str, Mapping[Ref, int]] = {}
        """How many versions each command adds to what it changes."""
        self._touching: dict[Ref, set[str]] = {}
        self._unsettled: set[Ref] = set()
        self._new: set[str] = set()
        self._shown: dict[Ref, Known] = {}

    def replace(self, commands: Sequence[PendingCommand]) -> None:
        """These wait, in this order, and no others."""
        wanted = {command.key: command for command in commands}
        for key in self._commands.keys() - wanted.keys():
            self._unsettled |= self._touched.get(key, frozenset())
            self._forget(key)
        places = {key: place for place, key in enumerate(wanted)}
        if [key for key in self._places if key in places] != [key for key in places if key in self._places]:
            self._new |= wanted.keys()  # another order
        self._new |= wanted.keys() - self._commands.keys()
        self._new &= wanted.keys()
        self._commands, self._places = wanted, places

    def changed(self, refs: Iterable[Ref]) -> None:
        """The truth about them is another."""
        self._unsettled |= {ref for ref in refs if ref in self._touching}

    def get(self, ref: Ref) -> Known | None:
        """What the commands make of it; None where they leave it alone. To be asked after ``settle``."""
        return self._shown.get(ref)

    @property
    def refs(self) -> Iterable[Ref]:
        """All that the commands change. To be asked after ``settle``."""
        return self._shown.keys()

    def settle(self) -> set[Ref]:
        """Think through again what has to be; the documents whose picture may be another now."""
        if not self._new and not self._unsettled:
            return set()
        keys, refs = set(self._new), set(self._unsettled)
        self._new, self._unsettled = set(), set()
        while True:
            self._connect(keys, refs)
            for key in keys:
                self._forget(key)
            for ref in refs:
                self._shown.pop(ref, None)
            met = self._run(sorted(keys, key=self._places.__getitem__))
            refs |= met
            if not {key for ref in met for key in self._touching.get(ref, ())} - keys:
                return refs

    def _connect(self, keys: set[str], refs: set[Ref]) -> None:
        """Add to *keys* and *refs* whatever is connected to them."""
        left = {*refs, *(ref for key in keys for ref in self._touched.get(key, ()))}
        while left:
            ref = left.pop()
            refs.add(ref)
            for key in self._touching.get(ref, set()) - keys:
                keys.add(key)
                left |= self._touched[key] - refs

    def _run(self, keys: Iterable[str]) -> set[Ref]:
        """Run their rules in order; everything that they touch."""
        met: set[Ref] = set()
        for key in keys:
            read: set[Ref] = set()
            self._shown.update(self._effect(self._commands[key], read))
            self._touched[key] = frozenset(read)
            for ref in read:
                self._touching.setdefault(ref, set()).add(key)
            met |= read
        return met

    def _effect(self, pending: PendingCommand, read: set[Ref]) -> dict[Ref, Known]:
        """What one command changes, given what those before it have. *read* collects what it touches."""

        def load(ref: Ref) -> Known:
            read.add(ref)
            known = self._shown.get(ref)
            return self._truth(ref) if known is None else known

        changes = Changes(load=load, context=Context(pending.created_ms, principal=""), kinds=self._kinds)
        try:
            pending.command.rule(changes, pending.given)
        except SyncError:
            return {}
        except Exception:  # of a document that a newer server wrote, say: a picture is not worth a till's life
            log.exception("rule_failed", command=pending.name)
            return {}
        added = Counter(event.document.ref for event in changes.events if event.document is not None)
        self._added[pending.key] = added
        return {ref: changes.known(ref) for ref in added}

    def added(self, ref: Ref) -> dict[str, int]:
        """Which commands, by key, add how many versions to it. To be asked after ``settle``."""
        counts = {key: self._added.get(key, {}).get(ref, 0) for key in self._touching.get(ref, ())}
        return {key: count for key, count in counts.items() if count}

    def _forget(self, key: str) -> None:
        self._added.pop(key, None)
        for ref in self._touched.pop(key, ()):
            touching = self._touching[ref]
            touching.discard(key)
            if not touching:
                del self._touching[ref]
