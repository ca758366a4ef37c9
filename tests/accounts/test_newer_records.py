"""Records that a newer server wrote, after a downgrade or beside one: who is not understood does not come in, and keeps
nobody else out.
"""

import pytest

from sync_core.problems import Problem, TooManyRequests, Unauthorized, Unavailable
from sync_server.access.caller import Caller
from sync_server.accounts import records
from sync_server.accounts.directory import AccountUnreadable, Directory
from sync_server.accounts.logins import forget_stale
from sync_server.accounts.records import (
    FREE_ATTEMPTS,
    ApiKeyRecord,
    EndedSession,
    EndSession,
    Lockout,
    NoteLogin,
    SetAccess,
    User,
    lockout_of_user,
)
from tests.accounts.office import PASSWORD, Office, request

ADDRESS = "address:a"


async def bearer(desk: Office, token: str) -> Caller:
    return await desk.authenticator.caller(request(authorization=f"Bearer {token}"))


async def log_in(desk: Office, name: str, password: str = PASSWORD) -> User:
    return await desk.logins.check(tenant="default", name=name, password=password, address=ADDRESS)


async def test_a_user_of_a_newer_server_is_told_so_and_the_others_come_in(
    desk: Office, capsys: pytest.CaptureFixture[str]
) -> None:
    ann, bob = await desk.add_user("ann"), await desk.add_user("bob")
    session, other = desk.sessions.begin(ann), desk.sessions.begin(bob)
    await desk.do(records.set_access, SetAccess(record=ann.recordID, roles=("viewer",)))
    desk.make_newer("user", ann.recordID, "roles")
    fresh = Directory(desk.log, wall_ms=desk.clock)
    for directory in (desk.directory, fresh):
        await directory.look()
        with pytest.raises(AccountUnreadable, match="A newer version of this server wrote this user"):
            directory.user(ann.recordID)
        assert (directory.users, [ref.id for ref in directory.unreadable]) == ([bob], [ann.recordID])
    assert capsys.readouterr().out.count("account_unreadable") == 2
    with pytest.raises(Problem) as caught:
        await bearer(desk, session.token)
    assert (caught.value.status, caught.value.type) == (503, "unreadable")
    assert (await bearer(desk, other.token)).principal == "user:bob"
    assert await log_in(desk, "bob") == bob
    with pytest.raises(Unauthorized, match="user name or the password is wrong"):
        await log_in(desk, "ann")


async def test_who_was_in_is_sent_away_when_a_newer_server_has_changed_the_account(desk: Office) -> None:
    """It may have taken something away."""
    ann, key, other = await desk.add_user("ann"), await desk.add_key(), await desk.add_key()
    callers = [await bearer(desk, token) for token in (desk.sessions.begin(ann).token, key.text, other.text)]
    assert desk.authenticator.changed(callers) == set()
    desk.make_newer("user", ann.recordID, "roles")
    desk.make_newer("api_key", key.id, "bound")
    desk.directory._seen = None  # as after a trim: all is read again
    await desk.directory.look()
    assert desk.authenticator.changed(callers) == set(callers[:2])
    with pytest.raises(AccountUnreadable, match="wrote this api key"):
        await bearer(desk, key.text)
    assert {ref.kind for ref in desk.directory.unreadable} == {User.kind, ApiKeyRecord.kind}


async def test_a_session_that_a_newer_server_has_ended_is_over(desk: Office) -> None:
    session = desk.sessions.begin(await desk.add_user())
    await bearer(desk, session.token)
    await desk.do(records.end_session, EndSession(session=session.id, expires_ms=desk.clock() + 1000))
    desk.make_newer("ended_session", session.id, "expires_ms")
    await desk.directory.look()
    with pytest.raises(Unauthorized):
        await bearer(desk, session.token)


async def test_attempts_that_cannot_be_counted_are_not_tried(desk: Office) -> None:
    await desk.add_user()
    lockout = lockout_of_user("default", "ann")
    for _ in range(2):
        with pytest.raises(Unauthorized):
            await log_in(desk, "ann", "wrong")
    desk.make_newer("lockout", lockout, "attempts")
    for _ in range(FREE_ATTEMPTS["user"] + 1):
        with pytest.raises(Unavailable, match="A newer version of this server has counted the attempts") as caught:
            await log_in(desk, "ann")
        assert not isinstance(caught.value, TooManyRequests)
    await desk.add_user("bob")
    assert (await log_in(desk, "bob")).name == "bob"


async def test_what_cannot_be_read_is_not_forgotten_and_holds_nothing_else_up(desk: Office) -> None:
    for name in ("a", "b", "c"):
        await desk.do(records.note_attempt, NoteLogin(user=f"user:{name}", address=f"address:{name}"))
        await desk.do(records.end_session, EndSession(session=name, expires_ms=desk.clock() + 1000))
    desk.make_newer(Lockout.kind, "user:b", "last_ms")
    desk.make_newer(EndedSession.kind, "b", "expires_ms")
    desk.clock.ms += 3_600_000
    await forget_stale(desk.log, desk.dispatch, now_ms=desk.clock)
    assert await desk.documents(EndedSession.kind, Lockout.kind) == ["b", "user:b"]
