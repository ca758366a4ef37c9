"""How a session is left: for later, and taken up again; for good by being paid; or by being put on a tab.

Source: seed 004, domain-more.md C.
"""

from datetime import datetime

from pydantic import Field

from sync_core.domain.changes import Changes, RuleConflict
from sync_core.domain.command import CommandInput, command
from sync_core.domain.sessions import OrderSession, SessionID, SessionStatus, TillID, change, move, session_in
from sync_core.domain.tabs import GivenPaid, NewTransactionID, Tab, TabID, put_on
from sync_core.domain.transactions import record
from sync_core.times import ms_from_datetime

__all__ = [
    "COMMANDS",
    "AssignToTab",
    "CompleteSession",
    "LogoutSession",
    "LogoutStale",
    "assign_to_tab",
    "complete",
    "is_stale",
    "logout",
    "logout_stale",
]


class RecoverSession(CommandInput):
    sessionID: SessionID
    tillId: TillID | None = None


@command(
    "POST",
    "/order-sessions/{sessionID}/recover",
    target=OrderSession,
    permission="use_order_sessions",
    emits=["session_recovered", "session_slot_updated"],
)
def recover(shop: Changes, given: RecoverSession) -> None:
    """Go on with a session that its user had left; at a till, if one is named."""
    session = session_in(shop, given.sessionID, SessionStatus.PENDING_LOGOUT)
    move(shop, session, SessionStatus.ACTIVE, {"tillId": given.tillId or session.tillId})


class LogoutSession(CommandInput):
    sessionID: SessionID


@command(
    "POST",
    "/order-sessions/{sessionID}/logout",
    target=OrderSession,
    permission="use_order_sessions",
    emits=["session_updated", "session_slot_updated"],
)
def logout(shop: Changes, given: LogoutSession) -> None:
    """Leave a session for later; its items stay."""
    session = session_in(shop, given.sessionID, SessionStatus.ACTIVE)
    move(shop, session, SessionStatus.PENDING_LOGOUT, {})


class LogoutStale(CommandInput):
    sessionID: SessionID
    idleSeconds: float = Field(ge=0)


@command(
    "POST",
    "/order-sessions/{sessionID}/logout-stale",
    target=OrderSession,
    permission="use_order_sessions",
    emits=["session_updated", "session_slot_updated"],
)
def logout_stale(shop: Changes, given: LogoutStale) -> None:
    """Leave a session for later that nobody has changed for so long; the server's own, it has no route."""
    session = shop.get(OrderSession, given.sessionID)
    if is_stale(session, now_ms=shop.context.now_ms, idle_ms=int(given.idleSeconds * 1000)):
        move(shop, session, SessionStatus.PENDING_LOGOUT, {})


def is_stale(session: OrderSession, *, now_ms: int, idle_ms: int) -> bool:
    """Whether *session* is active and was last changed *idle_ms* ago or earlier."""
    changed_ms = ms_from_datetime(datetime.fromisoformat(session.updatedAt))
    return session.status is SessionStatus.ACTIVE and now_ms - changed_ms >= idle_ms


class CompleteSession(CommandInput):
    sessionID: SessionID
    transactionID: NewTransactionID = None
    payment: GivenPaid | None = None


@command(
    "POST",
    "/order-sessions/{sessionID}/complete",
    target=OrderSession,
    permission="use_order_sessions",
    emits=["session_completed", "transaction_created", "session_slot_updated"],
    guarded=True,
)
def complete(shop: Changes, given: CompleteSession) -> None:
    """Have a session paid: it is completed, and its items become a transaction, both or none."""
    session = session_in(shop, given.sessionID, SessionStatus.ACTIVE)
    if not session.items:
        raise RuleConflict(f"There is nothing in session {session.sessionID}.", session)
    assert given.transactionID is not None
    record(
        shop, session.items, transaction_id=given.transactionID, user=session.userId, payment=given.payment,
        sessionID=session.sessionID, tillID=session.tillId,
    )  # fmt: skip
    done = {"status": SessionStatus.COMPLETED, "transactionId": given.transactionID}
    change(shop, session, "session_completed", **done)


class AssignToTab(CommandInput):
    sessionID: SessionID
    tabId: TabID


@command(
    "POST",
    "/order-sessions/{sessionID}/assign-to-tab",
    target=OrderSession,
    permission="use_order_sessions",
    emits=["session_assigned_to_tab", "tab_updated", "session_slot_updated"],
    guarded=True,
)
def assign_to_tab(shop: Changes, given: AssignToTab) -> None:
    """Put what is in a session on a tab; that ends the session."""
    session = session_in(shop, given.sessionID, SessionStatus.ACTIVE)
    tab = shop.get(Tab, given.tabId, field="tabId")
    put_on(shop, tab, session.items, session=session.sessionID)
    done = {"status": SessionStatus.ASSIGNED_TO_TAB, "tabId": tab.tabID}
    change(shop, session, "session_assigned_to_tab", **done)


COMMANDS = (recover, logout, complete, assign_to_tab)
