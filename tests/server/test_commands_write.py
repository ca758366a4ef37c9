"""From what a rule changed to what the log holds: whom each event reaches, and the answer as it is kept."""

from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import from_json

from sync_core.domain.changes import Changes
from sync_core.domain.command import CommandInput, Domain, command
from sync_core.domain.document import Document
from sync_core.events import EventType
from sync_core.filters import tag
from sync_core.problems import FieldError, Problem, TooLarge
from sync_server.access.rights import OPEN_RIGHTS
from sync_server.commands.answer import Answer, Carried, Refusal
from sync_server.commands.write import CommandWrite
from sync_server.log.group import Group, Plan, View, decide
from sync_server.log.records import Reach, StoredEvent


class Offer(Document):
    kind: ClassVar[str] = "offer"
    plural: ClassVar[str] = "offers"
    id_key: ClassVar[str] = "deviceID"
    view_permission: ClassVar[str] = "view_offers"

    deviceID: str  # noqa: N815 - the wire's name
    bays: tuple[str, ...] = ()
    owners: tuple[str, ...] = ()
    to: tuple[str, ...] = ()

    def tags(self) -> tuple[str, ...]:
        return (tag("deviceID", self.deviceID), *(tag("bayID", bay) for bay in self.bays))

    def grants(self) -> tuple[str, ...]:
        return tuple(tag("userID", owner) for owner in self.owners)

    def audience(self) -> tuple[str, ...]:
        return self.to


class PutOffer(CommandInput):
    deviceID: str  # noqa: N815 - the wire's name
    bays: tuple[str, ...] = ()
    owners: tuple[str, ...] = ()
    to: tuple[str, ...] = ()
    text: str = ""
    delete: bool = False
    twice: bool = False


@command("POST", "/offers", target=Offer, permission="offer", emits=["offered", "hinted"])
def put(shop: Changes, wanted: PutOffer) -> None:
    """Put or delete an offer."""
    offer = Offer(deviceID=wanted.deviceID, bays=wanted.bays, owners=wanted.owners, to=wanted.to)
    if wanted.delete:
        shop.delete(offer, "offered")
        return
    for _ in range(1 + wanted.twice):
        shop.put(offer, "offered", {"text": wanted.text} if wanted.text else None, sample=0.3)
    shop.emit("hinted", {"text": "new"}, about=[tag("bayID", "1")], of=offer)


DOMAIN = Domain(
    kinds=[Offer], commands=[put], event_types=[EventType("offered", document="offer"), EventType("hinted")]
)


class Log:
    """A tenant's documents, in memory."""

    def __init__(self) -> None:
        self.view = View("k3f9a2c1", 1, 1_763_634_600_000, {})

    def write(self, **fields: object) -> tuple[list[StoredEvent], Answer]:
        """Decide one command; its events and its answer. Raises its refusal."""
        call = CommandWrite(
            domain=DOMAIN, command=put, given=PutOffer(deviceID="d", **fields), principal="p", rights=OPEN_RIGHTS,
            client_id=None, guard=None, key=None, fingerprint="", size_bytes=0,
        )  # fmt: skip
        plan = Plan()
        while refs := decide(Group([call]), self.view, plan):
            self.view.load(refs, [])
        (answer,) = plan.results
        if isinstance(answer, Problem):
            raise answer
        return plan.events, answer

    def reach(self, **fields: object) -> Reach:
        """That of the event which carries the document."""
        events, _ = self.write(**fields)
        assert events[0].reach is not None
        return events[0].reach


def test_an_event_that_carries_a_document_reaches_who_may_see_it() -> None:
    reach = Log().reach(bays=("1",), owners=("7",), to=("role:csr",))
    assert reach == Reach("offer", "d", 1, grants=("userID=7",), audience=("role:csr",), sample=0.3)


