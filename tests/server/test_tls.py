"""HTTPS by the server itself: streams, cookies, and the commands that talk to it."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
from websockets.asyncio.client import connect

from sync_server.app import open_application
from sync_server.console.doctor import examine
from sync_server.console.publish import publish_file
from sync_server.console.talk import own_certificate, server_url
from sync_server.serve import bind, make_server
from sync_server.settings import Settings
from tests.access.credentials import ACCESS, bearer, token
from tests.accounts.office import PASSWORD, office
from tests.server.publishing import EVENT, EVENTS
from tests.server.test_settings_access import make_certificate


@pytest.fixture
async def settings(tmp_path: Path) -> AsyncIterator[Settings]:
    """Of a server that runs with a certificate of its own making."""
    make_certificate(tmp_path)
    async with office(tmp_path) as desk:
        await desk.add_user("ann", "cashier")
    sock = bind("127.0.0.1", 0)
    server_section = {
        "port": sock.getsockname()[1],
        "tls_certificate": tmp_path / "server.pem",
        "tls_key": tmp_path / "server.key",
    }
    log = {"sqlite": {"path": str(tmp_path / "sync.db")}}
    settings = Settings.model_validate({"server": server_section, "log": log, "access": ACCESS})
    async with open_application(settings) as application:
        server = make_server(
            application, tls_certificate=settings.server.tls_certificate, tls_key=settings.server.tls_key
        )
        task = asyncio.create_task(server.serve(sockets=[sock]))
        while not server.started:
            await asyncio.sleep(0.005)
        yield settings
        await application.feed.drain(0)
        server.should_exit = True
        await task


async def test_a_stream_and_a_login_over_https(settings: Settings) -> None:
    verify = ssl.create_default_context(cafile=settings.server.tls_certificate)
    async with (
        httpx2.AsyncClient(base_url=server_url(settings), verify=verify, trust_env=False) as http,
        http.stream("GET", EVENTS, headers=bearer("viewer")) as reply,
    ):
        assert reply.headers["strict-transport-security"]
        lines = reply.aiter_lines()
        while await anext(lines) != "event: caught_up":
            pass
        await http.post(EVENTS, json=EVENT, headers=bearer("integrator"))
        while await anext(lines) != "event: stage_change":
            pass
        login = await http.post("/api/v1/auth/login", json={"username": "ann", "password": PASSWORD})
        assert all("; Secure" in cookie for cookie in login.headers.get_list("set-cookie"))


async def test_a_till_over_wss(settings: Settings) -> None:
    verify = ssl.create_default_context(cafile=settings.server.tls_certificate)
    url = server_url(settings).replace("https", "wss") + "/ws"
    async with connect(url, ssl=verify, proxy=None) as till:
        await till.send(json.dumps({"type": "connect", "clientId": "till-1", "token": token("cashier")}))
        connected = json.loads(await till.recv())
        assert (connected["type"], connected["success"]) == ("connected", True)


async def test_the_commands_know_the_servers_own_certificate_and_believe_no_other(settings: Settings) -> None:
    shown: list[str] = []
    count = await publish_file(
        settings, json.dumps(EVENT).encode(), name="-", url=None, token=token("integrator"),
        show=lambda event_id, event_type, duplicate: shown.append(event_type),
    )  # fmt: skip
    assert (count, shown) == (1, ["stage_change"])
    told: list[tuple[bool, str]] = []
    await examine(settings, lambda ok, what: told.append((ok, what)))
    assert (True, f"server: {server_url(settings)} is ready") in told
    assert own_certificate(settings) is not True
    async with httpx2.AsyncClient(base_url=server_url(settings), trust_env=False) as stranger:
        with pytest.raises(httpx2.ConnectError):
            await stranger.get("/healthz")
