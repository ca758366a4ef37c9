"""What commands that wait for their answer make of the documents: a picture on top of the truth. Pure.

The rules are the server's own, run on what this client knows, in the order in which the commands were given. One
that its rule refuses, or that needs documents which are not here, changes nothing; the server will say.

Each command remembers what its rule was given and what it made of that. It is run again only when something that it
was given is another now: the truth, or what a command before it has made. So one more command costs one run however
many wait, and an answer that is what was shown all the time costs those that come next a look.
"""

import heapq
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from itertools import count

from sync_client.logs import get_logger
from sync_client.pending import PendingCommand
from sync_core.domain.changes import Changes, Context
from sync_core.domain.command import Domain
from sync_core.domain.document import Known, Ref
from sync_core.problems import SyncError

__all__ = ["Overlay"]

log = get_logger()


class _Step:
    """One command at its *place* (they only grow)."""

    __slots__ = ("added", "command", "has_landed", "made", "place", "read")

    def __init__(self, command: PendingCommand, place: int) -> None:
        self.command = command
        self.place = place
        self.read: frozenset[Ref] = frozenset()
        """What its rule has asked for; what it changes is among them."""
        self.made: Mapping[Ref, Known] = {}
        self.added: Mapping[Ref, int] = {}
        """How many versions it adds to what it changes."""
        self.has_landed = False


