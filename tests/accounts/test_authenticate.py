"""From a request to its caller: each kind of credential, what goes before what, and what no longer counts."""

import secrets
from pathlib import Path
from typing import Any

import pytest

from sync_core.problems import Problem, Unauthorized
from sync_server.access.caller import Caller
from sync_server.accounts import records
from sync_server.accounts.records import EndSession, SetAccess, SetPassword
from sync_server.accounts.sessions import LoginSession
from sync_server.accounts.tickets import TICKET_S
from tests.access.credentials import token
from tests.accounts.office import STREAM, Office, office, request


async def caller(desk: Office, scope: dict[str, Any] | None = None, **headers: str | list[str]) -> Caller:
    return await desk.authenticator.caller(scope if scope is not None else request(**headers))


async def status(desk: Office, scope: dict[str, Any] | None = None, **headers: str | list[str]) -> int:
    with pytest.raises(Problem) as caught:
        await caller(desk, scope, **headers)
    return caught.value.status


def cookie(session: LoginSession) -> str:
    return f"order_sync_session={session.token}"


async def test_a_token_gives_the_rights_of_its_roles_until_it_expires(desk: Office) -> None:
    found = await caller(desk, authorization=f"Bearer {token('cashier', exp=2_000_000_000, bound=['bayID=B1'])}")
    assert (found.tenant, found.principal, found.expires_ms) == ("default", "user:ann", 2_000_000_000_000)
    assert found.rights.allows("create_orders")
    assert found.rights.bound == {"bayID=B1"}


async def test_a_key_gives_the_rights_of_its_roles(desk: Office) -> None:
    key = await desk.add_key("bay", bound=("bayID=B1",), tenant="other")
    found = await caller(desk, authorization=f"bearer {key.text}")
    assert (found.tenant, found.principal, found.expires_ms) == ("other", f"key:{key.id}", None)
    assert found.rights.allows("run_bays")
    assert found.rights.bound == {"bayID=B1"}


async def test_a_login_gives_the_rights_of_its_user_by_cookie_and_by_token(desk: Office) -> None:
    session = desk.sessions.begin(await desk.add_user("ann", "csr"))
    by_cookie = await caller(desk, cookie=f"a=b; {cookie(session)}; c=d")
    assert by_cookie == await caller(desk, authorization=f"Bearer {session.token}")
    assert by_cookie.expires_ms == session.expires_ms
    assert by_cookie.rights.labels == {"user:ann", "role:csr"}


async def test_without_a_credential_nobody_is_let_in(desk: Office) -> None:
    for headers in ({}, {"cookie": "other=1"}, {"cookie": ""}, {"authorization": ""}):
        assert await status(desk, **headers) == 401


@pytest.mark.parametrize("value", ["Basic YTpi", "Bearer", "Bearer  ", "token", "Bearer osk_x", "Bearer a.b.c", "ä"])
async def test_a_header_of_another_form_is_refused(desk: Office, value: str) -> None:
    assert await status(desk, authorization=value) == 401


async def test_contradicting_credentials_are_refused(desk: Office) -> None:
    key = await desk.add_key()
    good = f"Bearer {key.text}"
    assert await status(desk, authorization=[good, good]) == 400
    ticket = desk.tickets.issue(await caller(desk, authorization=good))
    assert await status(desk, request(path=STREAM, query=f"ticket={ticket}", authorization=good)) == 400
    assert await status(desk, request(path=STREAM, query=f"ticket={ticket}&ticket={ticket}")) == 400


async def test_a_header_goes_before_a_cookie_even_where_it_is_no_good(desk: Office) -> None:
    session, key = desk.sessions.begin(await desk.add_user()), await desk.add_key()
    both = await caller(desk, cookie=cookie(session), authorization=f"Bearer {key.text}")
    assert both.principal == f"key:{key.id}"
    assert await status(desk, cookie=cookie(session), authorization="Bearer x") == 401


