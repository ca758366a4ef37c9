"""A person's cart: one active session, whatever tills do; what leaves it is on a tab or sold, never lost."""

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from sync_core.domain import leaving, sessions, tabs
from sync_core.domain.changes import Context, RuleConflict
from sync_core.domain.command import Command
from sync_core.domain.document import Document, Known, Ref
from sync_core.domain.sessions import OrderSession, SessionSlot
from sync_core.domain.tabs import Tab
from sync_core.domain.transactions import Transaction
from sync_core.problems import NotFound, Problem, Unprocessable
from tests.core.domain.shop import ITEM, Shop, replay, types_of

USER = "tester"
"""Who calls in ``Shop``."""


def session(shop: Shop, session_id: str = "s1") -> OrderSession:
    found = shop.find(OrderSession, session_id)
    assert found is not None
    return found


def begun(**given: Any) -> Shop:
    """A shop in which the caller has begun s1."""
    shop = Shop()
    shop.do(sessions.create, **({"sessionID": "s1", "items": [ITEM], "tillId": "t1"} | given))
    return shop


def refused(shop: Shop, command: Command, **given: Any) -> tuple[Document, ...]:
    """How things stand where *command* is a conflict, which has changed nothing."""
    seen = len(shop.log)
    with pytest.raises(RuleConflict) as caught:
        shop.do(command, **given)
    assert len(shop.log) == seen
    return caught.value.documents


def test_a_session_begins_active_for_its_caller() -> None:
    shop = begun()
    made = session(shop)
    assert (made.userId, made.tillId, made.status, made.version) == (USER, "t1", "active", 1)
    assert made.content()["id"] == made.content()["sessionID"] == "s1"
    assert made.tags() == ("sessionID=s1", "userID=tester", "tillID=t1")
    assert made.audience() == ("user:tester", "role:admin")
    slot = shop.find(SessionSlot, USER)
    assert slot is not None
    assert slot.sessionID == "s1"


def test_the_seeds_numbers_are_ids_too() -> None:
    shop = begun(sessionID=7, tillId=3)
    assert session(shop, "7").tillId == "3"
    shop.do(tabs.create, tabID=12, name="Table 12")
    shop.do(leaving.assign_to_tab, sessionID="7", tabId=12)
    assert session(shop, "7").tabId == "12"


@pytest.mark.parametrize(
    "wrong",
    [
        {"sessionID": "active"}, {"sessionID": True}, {"sessionID": 1.5}, {"userId": ""}, {"status": "completed"},
        {"logoutTime": "x"}, {"items": [{"sku": "x"}]},
    ],
)  # fmt: skip
def test_what_is_no_session_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        Shop().do(sessions.create, **wrong)


def test_a_second_active_session_is_a_conflict_that_shows_the_first() -> None:
    shop = begun()
    assert refused(shop, sessions.create, sessionID="s2") == (session(shop),)


def test_a_session_is_made_for_somebody_else_by_admins_only() -> None:
    assert Context(0, "user:ann").acts_for("ann")
    assert Context(0, "key:1").acts_for("key:1")
    assert not Context(0, "user:ann").acts_for("bob")
    assert not Context(0, "user:user:ann").acts_for("ann")
    assert not Context(0, "user:ann", frozenset({"cashier"})).acts_for("bob")
    assert Context(0, "user:ann", frozenset({"admin"})).acts_for("bob")


def test_what_is_absent_stays() -> None:
    shop = begun()
    shop.do(sessions.update, sessionID="s1", tillId="t2")
    assert (session(shop).tillId, len(session(shop).items)) == ("t2", 1)
    events = shop.do(sessions.update, sessionID="s1", items=[])
    assert (session(shop).tillId, session(shop).items) == ("t2", ())
    assert types_of(events) == ["session_updated"], "the slot changes with the status only"


def test_logout_keeps_the_items_and_recovery_brings_them_back() -> None:
    shop = begun()
    shop.do(leaving.logout, sessionID="s1")
    left = session(shop)
    assert (left.status, left.logoutTime, len(left.items)) == ("pending_logout", left.updatedAt, 1)
    assert shop.find(SessionSlot, USER) is None
    refused(shop, leaving.logout, sessionID="s1")
    events = shop.do(leaving.recover, sessionID="s1", tillId="t9")
    back = session(shop)
    assert (back.status, back.tillId, back.logoutTime, back.items) == ("active", "t9", None, left.items)
    assert types_of(events) == ["session_recovered", "session_slot_updated"]
    refused(shop, leaving.recover, sessionID="s1")


