"""Users, API keys, ended sessions and lock-outs: documents like any others, in a tenant that no feed and no list shows.

Their rules run in the log's transaction, so two processes agree on who is locked out; each change is an event of
that tenant's log, which is how processes hear of it, and what remains of who changed what.
"""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints

from sync_core.domain.changes import Changes
from sync_core.domain.command import Command, CommandInput, Domain, command
from sync_core.domain.document import Document, Ref
from sync_core.events import EventType
from sync_core.problems import TooManyRequests
from sync_server.access.claims import Binding, Subject
from sync_server.permissions import MANAGE_ACCESS
from sync_server.tenants import DEFAULT_TENANT, Tenant

__all__ = [
    "ACCOUNTS",
    "ACCOUNTS_TENANT",
    "FREE_ATTEMPTS",
    "MAX_FORGOTTEN",
    "AddKey",
    "AddUser",
    "ApiKeyRecord",
    "DeleteUser",
    "EndSession",
    "EndedSession",
    "Forget",
    "Lockout",
    "NoteLogin",
    "RevokeKey",
    "SetAccess",
    "SetPassword",
    "User",
    "add_key",
    "add_user",
    "delete_user",
    "end_session",
    "forget",
    "lockout_of_address",
    "lockout_of_user",
    "note_attempt",
    "note_success",
    "revoke_key",
    "set_access",
    "set_password",
    "user_id",
]

ACCOUNTS_TENANT = "_access"
"""No tenant's name has an underscore, so nobody can be a reader of it."""

FREE_ATTEMPTS = {"user": 5, "address": 20}
"""Attempts in a row without success that have no consequence; many people may share an address."""
FIRST_PAUSE_MS = 15_000
MAX_PAUSE_MS = 15 * 60_000
FORGET_MS = 60 * 60_000
MAX_FORGOTTEN = 100

Role = Annotated[str, StringConstraints(min_length=1, max_length=64)]
Roles = Annotated[tuple[Role, ...], Field(max_length=32)]
Bound = Annotated[tuple[Binding, ...], Field(max_length=200)]
RecordID = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class _Record(Document):
    id_key: ClassVar[str] = "recordID"
    view_permission: ClassVar[str] = MANAGE_ACCESS

    recordID: str  # noqa: N815 - as all documents' ids

    def tags(self) -> tuple[str, ...]:
        return ()

    def grants(self) -> tuple[str, ...]:
        return ()


class User(_Record):
    """Somebody with a password. *generation* grows when the password or the rights change: older sessions end."""

    kind: ClassVar[str] = "user"
    plural: ClassVar[str] = "users"

    tenant: str
    name: str
    password: str
    """The argon2id hash."""
    roles: tuple[str, ...] = ()
    bound: tuple[str, ...] = ()
    generation: int = 1


class ApiKeyRecord(_Record):
    """A machine's key, by its digest."""

    kind: ClassVar[str] = "api_key"
    plural: ClassVar[str] = "api_keys"

    tenant: str
    name: str
    digest: str
    roles: tuple[str, ...] = ()
    bound: tuple[str, ...] = ()
    created_ms: int
    expires_ms: int | None = None


class EndedSession(_Record):
    """A session that somebody has logged out of; its token would be good until *expires_ms*."""

    kind: ClassVar[str] = "ended_session"
    plural: ClassVar[str] = "ended_sessions"

    expires_ms: int


class Lockout(_Record):
    """Attempts to log in for one user name or from one address, since the last that succeeded."""

    kind: ClassVar[str] = "lockout"
    plural: ClassVar[str] = "lockouts"

    attempts: int
    last_ms: int

    @property
    def until_ms(self) -> int:
        """Nothing is tried before: from the sixth attempt on a pause that doubles."""
        beyond = self.attempts - FREE_ATTEMPTS[self.recordID.partition(":")[0]]
        return self.last_ms + min(FIRST_PAUSE_MS << min(beyond - 1, 10), MAX_PAUSE_MS) if beyond > 0 else 0

    def is_forgotten(self, now_ms: int) -> bool:
        return now_ms - self.last_ms >= FORGET_MS