class Overlay:
    """*truth* tells what is known without the commands; it raises Unloaded for what is not here."""

    def __init__(self, domain: Domain, *, truth: Callable[[Ref], Known]) -> None:
        self._kinds = domain.kinds
        self._truth = truth
        self._places = count()
        self._steps: dict[str, _Step] = {}
        """By key, in order."""
        self._readers: dict[Ref, list[_Step]] = {}
        """Who has asked for a document, in order; never empty."""
        self._makers: dict[Ref, list[_Step]] = {}
        """Who changes it, in order; never empty."""
        self._due: dict[int, _Step] = {}
        """What has to be run, by place."""
        self._stirred: set[Ref] = set()

    def replace(self, commands: Sequence[PendingCommand]) -> None:
        """These wait, in this order, and no others."""
        wanted = {command.key: command for command in commands}
        for key in [key for key in self._steps if key not in wanted]:
            self._remove(key)
        kept = list(self._steps)
        same = next((n for n, (a, b) in enumerate(zip(kept, wanted, strict=False)) if a != b), len(kept))
        for key in kept[same:]:  # another order from there on
            self._remove(key)
        for key, command in wanted.items():
            if key not in self._steps:
                step = self._steps[key] = _Step(command, next(self._places))
                self._due[step.place] = step

    def land(self, key: str, brought: Set[Ref]) -> None:
        """The feed was faster than the answer: what the command with that *key* has made of what is *brought* is in the
        truth. It is not run on top of that once more; of what is still to come the picture stays as it was."""
        step = self._steps.get(key)
        if step is None:
            return
        left = {ref: known for ref, known in step.made.items() if ref not in brought}
        gone = step.made.keys() - left.keys()
        step.has_landed = True
        step.added = {ref: count for ref, count in step.added.items() if ref in left}
        self._due.pop(step.place, None)
        self._file(step, read=frozenset(), made=left)
        self._leave(step, gone)

    @property
    def landed(self) -> dict[str, bool]:
        """Commands, by key, that the feed has told of before their answer came; whether of all that they do."""
        return {key: not step.made for key, step in self._steps.items() if step.has_landed}

    def changed(self, refs: Iterable[Ref]) -> None:
        """The truth about them is another."""
        for ref in refs:
            self._call(ref, behind=-1)

    def get(self, ref: Ref) -> Known | None:
        """What the commands make of it; None where they leave it alone. To be asked after ``settle``."""
        makers = self._makers.get(ref)
        return None if makers is None else makers[-1].made[ref]

    @property
    def refs(self) -> Iterable[Ref]:
        """All that the commands change. To be asked after ``settle``."""
        return self._makers.keys()

    def added(self, ref: Ref) -> dict[str, int]:
        """Which commands, by key, add how many versions to it. To be asked after ``settle``."""
        return {step.command.key: step.added[ref] for step in self._makers.get(ref, ())}

    def settle(self) -> set[Ref]:
        """Run again what has to be; the documents whose picture may be another now."""
        heapq.heapify(places := list(self._due))
        while places:
            # Who runs calls only those behind it: in the order of their places each runs once.
            place = heapq.heappop(places)
            called = self._run(self._due.pop(place))
            for step in called:
                if step.place not in self._due:
                    self._due[step.place] = step
                    heapq.heappush(places, step.place)
        stirred, self._stirred = self._stirred, set()
        return stirred

    def _run(self, step: _Step) -> list[_Step]:
        """Run its rule; who was given what is another now."""
        read: set[Ref] = set()
        made, added = self._effect(step, read)
        changed = [ref for ref in {**step.made, **made} if made.get(ref) != step.made.get(ref)]
        self._file(step, read=frozenset(read), made=made)
        step.added = added
        self._stirred.update(changed)
        return [each for ref in changed for each in self._affected(ref, behind=step.place)]

    def _effect(self, step: _Step, read: set[Ref]) -> tuple[dict[Ref, Known], Mapping[Ref, int]]:
        """What it changes, given what those before it have. *read* collects what it asks for."""

        def load(ref: Ref) -> Known:
            read.add(ref)
            makers = self._makers.get(ref, [])
            before = bisect_left(makers, step.place, key=_place)
            return makers[before - 1].made[ref] if before else self._truth(ref)

        pending = step.command
        changes = Changes(load=load, context=Context(pending.created_ms, principal=""), kinds=self._kinds)
        try:
            pending.command.rule(changes, pending.given)
        except SyncError:
            return {}, {}
        except Exception:  # of a document that a newer server wrote, say: a picture is not worth a till's life
            log.exception("rule_failed", command=pending.name)
            return {}, {}
        added = Counter(event.document.ref for event in changes.events if event.document is not None)
        return {ref: changes.known(ref) for ref in added}, added

    # -- who asks for what --------------------------------------------------------------------------------

    def _affected(self, ref: Ref, *, behind: int) -> list[_Step]:
        """Who is given what those up to the place *behind* leave of it: all up to the next that changes it."""
        makers, readers = self._makers.get(ref, []), self._readers.get(ref, [])
        next_maker = bisect_left(makers, behind + 1, key=_place)
        first = bisect_left(readers, behind + 1, key=_place)
        if next_maker == len(makers):
            return readers[first:]
        return readers[first : bisect_left(readers, makers[next_maker].place + 1, key=_place)]

    def _call(self, ref: Ref, *, behind: int) -> None:
        """To be run again: who is given what those up to *behind* leave of *ref*."""
        self._due.update((step.place, step) for step in self._affected(ref, behind=behind))

    def _remove(self, key: str) -> None:
        step = self._steps.pop(key)
        self._due.pop(step.place, None)
        made = step.made
        self._file(step, read=frozenset(), made={})
        self._leave(step, made.keys())

    def _leave(self, step: _Step, refs: Set[Ref]) -> None:
        """*step* does not change *refs* any more."""
        self._stirred |= refs
        for ref in refs:
            self._call(ref, behind=step.place)

    def _file(self, step: _Step, *, read: frozenset[Ref], made: Mapping[Ref, Known]) -> None:
        """From now on *step* has *read* this and *made* that."""
        for index, before, after in ((self._readers, step.read, read), (self._makers, step.made.keys(), made.keys())):
            for ref in before - after:
                steps = index[ref]
                del steps[bisect_left(steps, step.place, key=_place)]
                if not steps:
                    del index[ref]
            for ref in after - before:
                steps = index.setdefault(ref, [])
                steps.insert(bisect_left(steps, step.place, key=_place), step)
        step.read, step.made = read, made


def _place(step: _Step) -> int:
    return step.place