def test_the_status_of_an_update_leaves_and_recovers_too() -> None:
    shop = begun()
    shop.do(sessions.update, sessionID="s1", status="pending_logout")
    refused(shop, sessions.update, sessionID="s1", items=[])
    events = shop.do(sessions.update, sessionID="s1", items=[ITEM, ITEM], status="active")
    assert types_of(events) == ["session_recovered", "session_slot_updated"]
    assert (session(shop).status, len(session(shop).items)) == ("active", 2)


def test_while_one_is_active_another_cannot_be_recovered() -> None:
    shop = begun()
    shop.do(leaving.logout, sessionID="s1")
    shop.do(sessions.create, sessionID="s2")
    assert refused(shop, leaving.recover, sessionID="s1") == (session(shop, "s2"),)
    refused(shop, sessions.update, sessionID="s1", status="active")
    shop.do(sessions.delete, sessionID="s2")
    shop.do(leaving.recover, sessionID="s1")


def test_completing_makes_one_transaction_of_all_of_it() -> None:
    shop = begun(items=[ITEM, ITEM | {"unitPrice": "0.07"}])
    events = shop.do(leaving.complete, sessionID="s1", transactionID="x1", payment={"method": "cash"})
    assert sorted(types_of(events)) == ["session_completed", "session_slot_updated", "transaction_created"]
    sold = shop.find(Transaction, "x1")
    assert sold is not None
    assert (str(sold.total), sold.items, sold.userID, sold.sessionID, sold.tillID) == (
        "25.14", session(shop).items, USER, "s1", "t1",
    )  # fmt: skip
    assert sold.audience() == ("user:tester", "role:admin")
    assert (session(shop).status, session(shop).transactionId) == ("completed", "x1")
    for command in (leaving.complete, leaving.logout, leaving.recover, sessions.update):
        refused(shop, command, sessionID="s1")
    refused(shop, sessions.delete, sessionID="s1")
    shop.do(sessions.create, sessionID="s2")


def test_there_is_nothing_to_be_paid_in_an_empty_session() -> None:
    refused(begun(items=[]), leaving.complete, sessionID="s1")


def test_a_tab_gathers_sessions_and_is_settled_once() -> None:
    shop = begun()
    shop.do(tabs.create, tabID="tab", name="Table 7")
    shop.do(leaving.assign_to_tab, sessionID="s1", tabId="tab")
    shop.do(sessions.create, sessionID="s2", items=[ITEM])
    shop.do(leaving.assign_to_tab, sessionID="s2", tabId="tab")
    assert (session(shop).status, session(shop).tabId) == ("assigned_to_tab", "tab")
    tab = shop.find(Tab, "tab")
    assert tab is not None
    assert (tab.sessions, str(tab.total), len(tab.items)) == (("s1", "s2"), "50.00", 2)
    refused(shop, tabs.delete, tabID="tab")
    shop.do(tabs.settle, tabID="tab", transactionID="x1")
    sold = shop.find(Transaction, "x1")
    assert sold is not None
    assert (str(sold.total), sold.tabID) == ("50.00", "tab")
    refused(shop, tabs.settle, tabID="tab")
    shop.do(sessions.create, sessionID="s3", items=[ITEM])
    refused(shop, leaving.assign_to_tab, sessionID="s3", tabId="tab")
    assert session(shop, "s3").status == "active", "both or none"


def test_what_does_not_fit_on_a_tab_stays_in_the_session() -> None:
    shop = Shop()
    shop.do(tabs.create, tabID="tab", name="Table 7")
    for number in (1, 2):
        shop.do(sessions.create, sessionID=f"s{number}", items=[ITEM] * 150)
        if number == 1:
            shop.do(leaving.assign_to_tab, sessionID="s1", tabId="tab")
    refused(shop, leaving.assign_to_tab, sessionID="s2", tabId="tab")
    dear = ITEM | {"unitPrice": "9999999999.00", "quantity": 1}
    shop.do(sessions.update, sessionID="s2", items=[dear])
    refused(shop, leaving.assign_to_tab, sessionID="s2", tabId="tab")


