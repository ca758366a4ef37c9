"""Users, API keys and lock-outs: documents like any others, in a tenant of their own that no feed and no list shows.

Their rules run in the log's transaction, so two processes agree on who is locked out; each change is an event of
that tenant's log, which is how processes hear of it, and what remains of who changed what.
"""

from collections.abc import Sequence
from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints

from sync_core.domain.command import Changes, Command, CommandInput, Domain, command
from sync_core.domain.document import Document, Ref
from sync_core.events import EventType
from sync_server.access.claims import DEFAULT_TENANT, TENANT_PATTERN, Binding, Subject

__all__ = [
    "ACCOUNTS",
    "ACCOUNTS_TENANT",
    "LOCKOUT_FREE",
    "ApiKeyRecord",
    "Lockout",
    "User",
    "add_key",
    "add_user",
    "delete_user",
    "end_session",
    "note_failure",
    "note_success",
    "revoke_key",
    "set_access",
    "set_password",
    "user_id",
]

ACCOUNTS_TENANT = "_access"
"""No tenant's name has an underscore, so nobody can be a reader of it."""

MANAGE = "manage_access"
LOCKOUT_FREE = 5
"""Wrong passwords in a row without a consequence."""
LOCKOUT_FIRST_MS = 15_000
LOCKOUT_MAX_MS = 15 * 60_000
LOCKOUT_FORGET_MS = 60 * 60_000

Tenant = Annotated[str, StringConstraints(pattern=TENANT_PATTERN)]
Role = Annotated[str, StringConstraints(min_length=1, max_length=64)]
Roles = Annotated[tuple[Role, ...], Field(max_length=32)]
Bound = Annotated[tuple[Binding, ...], Field(max_length=200)]
RecordID = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class _Record(Document):
    id_key: ClassVar[str] = "recordID"
    view_permission: ClassVar[str] = MANAGE

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


class Lockout(_Record):
    """Wrong passwords in a row for one user name or from one address. *until_ms*: nothing is tried before."""

    kind: ClassVar[str] = "lockout"
    plural: ClassVar[str] = "lockouts"

    failures: int
    last_ms: int
    until_ms: int = 0


EVENT_TYPES = (
    EventType("user_changed", document="user"),
    EventType("api_key_changed", document="api_key"),
    EventType("lockout_changed", document="lockout"),
    EventType("session_ended", command_only=True),
)


def user_id(tenant: str, name: str) -> str:
    """The record of the user *name* of *tenant*. The tenant holds no slash."""
    return f"{tenant}/{name}"


class AddUser(CommandInput):
    name: Subject
    tenant: Tenant = DEFAULT_TENANT
    password: str
    roles: Roles = ()
    bound: Bound = ()


@command("POST", "/users", target=User, permission=MANAGE, emits=["user_changed"], creates=True)
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


@command("POST", "/users/{record}/password", target=User, permission=MANAGE, emits=["user_changed"])
def set_password(accounts: Changes, given: SetPassword) -> None:
    """Give a user another password; its sessions end."""
    user = accounts.get(User, given.record)
    update = {"password": given.password, "generation": user.generation + 1}
    accounts.put(user.model_copy(update=update), "user_changed", {"change": "password"})


class SetAccess(CommandInput):
    record: RecordID
    roles: Roles
    bound: Bound = ()


@command("POST", "/users/{record}/access", target=User, permission=MANAGE, emits=["user_changed"])
def set_access(accounts: Changes, given: SetAccess) -> None:
    """Give a user other roles; its sessions end."""
    user = accounts.get(User, given.record)
    update = {"roles": given.roles, "bound": given.bound, "generation": user.generation + 1}
    accounts.put(user.model_copy(update=update), "user_changed", {"change": "access"})


class DeleteUser(CommandInput):
    record: RecordID


@command("DELETE", "/users/{record}", target=User, permission=MANAGE, emits=["user_changed"])
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


@command("POST", "/keys", target=ApiKeyRecord, permission=MANAGE, emits=["api_key_changed"], creates=True)
def add_key(accounts: Changes, given: AddKey) -> None:
    """Keep a new API key's digest."""
    content = given.model_dump(exclude={"record"})
    key = ApiKeyRecord(recordID=given.record, created_ms=accounts.context.now_ms, **content)
    accounts.create(key, "api_key_changed", {"change": "added"})


class RevokeKey(CommandInput):
    record: RecordID


@command("DELETE", "/keys/{record}", target=ApiKeyRecord, permission=MANAGE, emits=["api_key_changed"])
def revoke_key(accounts: Changes, given: RevokeKey) -> None:
    """Revoke an API key; its streams end."""
    accounts.delete(accounts.get(ApiKeyRecord, given.record), "api_key_changed")


class NoteLogin(CommandInput):
    records: tuple[RecordID, ...]


@command("POST", "/lockouts/failure", target=Lockout, permission=MANAGE, emits=["lockout_changed"])
def note_failure(accounts: Changes, given: NoteLogin) -> None:
    """Count a wrong password; from the sixth in a row on, a pause that doubles."""
    now_ms = accounts.context.now_ms
    for record in given.records:
        known = accounts.find(Lockout, record)
        failures = known.failures if known and now_ms - known.last_ms < LOCKOUT_FORGET_MS else 0
        failures += 1
        pause_ms = min(LOCKOUT_FIRST_MS << min(failures - LOCKOUT_FREE - 1, 10), LOCKOUT_MAX_MS)
        until_ms = now_ms + pause_ms if failures > LOCKOUT_FREE else 0
        lockout = Lockout(recordID=record, failures=failures, last_ms=now_ms, until_ms=until_ms)
        accounts.put(lockout, "lockout_changed")


@command("POST", "/lockouts/success", target=Lockout, permission=MANAGE, emits=["lockout_changed"])
def note_success(accounts: Changes, given: NoteLogin) -> None:
    """Forget the wrong passwords before a right one."""
    for record in given.records:
        known = accounts.find(Lockout, record)
        if known is not None:
            accounts.delete(known, "lockout_changed")


class EndSession(CommandInput):
    session: RecordID
    expires_ms: int


@command("POST", "/sessions/end", target=User, permission=MANAGE, emits=["session_ended"])
def end_session(accounts: Changes, given: EndSession) -> None:
    """Let a session's token count no more, in every process."""
    nobody = Lockout(recordID="-", failures=0, last_ms=0)
    content = {"session": given.session, "expiresMs": given.expires_ms}
    accounts.emit("session_ended", content, about=(), of=nobody)


COMMANDS: Sequence[Command] = (
    add_user, set_password, set_access, delete_user, add_key, revoke_key, note_failure, note_success, end_session,
)  # fmt: skip

ACCOUNTS = Domain(kinds=[User, ApiKeyRecord, Lockout], commands=COMMANDS, event_types=EVENT_TYPES)
