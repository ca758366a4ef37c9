"""Order sessions: a person's cart at a till, kept by the server so that neither a crash nor another till loses it.

    active <--> pending_logout        logout, recover; also when nobody touched it for long
      |
      +--> assigned_to_tab            its items are on a tab
      +--> completed                  its items are a transaction

A person has one active session at most. A rule finds documents by their id only, so which one that is stands in a
document of that person's own, the slot: it is there while there is an active session, and names it. Whoever makes a
session active changes the slot in the same commit, and of two at once the second one finds it taken.

A session belongs to its user, wherever that user is: the till only says where it was last changed. Fields are spelled
as in seed 004, on whose routes they stand. Source: seed 004, domain-more.md C.
"""

import enum
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, computed_field, model_validator

from sync_core.domain.changes import Changes, RuleConflict
from sync_core.domain.command import CommandInput, command
from sync_core.domain.document import Document
from sync_core.domain.fields import DocumentID, Made, Names, Numbered, Omittable, UserID
from sync_core.domain.items import GivenItems, Item
from sync_core.events import EventType
from sync_core.filters import tag
from sync_core.labels import ADMINS, person_label
from sync_core.problems import Forbidden

__all__ = [
    "COMMANDS",
    "EVENT_TYPES",
    "CreateSession",
    "DeleteSession",
    "OrderSession",
    "SessionID",
    "SessionSlot",
    "SessionStatus",
    "TillID",
    "UpdateSession",
    "change",
    "create",
    "delete",
    "move",
    "session_in",
    "update",
]


class SessionStatus(enum.StrEnum):
    ACTIVE = "active"
    ASSIGNED_TO_TAB = "assigned_to_tab"
    COMPLETED = "completed"
    PENDING_LOGOUT = "pending_logout"


OPEN = frozenset({SessionStatus.ACTIVE, SessionStatus.PENDING_LOGOUT})


def _no_route(session: str) -> str:
    if session == "active":
        raise ValueError("'active' is no id: GET /order-sessions/active asks for the active one")
    return session


SessionID = Annotated[DocumentID, Numbered, Names("order_session")]
NewSessionID = Annotated[Annotated[SessionID, AfterValidator(_no_route)] | None, Made()]
OwnerID = Annotated[UserID, Numbered]
TillID = Annotated[DocumentID, Numbered]


class OrderSession(Document):
    """One session. *tillId* is where it was last changed, *logoutTime* when its user left it."""

    kind: ClassVar[str] = "order_session"
    plural: ClassVar[str] = "order_sessions"
    id_key: ClassVar[str] = "sessionID"
    view_permission: ClassVar[str] = "view_order_sessions"
    owner_key: ClassVar[str] = "userID"

    sessionID: DocumentID
    userId: OwnerID
    tillId: DocumentID | None = None
    items: tuple[Item, ...] = ()
    status: SessionStatus = SessionStatus.ACTIVE
    createdAt: str
    updatedAt: str
    logoutTime: str | None = None
    tabId: DocumentID | None = None
    transactionId: DocumentID | None = None

    @model_validator(mode="before")
    @classmethod
    def _said_twice(cls, content: Any) -> Any:
        if isinstance(content, dict) and "id" in content:
            return {name: value for name, value in content.items() if name != "id"}
        return content

    @computed_field  # type: ignore[prop-decorator]
    @property
    def id(self) -> str:
        """The seed's name for it."""
        return self.sessionID

    def tags(self) -> tuple[str, ...]:
        about = (("sessionID", self.sessionID), ("userID", self.userId), ("tillID", self.tillId), ("tabID", self.tabId))
        return tuple(tag(key, value) for key, value in about if value is not None)

    def audience(self) -> tuple[str, ...]:
        return (person_label(self.userId), ADMINS)

    @property
    def state(self) -> str:
        return self.status.value

    @property
    def is_open(self) -> bool:
        return self.status in OPEN


class SessionSlot(Document):
    """Says which session of a person is the active one; there is none while no session is."""

    kind: ClassVar[str] = "session_slot"
    plural: ClassVar[str] = "session_slots"
    id_key: ClassVar[str] = "userID"
    view_permission: ClassVar[str] = "view_order_sessions"
    owner_key: ClassVar[str] = "userID"

    userID: str
    sessionID: DocumentID

    def tags(self) -> tuple[str, ...]:
        return (tag("userID", self.userID), tag("sessionID", self.sessionID))

    def grants(self) -> tuple[str, ...]:
        return ()

    def audience(self) -> tuple[str, ...]:
        return (person_label(self.userID), ADMINS)


EVENT_TYPES = (
    EventType("session_updated", document="order_session"),
    EventType("session_recovered", document="order_session"),
    EventType("session_completed", document="order_session"),
    EventType("session_assigned_to_tab", document="order_session"),
    EventType("session_deleted", document="order_session"),
    EventType("session_slot_updated", document="session_slot"),
)


def _active(shop: Changes, user: str) -> OrderSession | None:
    """The active session of *user*."""
    slot = shop.find(SessionSlot, user)
    return None if slot is None else shop.find(OrderSession, slot.sessionID)


def change(shop: Changes, session: OrderSession, event_type: str, **changes: Any) -> OrderSession:
    """*session* with *changes*, and the slot as its status demands. Raises RuleConflict where another one is active."""
    after = session.model_copy(update={**changes, "updatedAt": shop.context.now})
    before = shop.find(OrderSession, session.sessionID)
    data = {} if before is None or before.status is after.status else {"previousStatus": before.status.value}
    after = shop.put(after, event_type, data)
    _set_slot(shop, after, wanted=after.status is SessionStatus.ACTIVE)
    return after