def test_a_tab_that_is_not_there_is_a_fault_of_the_body() -> None:
    with pytest.raises(Unprocessable) as caught:
        begun().do(leaving.assign_to_tab, sessionID="s1", tabId="nowhere")
    assert caught.value.errors[0].path == "tabId"


def test_a_session_is_left_by_itself_only_when_nobody_has_changed_it_for_so_long() -> None:
    shop = begun()
    shop.now_ms += 60_000
    shop.do(sessions.update, sessionID="s1", tillId="t2")
    shop.now_ms += 60_000 - 2
    assert shop.do(leaving.logout_stale, sessionID="s1", idleSeconds=60.0) == []
    events = shop.do(leaving.logout_stale, sessionID="s1", idleSeconds=60.0)
    assert types_of(events) == ["session_updated", "session_slot_updated"]
    assert (session(shop).status, session(shop).items != ()) == ("pending_logout", True)
    assert shop.do(leaving.logout_stale, sessionID="s1", idleSeconds=0.0) == [], "it is left already"


def test_only_what_has_to_be_told_something_needs_a_body() -> None:
    needing = {command.name for command in (*sessions.COMMANDS, *leaving.COMMANDS) if command.needs_body}
    assert needing == {"create", "update", "assign_to_tab"}


def test_a_session_stays_its_users() -> None:
    shop = begun()
    shop.do(sessions.update, sessionID="s1", userId=USER, items=[])
    refused(shop, sessions.update, sessionID="s1", userId="bob")


class RandomTills(RuleBasedStateMachine):
    """Any commands on three sessions of one person."""

    ids = st.sampled_from(["s1", "s2", "s3"])

    @initialize()
    def open(self) -> None:
        self.shop = Shop()
        self.shop.do(tabs.create, tabID="tab", name="Table 7")

    def do(self, command: Command, **given: Any) -> None:
        before = {ref: self.shop.known(ref) for ref in self.shop.versions}
        refused: Problem | None = None
        try:
            self.shop.do(command, **given)
        except (RuleConflict, NotFound) as exc:
            refused = exc
        if refused is not None:
            assert {ref: self.shop.known(ref) for ref in self.shop.versions} == before
            assert not isinstance(refused, RuleConflict) or refused.documents

    @rule(session_id=ids, count=st.integers(0, 2))
    def create(self, session_id: str, count: int) -> None:
        self.do(sessions.create, sessionID=session_id, items=[ITEM] * count)

    @rule(session_id=ids, status=st.sampled_from([None, "active", "pending_logout"]), count=st.integers(0, 2))
    def update(self, session_id: str, status: str | None, count: int) -> None:
        more = {} if status is None else {"status": status}
        self.do(sessions.update, sessionID=session_id, items=[ITEM] * count, **more)

    @rule(session_id=ids, command=st.sampled_from(
        [leaving.logout, leaving.recover, leaving.complete, sessions.delete]
    ))  # fmt: skip
    def act(self, session_id: str, command: Command) -> None:
        self.do(command, sessionID=session_id)

    @rule(session_id=ids)
    def assign(self, session_id: str) -> None:
        self.do(leaving.assign_to_tab, sessionID=session_id, tabId="tab")

    @invariant()
    def one_is_active_and_the_slot_names_it(self) -> None:
        active = [found.sessionID for found in self.shop.all(OrderSession) if found.status == "active"]
        slots = [slot.sessionID for slot in self.shop.all(SessionSlot)]
        assert active == slots
        assert len(active) <= 1

    @invariant()
    def a_replica_has_the_same(self) -> None:
        documents, _ = replay(self.shop.log)
        assert documents == {ref: self.known(ref).content() for ref in self.shop.bodies}

    def known(self, ref: Ref) -> Document:
        found: Known = self.shop.known(ref)
        assert found.document is not None
        return found.document

    @invariant()
    def what_was_sold_or_put_on_the_tab_is_told_once(self) -> None:
        sold = [sale.sessionID for sale in self.shop.all(Transaction)]
        tab = self.shop.find(Tab, "tab")
        assert tab is not None
        assert len(sold) == len(set(sold))
        finished = {one.sessionID for one in self.shop.all(OrderSession) if not one.is_open}
        assert finished == {*sold, *tab.sessions}


TestRandomTills = RandomTills.TestCase
TestRandomTills.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
