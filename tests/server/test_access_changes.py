"""What is taken away counts within five seconds, for streams that are open too: on both stores, in every process."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import pytest
from pymongo import MongoClient

from sync_client import SyncClient
from sync_core.filters import Filter
from sync_server.accounts import records
from sync_server.feed.view import Sight, View
from sync_server.log.base import EventLog
from sync_server.log.mongo import MongoLog
from sync_server.log.open import new_epoch
from sync_server.log.sqlite import SQLiteLog
from tests.access.credentials import ACCESS, CONFIG, SECRET, bearer, token
from tests.accounts.office import PASSWORD, Clock, Office, office
from tests.accounts.office import request as office_request
from tests.feed.hubs import begin
from tests.mongod import External, ReplicaSet
from tests.server.publishing import EVENT, EVENTS, POLL
from tests.servers import SyncServer
from tests.serving import serving, sqlite_settings
from tests.streams import Stream, eventually, stream

PROMISED_S = 5.0
AUTH = "/api/v1/auth"


class Place(NamedTuple):
    """Servers of one log, and a way to that from the outside, as the command line has it."""

    servers: list[SyncServer]
    open_log: Callable[[], EventLog]


@pytest.fixture(scope="module", params=["sqlite", "mongodb"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """One server on SQLite, two on MongoDB."""
    directory = tmp_path_factory.mktemp(f"access-{request.param}")
    if request.param == "sqlite":
        with SyncServer(directory, config=CONFIG) as server:
            yield Place([server], lambda: SQLiteLog(directory / "sync.db", new_epoch=new_epoch, exclusive=False))
            assert "Traceback" not in server.log_text()
        return
    mongod: ReplicaSet | External = request.getfixturevalue("mongod")
    name = f"test_{uuid.uuid4().hex}"
    config = f'{CONFIG}[log]\nstore = "mongodb"\n[log.mongodb]\nuri = "{mongod.uri}"\ndatabase = "{name}"\n'
    with SyncServer(directory / "one", config=config) as one, SyncServer(directory / "two", config=config) as two:
        yield Place([one, two], lambda: MongoLog(mongod.uri, name, new_epoch=new_epoch, driver="pymongo"))
        assert "Traceback" not in one.log_text() + two.log_text()
    with MongoClient[dict[str, Any]](mongod.uri) as client:
        client.drop_database(name)


@pytest.fixture
async def console(place: Place) -> AsyncIterator[Office]:
    event_log = place.open_log()
    await event_log.open()
    office = Office(event_log, clock=Clock(), secret=SECRET.encode())
    yield office
    await office.aclose()
    await event_log.aclose()


async def known(place: Place, credential: str) -> None:
    """Wait until every server lets that one in."""
    async with httpx2.AsyncClient(trust_env=False, headers={"Authorization": f"Bearer {credential}"}) as http:
        deadline_s = time.monotonic() + PROMISED_S
        for server in place.servers:
            while (await http.get(f"{server.base_url}{AUTH}/me")).status_code != 200:
                assert time.monotonic() < deadline_s
                await asyncio.sleep(0.02)


async def said(opened: Stream) -> str:
    """The reason of its goodbye."""
    goodbye = await opened.until("goodbye", timeout_s=PROMISED_S)
    return goodbye.data


async def test_whoever_loses_access_is_told_goodbye_in_time_and_nobody_else(place: Place, console: Office) -> None:
    kept, revoked, ticketed = [await console.add_key("viewer") for _ in range(3)]
    users = {name: await console.add_user(name, "viewer") for name in ("roles", "password", "deleted", "logout")}
    sessions = {name: console.sessions.begin(user) for name, user in users.items()}
    await known(place, sessions["logout"].token)
    async with AsyncExitStack() as stack:
        streams: dict[str, list[Stream]] = {}

        async def watch(name: str, **how: Any) -> None:
            for server in place.servers:
                opened = await stack.enter_async_context(stream(server.port, **how))
                await opened.until("caught_up")
                streams.setdefault(name, []).append(opened)

        await watch("kept", token=kept.text)
        await watch("token", token=token("viewer"))
        await watch("revoked", token=revoked.text)
        for name, session in sessions.items():
            await watch(name, token=session.token)
        for server in place.servers:
            headers = {"Authorization": f"Bearer {ticketed.text}"}
            reply = httpx2.post(f"{server.base_url}{AUTH}/tickets", headers=headers, trust_env=False)
            opened = await stack.enter_async_context(stream(server.port, ticket=reply.json()["ticket"]))
            await opened.until("caught_up")
            streams.setdefault("ticketed", []).append(opened)

        started = time.monotonic()
        for key in (revoked, ticketed):
            await console.do(records.revoke_key, records.RevokeKey(record=key.id))
        record = {name: user.recordID for name, user in users.items()}
        await console.do(records.set_access, records.SetAccess(record=record["roles"], roles=("cashier",)))
        await console.do(records.set_password, records.SetPassword(record=record["password"], password="x"))
        await console.do(records.delete_user, records.DeleteUser(record=record["deleted"]))
        logout = {"Authorization": f"Bearer {sessions['logout'].token}"}
        reply = httpx2.post(f"{place.servers[0].base_url}{AUTH}/logout", headers=logout, trust_env=False)
        assert reply.status_code == 204
        lost = [opened for name, group in streams.items() if name not in ("kept", "token") for opened in group]
        reasons = await asyncio.gather(*map(said, lost))
        assert time.monotonic() - started < PROMISED_S
        assert set(reasons) == {'{"reason":"access_changed"}'}
        for server in place.servers:
            for gone in (revoked.text, *(session.token for session in sessions.values())):
                who = {"Authorization": f"Bearer {gone}"}
                assert httpx2.get(f"{server.base_url}{AUTH}/me", headers=who, trust_env=False).status_code == 401
        httpx2.post(
            f"{place.servers[0].base_url}{EVENTS}", json=EVENT, headers=bearer("integrator"), trust_env=False
        ).raise_for_status()
        for opened in [*streams["kept"], *streams["token"]]:
            await opened.until("stage_change")
            assert not [event for event in opened.seen if event.event == "goodbye"]


async def test_a_waiting_poll_ends_with_its_access(place: Place, console: Office) -> None:
    key = await console.add_key("viewer")
    await known(place, key.text)
    async with httpx2.AsyncClient(trust_env=False, headers={"Authorization": f"Bearer {key.text}"}, timeout=30) as http:
        polls = [asyncio.create_task(http.get(f"{s.base_url}{POLL}", params={"wait": "20"})) for s in place.servers]
        await asyncio.sleep(0.3)
        started = time.monotonic()
        await console.do(records.revoke_key, records.RevokeKey(record=key.id))
        await asyncio.gather(*polls)
        assert time.monotonic() - started < PROMISED_S
        for server in place.servers:
            assert (await http.get(f"{server.base_url}{POLL}")).status_code == 401


async def test_a_stream_that_begins_behind_the_change_ends_too(tmp_path: Path) -> None:
    """Let in just before it, and slow to begin: nothing changes any more when it does."""
    async with (
        serving(sqlite_settings(tmp_path, access=ACCESS)) as served,
        office(tmp_path, exclusive=False) as desk,
    ):
        keys = [await desk.add_key("viewer") for _ in range(2)]
        scopes = [office_request(authorization=f"Bearer {key.text}") for key in keys]
        late, kept = [await desk.authenticator.caller(scope) for scope in scopes]
        hub = await served.hub()
        await desk.do(records.revoke_key, records.RevokeKey(record=keys[0].id))
        headers = {"Authorization": f"Bearer {keys[0].text}"}
        async with httpx2.AsyncClient(base_url=served.url, trust_env=False, headers=headers) as http:
            while (await http.get(f"{AUTH}/me")).status_code != 401:
                await asyncio.sleep(0.02)
        _, kept_socket = begin(hub, View(Sight(Filter(), kept.rights), None, kept))
        assert hub._newcomers
        await eventually(lambda: not hub._newcomers)  # a look has found nothing new
        _, late_socket = begin(hub, View(Sight(Filter(), late.rights), None, late))
        await eventually(lambda: late_socket.count("goodbye") == 1, timeout_s=PROMISED_S)
        assert late_socket.data("goodbye") == [{"reason": "access_changed"}]
        assert kept_socket.count("goodbye") == 0


async def test_a_login_counts_at_once_in_every_process(place: Place, console: Office) -> None:
    """Also one behind a change that the other process has not looked at yet."""
    await console.add_user("ann", "viewer")
    given = {"username": "ann", "password": PASSWORD}
    deadline_s = time.monotonic() + PROMISED_S
    async with httpx2.AsyncClient(trust_env=False) as http:
        while (reply := await http.post(f"{place.servers[0].base_url}{AUTH}/login", json=given)).status_code != 200:
            assert time.monotonic() < deadline_s
        who = {"Authorization": f"Bearer {reply.json()['token']}"}
        for server in place.servers:
            assert (await http.get(f"{server.base_url}{AUTH}/me", headers=who)).status_code == 200


async def test_a_ticket_is_good_once_in_all_processes(place: Place, console: Office) -> None:
    key = await console.add_key("viewer")
    await known(place, key.text)
    who = {"Authorization": f"Bearer {key.text}"}
    ticket = httpx2.post(f"{place.servers[0].base_url}{AUTH}/tickets", headers=who, trust_env=False).json()["ticket"]
    statuses = []
    for server in [*place.servers[::-1], *place.servers]:
        async with stream(server.port, ticket=ticket) as opened:
            statuses.append(opened.status)
    assert statuses == [200, *[401] * (2 * len(place.servers) - 1)]


# -- tokens that expire -------------------------------------------------------------------------------------


@pytest.mark.alone
async def test_a_token_that_expires_ends_its_stream(tmp_path: Path) -> None:
    async with serving(sqlite_settings(tmp_path, access=ACCESS)) as served:
        started = time.monotonic()
        async with stream(served.port, token=token("viewer", lifetime_s=1.2)) as opened:
            assert await said(opened) == '{"reason":"token_expired"}'
            assert time.monotonic() - started < 2.5


@pytest.mark.alone
async def test_a_client_whose_tokens_last_a_second_neither_spins_nor_starves(tmp_path: Path) -> None:
    asked: list[float] = []

    def provider() -> str:
        asked.append(time.monotonic())
        return token("viewer", lifetime_s=1.9)  # 0.9 to 1.9 s: exp counts in whole seconds

    count = 100
    async with (
        serving(sqlite_settings(tmp_path, access=ACCESS)) as served,
        SyncClient(served.url, token=provider, client_name="till", cache=False) as client,
    ):
        late_s: list[float] = []
        sent_s: list[float] = []

        async def listen() -> None:
            async for event in client.events():
                assert event.data["n"] == len(late_s)
                late_s.append(time.monotonic() - sent_s[event.data["n"]])
                if len(late_s) == count:
                    return

        listening = asyncio.create_task(listen())
        await eventually(lambda: client.state.value == "connected")
        for n in range(count):
            sent_s.append(time.monotonic())
            await served.stages(1, first=n)
            await asyncio.sleep(0.05)
        await asyncio.wait_for(listening, 10)
        assert max(late_s) < 3
        assert 3 <= len(asked) <= 2 * (time.monotonic() - asked[0])