EVENT_TYPES = (
    EventType("user_changed", document="user"),
    EventType("api_key_changed", document="api_key"),
    EventType("lockout_changed", document="lockout"),
    EventType("session_ended", document="ended_session"),
)


def lockout_of_user(tenant: str, name: str) -> str:
    """The record of the attempts for a name, whether there is such a user or not."""
    return f"user:{_digest(user_id(tenant, name))}"


def lockout_of_address(address: str) -> str:
    """The record of the attempts from an address (of ``access.limits.address_key``)."""
    return f"address:{_digest(address)}"


def _digest(name: str) -> str:
    """Of a bounded form, whatever name was tried; and no list of names that do not exist."""
    return blake2b(name.encode(), digest_size=16).hexdigest()


def user_id(tenant: str, name: str) -> str:
    """The record of the user *name* of *tenant*. The tenant holds no slash."""
    return f"{tenant}/{name}"


class AddUser(CommandInput):
    name: Subject
    tenant: Tenant = DEFAULT_TENANT
    password: str
    roles: Roles = ()
    bound: Bound = ()


@command("POST", "/users", target=User, permission=MANAGE_ACCESS, emits=["user_changed"], creates=True)
def add_user(accounts: Changes, given: AddUser) -> None:
    """Add a user."""
    record = user_id(given.tenant, given.name)
    # Behind a deleted one of the same name: that one's sessions are not this one's.
    generation = accounts.known(Ref(User.kind, record)).version + 1
    user = User(recordID=record, generation=generation, **given.model_dump())
    accounts.create(user, "user_changed", {"change": "added"})


class SetPassword(CommandInput):
    record: RecordID
    password: str


@command("POST", "/users/{record}/password", target=User, permission=MANAGE_ACCESS, emits=["user_changed"])
def set_password(accounts: Changes, given: SetPassword) -> None:
    """Give a user another password; its sessions end."""
    user = accounts.get(User, given.record)
    update = {"password": given.password, "generation": user.generation + 1}
    accounts.put(user.model_copy(update=update), "user_changed", {"change": "password"})


class SetAccess(CommandInput):
    record: RecordID
    roles: Roles
    bound: Bound = ()


@command("POST", "/users/{record}/access", target=User, permission=MANAGE_ACCESS, emits=["user_changed"])
def set_access(accounts: Changes, given: SetAccess) -> None:
    """Give a user other roles; its sessions end."""
    user = accounts.get(User, given.record)
    update = {"roles": given.roles, "bound": given.bound, "generation": user.generation + 1}
    accounts.put(user.model_copy(update=update), "user_changed", {"change": "access"})


class DeleteUser(CommandInput):
    record: RecordID


@command("DELETE", "/users/{record}", target=User, permission=MANAGE_ACCESS, emits=["user_changed"])
def delete_user(accounts: Changes, given: DeleteUser) -> None:
    """Delete a user; its sessions end."""
    accounts.delete(accounts.get(User, given.record), "user_changed")


class AddKey(CommandInput):
    record: RecordID
    name: Subject
    tenant: Tenant = DEFAULT_TENANT
    digest: str
    roles: Roles
    bound: Bound = ()
    expires_ms: int | None = None


@command("POST", "/keys", target=ApiKeyRecord, permission=MANAGE_ACCESS, emits=["api_key_changed"], creates=True)
def add_key(accounts: Changes, given: AddKey) -> None:
    """Keep a new API key's digest."""
    content = given.model_dump(exclude={"record"})
    key = ApiKeyRecord(recordID=given.record, created_ms=accounts.context.now_ms, **content)
    accounts.create(key, "api_key_changed", {"change": "added"})