async def test_a_tenant_that_is_not_served_is_refused_for_every_credential(desk: Office) -> None:
    key, user = await desk.add_key(tenant="third"), await desk.add_user("bob", tenant="third")
    session = desk.sessions.begin(user)
    for headers in (
        {"authorization": f"Bearer {key.text}"},
        {"authorization": f"Bearer {token('admin', tenant='third')}"},
        {"authorization": f"Bearer {session.token}"},
        {"cookie": cookie(session)},
    ):
        assert await status(desk, **headers) == 403


async def test_a_wrong_secret_of_a_known_key_is_refused(desk: Office) -> None:
    key = await desk.add_key()
    wrong = key.text[:15] + secrets.token_urlsafe(32)
    assert await status(desk, authorization=f"Bearer {wrong}") == 401


# -- CSRF ---------------------------------------------------------------------------------------------------


async def test_a_cookie_alone_changes_nothing(desk: Office) -> None:
    user = await desk.add_user()
    session, other = desk.sessions.begin(user), desk.sessions.begin(user)
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        refused = [{}, {"x_csrf_token": ""}, {"x_csrf_token": "x"}, {"x_csrf_token": other.csrf_token}]
        for headers in refused:
            assert await status(desk, request(method, cookie=cookie(session), **headers)) == 403
        assert await caller(desk, request(method, cookie=cookie(session), x_csrf_token=session.csrf_token))
        assert await caller(desk, request(method, authorization=f"Bearer {session.token}"))
    for method in ("GET", "HEAD", "OPTIONS"):
        assert await caller(desk, request(method, cookie=cookie(session)))


# -- tickets ------------------------------------------------------------------------------------------------


async def a_ticket(desk: Office, **headers: str) -> str:
    return desk.tickets.issue(await caller(desk, **headers))


async def test_a_ticket_is_whoever_got_it(desk: Office) -> None:
    key = await desk.add_key("bay", bound=("bayID=B1",))
    session = desk.sessions.begin(await desk.add_user())
    for value in (key.text, session.token, token("cashier", bound=["bayID=B2"])):
        before = await caller(desk, authorization=f"Bearer {value}")
        scope = request(path=STREAM, query=f"orderID=A%2CB&ticket={desk.tickets.issue(before)}&clientID=%C3%A4")
        assert await caller(desk, scope) == before
        assert scope["query_string"] == b"orderID=A%2CB&clientID=%C3%A4"


async def test_a_ticket_is_good_once(desk: Office) -> None:
    ticket = await a_ticket(desk, authorization=f"Bearer {token()}")
    assert await caller(desk, request(path=STREAM, query=f"ticket={ticket}"))
    assert await status(desk, request(path=STREAM, query=f"ticket={ticket}")) == 401


async def test_a_ticket_is_good_for_thirty_seconds(desk: Office) -> None:
    early, late = [await a_ticket(desk, authorization=f"Bearer {token()}") for _ in range(2)]
    desk.clock.ms += int(TICKET_S * 1000) - 1
    assert await caller(desk, request(path=STREAM, query=f"ticket={early}"))
    desk.clock.ms += 1
    assert await status(desk, request(path=STREAM, query=f"ticket={late}")) == 401


async def test_a_ticket_opens_the_stream_and_nothing_else(desk: Office) -> None:
    ticket = await a_ticket(desk, authorization=f"Bearer {token('admin')}")
    for path in ("/api/v1/orders", "/api/v1/sync/poll", "/api/v1/auth/tickets"):
        assert await status(desk, request(path=path, query=f"ticket={ticket}")) == 401


async def test_a_forged_ticket_is_refused(desk: Office) -> None:
    ticket = await a_ticket(desk, authorization=f"Bearer {token()}")
    body, _, mac = ticket.partition(".")
    for forged in ("", "x", ".", f"{body}.", f"{body[:-2]}AA.{mac}", desk.sessions.begin(await desk.add_user()).token):
        assert await status(desk, request(path=STREAM, query=f"ticket={forged}")) == 401
    assert await caller(desk, request(path=STREAM, query=f"ticket={ticket}"))