def test_an_event_without_one_is_judged_by_the_document_it_is_about() -> None:
    (_, hint), _ = Log().write(owners=("7",), to=("role:csr",))
    assert hint.tags == ("bayID=1",)
    assert hint.reach == Reach("offer", "d", 0, grants=("userID=7",), audience=("role:csr",))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"bays": ("1",)}, {"bays": ("2",)}),
        ({"bays": ("1", "2")}, {"bays": ("2",)}),
        ({"owners": ("7",)}, {"owners": ()}),
        ({"to": ()}, {"to": ("role:csr",)}),
        ({"to": ("role:csr", "user:7")}, {"to": ("role:csr",)}),
        ({"to": ("role:csr",)}, {"to": ()}),
    ],
)
def test_where_a_change_took_something_away_it_is_told_how_it_was(
    before: dict[str, object], after: dict[str, object]
) -> None:
    log = Log()
    log.write(**before)
    was = Offer(deviceID="d", **before)  # type: ignore[arg-type]
    reach = log.reach(**after)
    assert (reach.left, reach.grants_left, reach.audience_left) == (was.tags(), was.grants(), was.audience())


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"bays": ("1",)}, {"bays": ("1",)}),
        ({"bays": ("1",)}, {"bays": ("2", "1")}),
        ({"owners": ()}, {"owners": ("7",)}),
        ({"to": ("role:csr",)}, {"to": ("user:7", "role:csr")}),
        ({"bays": ("1",), "to": ("role:csr",)}, {"bays": ("1",), "delete": True}),
    ],
)
def test_where_it_took_nothing_there_is_nothing_to_tell(before: dict[str, object], after: dict[str, object]) -> None:
    log = Log()
    log.write(**before)
    reach = log.reach(**after)
    assert (reach.left, reach.grants_left, reach.audience_left) == ((), (), ())


def test_a_document_that_changes_twice_leaves_once_as_it_is_at_last() -> None:
    log = Log()
    events, answer = log.write(twice=True)
    assert [event.reach.version for event in events if event.reach is not None] == [1, 2, 0]
    assert [(item.version, from_json(item.body)["version"]) for item in answer.changed] == [(2, 2)]
    assert answer.cursor == "k3f9a2c1.3"


def test_an_event_beyond_the_limit_is_refused_and_leaves_nothing() -> None:
    log = Log()
    with pytest.raises(TooLarge):
        log.write(text="x" * 256 * 1024)
    events, _ = log.write()
    assert events[0].seq == 1


carried = st.builds(
    Carried,
    kind=st.just("offer"),
    id=st.text(max_size=5),
    version=st.integers(1, 2**40),
    deleted=st.booleans(),
    grants=st.lists(st.text(max_size=5), max_size=2).map(tuple),
    audience=st.lists(st.text(max_size=5), max_size=2).map(tuple),
    body=st.sampled_from(['{"a":"\u2028\u2029\x85 \\n"}', "{}", '{"n":1.50,"big":12345678901234567890}']),
)
faults = st.lists(st.builds(FieldError, path=st.text(max_size=5), message=st.text(max_size=5)), max_size=2).map(tuple)
refusals = st.builds(
    Refusal,
    status=st.sampled_from([409, 422]),
    problem_type=st.just("stale"),
    detail=st.text(max_size=9),
    errors=faults,
    current=st.lists(carried, max_size=2).map(tuple),
)
answers = st.builds(Answer, cursor=st.just("k3f9a2c1.7"), changed=st.lists(carried, max_size=3).map(tuple)) | st.builds(
    Answer, cursor=st.just("k3f9a2c1.7"), refusal=refusals
)


@given(answers)
def test_an_answer_is_read_as_it_was_kept(answer: Answer) -> None:
    found = Answer.parse(answer.text())
    assert found is not None
    assert found.repeated
    assert (found.cursor, tuple(found.changed), found.refusal) == (
        answer.cursor, tuple(answer.changed), answer.refusal,
    )  # fmt: skip


def test_the_outcome_of_a_published_event_is_no_answer() -> None:
    assert Answer.parse("k3f9a2c1.7") is None