class RevokeKey(CommandInput):
    record: RecordID


@command("DELETE", "/keys/{record}", target=ApiKeyRecord, permission=MANAGE_ACCESS, emits=["api_key_changed"])
def revoke_key(accounts: Changes, given: RevokeKey) -> None:
    """Revoke an API key; its streams end."""
    accounts.delete(accounts.get(ApiKeyRecord, given.record), "api_key_changed")


class NoteLogin(CommandInput):
    user: RecordID
    address: RecordID


@command("POST", "/lockouts/attempt", target=Lockout, permission=MANAGE_ACCESS, emits=["lockout_changed"])
def note_attempt(accounts: Changes, given: NoteLogin) -> None:
    """Count an attempt to log in, before its password is looked at: many at once get no more tries than one by one."""
    now_ms = accounts.context.now_ms
    known = [accounts.find(Lockout, record) for record in (given.user, given.address)]
    left_ms = max((lockout.until_ms - now_ms for lockout in known if lockout is not None), default=0)
    if left_ms > 0:
        raise TooManyRequests("Too many wrong passwords; wait.", retry_after_s=left_ms // 1000 + 1)
    for record, lockout in zip((given.user, given.address), known, strict=True):
        before = 0 if lockout is None or lockout.is_forgotten(now_ms) else lockout.attempts
        accounts.put(Lockout(recordID=record, attempts=before + 1, last_ms=now_ms), "lockout_changed")


@command("POST", "/lockouts/success", target=Lockout, permission=MANAGE_ACCESS, emits=["lockout_changed"])
def note_success(accounts: Changes, given: NoteLogin) -> None:
    """Forget the attempts for the name, and one of the address: from there somebody may be guessing other names."""
    of_name, of_address = accounts.find(Lockout, given.user), accounts.find(Lockout, given.address)
    if of_name is not None:
        accounts.delete(of_name, "lockout_changed")
    if of_address is not None:
        left = of_address.attempts - 1
        if left:
            accounts.put(of_address.model_copy(update={"attempts": left}), "lockout_changed")
        else:
            accounts.delete(of_address, "lockout_changed")


class EndSession(CommandInput):
    session: RecordID
    expires_ms: int


@command("POST", "/sessions/end", target=EndedSession, permission=MANAGE_ACCESS, emits=["session_ended"])
def end_session(accounts: Changes, given: EndSession) -> None:
    """Let a session's token count no more, in every process."""
    accounts.put(EndedSession(recordID=given.session, expires_ms=given.expires_ms), "session_ended")


class Forget(CommandInput):
    lockouts: Annotated[tuple[RecordID, ...], Field(max_length=MAX_FORGOTTEN)] = ()
    sessions: Annotated[tuple[RecordID, ...], Field(max_length=MAX_FORGOTTEN)] = ()


@command(
    "POST",
    "/forget",
    target=Lockout,
    permission=MANAGE_ACCESS,
    emits=["lockout_changed", "session_ended"],
    max_events=2 * MAX_FORGOTTEN,
)
def forget(accounts: Changes, given: Forget) -> None:
    """Delete what has no meaning any more, as far as that is still so."""
    now_ms = accounts.context.now_ms
    for record in given.lockouts:
        lockout = accounts.find(Lockout, record)
        if lockout is not None and lockout.is_forgotten(now_ms):
            accounts.delete(lockout, "lockout_changed")
    for record in given.sessions:
        session = accounts.find(EndedSession, record)
        if session is not None and session.expires_ms <= now_ms:
            accounts.delete(session, "session_ended")


COMMANDS: Sequence[Command] = (
    add_user, set_password, set_access, delete_user, add_key, revoke_key, note_attempt, note_success, end_session,
    forget,
)  # fmt: skip

ACCOUNTS = Domain(kinds=[User, ApiKeyRecord, EndedSession, Lockout], commands=COMMANDS, event_types=EVENT_TYPES)