async def test_a_ticket_of_a_revoked_key_is_none(desk: Office) -> None:
    key = await desk.add_key()
    ticket = await a_ticket(desk, authorization=f"Bearer {key.text}")
    await desk.do(records.revoke_key, records.RevokeKey(record=key.id))
    await desk.directory.look()
    assert await status(desk, request(path=STREAM, query=f"ticket={ticket}")) == 401


async def test_a_ticket_for_many_bindings_fits(desk: Office) -> None:
    key = await desk.add_key("client", bound=tuple(f"orderID=ORDER-{n:020}" for n in range(200)))
    ticket = await a_ticket(desk, authorization=f"Bearer {key.text}")
    assert len((await caller(desk, request(path=STREAM, query=f"ticket={ticket}"))).rights.bound) == 200


# -- what changes -------------------------------------------------------------------------------------------


async def test_whoever_has_lost_something_is_told_from_those_who_have_not(desk: Office) -> None:
    kept_key, lost_key = await desk.add_key(), await desk.add_key()
    users = {name: await desk.add_user(name) for name in ("same", "roles", "password", "deleted", "logout")}
    sessions = {name: desk.sessions.begin(user) for name, user in users.items()}
    callers = {name: await caller(desk, authorization=f"Bearer {s.token}") for name, s in sessions.items()}
    callers["kept"] = await caller(desk, authorization=f"Bearer {kept_key.text}")
    callers["lost"] = await caller(desk, authorization=f"Bearer {lost_key.text}")
    callers["token"] = await caller(desk, authorization=f"Bearer {token()}")
    assert desk.authenticator.changed(callers.values()) == set()
    record = {name: user.recordID for name, user in users.items()}
    await desk.do(records.set_access, SetAccess(record=record["roles"], roles=("admin",)))
    await desk.do(records.set_password, SetPassword(record=record["password"], password="x"))
    await desk.do(records.delete_user, records.DeleteUser(record=record["deleted"]))
    await desk.do(records.end_session, EndSession(session=sessions["logout"].id, expires_ms=2**52))
    await desk.do(records.revoke_key, records.RevokeKey(record=lost_key.id))
    assert desk.authenticator.changed(callers.values()) == set()
    await desk.directory.look()
    changed = desk.authenticator.changed(callers.values())
    assert {name for name, known in callers.items() if known in changed} == {
        "roles", "password", "deleted", "logout", "lost",
    }  # fmt: skip
    for name in ("roles", "password", "deleted", "logout"):
        assert await status(desk, cookie=cookie(sessions[name])) == 401


async def test_a_user_who_comes_again_under_an_old_name_is_another_one(desk: Office) -> None:
    session = desk.sessions.begin(await desk.add_user("ann", "admin"))
    await desk.do(records.delete_user, records.DeleteUser(record="default/ann"))
    await desk.add_user("ann", "viewer")
    assert await status(desk, cookie=cookie(session)) == 401


async def test_a_session_that_is_newer_than_the_last_look_is_known(desk: Office) -> None:
    """Begun in another process, after a change that this one has not seen yet."""
    user = await desk.add_user("ann", "viewer")
    await desk.do(records.set_access, SetAccess(record=user.recordID, roles=("cashier",)))
    session = desk.sessions.begin(user.model_copy(update={"generation": user.generation + 1}))
    found = await caller(desk, cookie=cookie(session))
    assert found.rights.allows("create_orders")


async def test_a_key_that_is_newer_than_the_last_look_is_known(desk: Office, tmp_path: Path) -> None:
    async with office(tmp_path, exclusive=False, clock=desk.clock) as console:
        key = await console.add_key("cashier")
    assert desk.directory.key(key.id) is None
    found = await caller(desk, authorization=f"Bearer {key.text}")
    assert found.rights.allows("create_orders")


async def test_refusals_tell_nothing_of_the_credential(desk: Office) -> None:
    for value in ("osk_abcdefghij_" + "s" * 43, token(key="another secret of 32 bytes or more"), "hunter2"):
        with pytest.raises(Unauthorized) as caught:
            await caller(desk, authorization=f"Bearer {value}")
        assert value not in caught.value.detail