def _set_slot(shop: Changes, session: OrderSession, *, wanted: bool) -> None:
    slot = shop.find(SessionSlot, session.userId)
    if slot is not None and slot.sessionID != session.sessionID:
        if not wanted:
            return
        active = shop.get(OrderSession, slot.sessionID)
        raise RuleConflict(f"{session.userId} has another active session, {active.sessionID}.", active)
    if wanted and slot is None:
        shop.put(SessionSlot(userID=session.userId, sessionID=session.sessionID), "session_slot_updated")
    elif slot is not None and not wanted:
        shop.delete(slot, "session_slot_updated")


def _opened(shop: Changes, session_id: str) -> OrderSession:
    """The session, which is not finished yet."""
    session = shop.get(OrderSession, session_id)
    if not session.is_open:
        raise RuleConflict(f"Session {session.sessionID} is {session.status}; it cannot change any more.", session)
    return session


def move(shop: Changes, session: OrderSession, status: SessionStatus, wanted: dict[str, Any]) -> None:
    """To *status*, which is open, with what else is *wanted*."""
    event_type = "session_updated"
    if status is not session.status:
        is_back = status is SessionStatus.ACTIVE
        wanted["logoutTime"] = None if is_back else shop.context.now
        event_type = "session_recovered" if is_back else event_type
    change(shop, session, event_type, status=status, **wanted)


def session_in(shop: Changes, session_id: str, status: SessionStatus) -> OrderSession:
    """The session, if it has this *status*. Raises NotFound, RuleConflict."""
    session = shop.get(OrderSession, session_id)
    if session.status is not status:
        raise RuleConflict(f"Session {session.sessionID} is {session.status} and not {status}.", session)
    return session


class CreateSession(CommandInput):
    sessionID: NewSessionID = None
    userId: OwnerID | None = None
    tillId: TillID | None = None
    items: GivenItems = ()
    status: Literal["active"] = "active"


@command(
    "POST",
    "/order-sessions",
    target=OrderSession,
    permission="use_order_sessions",
    emits=["session_updated", "session_slot_updated"],
    creates=True,
    finds_target=True,
)
def create(shop: Changes, given: CreateSession) -> None:
    """Begin a session; with If-Match, give the active one other items.

    It is the caller's own, or for an admin that of `userId`. Where that user has an active session already, the answer
    is 409 with it; `If-Match` with its version says that it was seen and is to be changed.
    """
    assert given.sessionID is not None
    user, context = given.userId or shop.context.user, shop.context
    if not context.acts_for(user):
        raise Forbidden("A session is made for oneself; only admins make one for somebody else.")
    active = _active(shop, user)
    if context.guard is not None:
        context.guard(active)
    elif active is not None:
        raise RuleConflict(f"{user} has an active session already, {active.sessionID}.", active)
    if active is None:
        now = context.now
        session = OrderSession(
            sessionID=given.sessionID, userId=user, tillId=given.tillId, items=given.items, createdAt=now, updatedAt=now
        )  # fmt: skip
        shop.create(session, "session_updated", {"change": "created"})
        _set_slot(shop, session, wanted=True)
    else:
        change(shop, active, "session_updated", items=given.items, tillId=given.tillId or active.tillId)


class UpdateSession(CommandInput):
    sessionID: SessionID
    userId: Omittable[OwnerID] = None
    """Whose it is: a till says whom it means, and is refused if that is somebody else."""
    items: Omittable[GivenItems] = None
    tillId: Omittable[TillID] = None
    status: Omittable[Literal["active", "pending_logout"]] = None


@command(
    "PUT",
    "/order-sessions/{sessionID}",
    target=OrderSession,
    permission="use_order_sessions",
    emits=["session_updated", "session_recovered", "session_slot_updated"],
    guarded=True,
)
def update(shop: Changes, given: UpdateSession) -> None:
    """Change what is in a session, at which till it is, or its status; what is absent stays.

    One that waits for its user (`pending_logout`) only changes together with `"status": "active"`, which recovers it.
    """
    session = _opened(shop, given.sessionID)
    wanted = {name: value for name, value in given if name != "sessionID" and value is not None}
    if wanted.pop("userId", session.userId) != session.userId:
        raise RuleConflict(f"Session {session.sessionID} is that of {session.userId}, and stays so.", session)
    status = SessionStatus(wanted.pop("status", session.status))
    if status is SessionStatus.PENDING_LOGOUT and session.status is status and wanted:
        raise RuleConflict(f"Session {session.sessionID} is {status}; recover it first.", session)
    move(shop, session, status, wanted)


class DeleteSession(CommandInput):
    sessionID: SessionID


@command(
    "DELETE",
    "/order-sessions/{sessionID}",
    target=OrderSession,
    permission="use_order_sessions",
    emits=["session_deleted", "session_slot_updated"],
)
def delete(shop: Changes, given: DeleteSession) -> None:
    """Delete a session. What has become of a finished one is history, which only admins delete."""
    session = shop.get(OrderSession, given.sessionID)
    if not session.is_open and not shop.context.acts_for(""):
        raise RuleConflict(f"Session {session.sessionID} is {session.status}; it is kept as history.", session)
    shop.delete(session, "session_deleted")
    _set_slot(shop, session, wanted=False)


COMMANDS = (create, update, delete)
