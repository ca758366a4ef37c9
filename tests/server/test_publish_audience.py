"""Publishing for an audience: who is named sees it, nobody else does, and nobody sees who was named."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from sync_server.app import open_application
from sync_server.asgi import Application
from sync_server.permissions import DEFAULT_ROLES
from tests.access.credentials import ACCESS, bearer
from tests.server.publishing import EVENT, EVENTS, POLL, assert_problem
from tests.server.test_access_matrix import http
from tests.serving import serving, sqlite_settings
from tests.streams import stream

INTEGRATOR = bearer("integrator", sub="cms")
READERS = {
    "csr": bearer("csr", sub="carl"),
    "viewer": bearer("viewer", sub="vera"),
    "both": bearer("csr", "viewer", sub="bert"),
    "bay": bearer("bay", sub="b1", bound=["bayID=B1"]),
    "other bay": bearer("bay", sub="b2", bound=["bayID=B2"]),
    "admin": bearer("admin", sub="boss"),
    "nobody": bearer(sub="nobody"),
}


@pytest.fixture
async def application(tmp_path: Path) -> AsyncIterator[Application]:
    settings = sqlite_settings(tmp_path, access=ACCESS, events={"custom": [{"name": "blip", "delivery": "ephemeral"}]})
    async with open_application(settings) as application:
        yield application


async def publish(client: httpx2.AsyncClient, **more: Any) -> httpx2.Response:
    return await client.post(EVENTS, json=EVENT | more, headers=INTEGRATOR)


async def who_sees(client: httpx2.AsyncClient) -> set[str]:
    """Readers who find the newest event by polling."""
    found = set()
    for name, headers in READERS.items():
        page = (await client.get(POLL, params={"after": "earliest"}, headers=headers)).json()
        if page["events"] and page["events"][-1]["id"] == page["head"]:
            found.add(name)
            assert not {"audience", "sample"} & set(page["events"][-1])
    return found


@pytest.mark.parametrize(
    ("audience", "seers"),
    [
        (None, {"csr", "viewer", "both", "admin"}),
        (["role:csr"], {"csr", "both"}),
        (["role:csr", "role:admin"], {"csr", "both", "admin"}),
        (["user:vera"], {"viewer"}),
        (["user:VERA", "role:cs", "role:csr2"], set()),
        (["bayID=B1"], {"bay"}),
        (["bayID=B1", "user:b2", "role:viewer"], {"bay", "other bay", "viewer", "both"}),
        (["orderID=ORDER-001"], set()),
        (["user:nobody"], set()),  # without view_events there is nothing to see
    ],
)
async def test_exactly_those_who_are_named_see_it(
    application: Application, audience: list[str] | None, seers: set[str]
) -> None:
    async with http(application) as client:
        more = {} if audience is None else {"audience": audience}
        assert (await publish(client, **more, bayID="B1")).status_code == 201
        assert await who_sees(client) == seers


async def test_a_sample_thins_what_is_seen_and_gives_nothing(application: Application) -> None:
    async with http(application) as client:
        for n in range(60):
            event = {"audience": ["role:csr"], "sample": 0.5, "orderID": f"O{n}"}
            assert (await publish(client, **event)).status_code == 201
        counts = {}
        for name, headers in READERS.items():
            page = (await client.get(POLL, params={"after": "earliest"}, headers=headers)).json()
            counts[name] = len(page["events"])
        assert 10 < counts["csr"] < 50
        assert counts["viewer"] == counts["admin"] == counts["bay"] == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"audience": []}, {"audience": ["csr"]}, {"audience": ["role:"]}, {"audience": "role:csr"}, {"audience": [5]},
        {"audience": ["role:a,b"]}, {"audience": ["role:a\nb"]}, {"audience": ["shoeID=1"]}, {"audience": ["bayID="]},
        {"audience": ["role:a"] * 33}, {"audience": ["role:" + "x" * 200]}, {"audience": ["group:a"]},
    ],
    ids=str,
)  # fmt: skip
async def test_an_audience_of_another_form_is_refused_with_its_place(
    application: Application, wrong: dict[str, Any]
) -> None:
    async with http(application) as client:
        reply = await publish(client, **wrong)
        assert reply.status_code == 422
        assert reply.json()["errors"][0]["path"].startswith("audience")


@pytest.mark.parametrize("sample", [0, -0.5, 1.5, "0.5", True])
async def test_a_sample_of_another_form_is_refused(application: Application, sample: Any) -> None:
    async with http(application) as client:
        assert_problem(await publish(client, sample=sample), 422, "sample")


async def test_the_same_key_with_another_audience_is_another_event(application: Application) -> None:
    async with http(application) as client:
        assert (await publish(client, key="k", audience=["role:csr"])).status_code == 201
        again = await publish(client, key="k", audience=["role:csr"])
        assert again.json()["events"][0]["duplicate"]
        assert_problem(await publish(client, key="k", audience=["role:viewer"]), 422, "key")


async def test_only_who_may_publish_names_an_audience(application: Application) -> None:
    async with http(application) as client:
        for role in set(DEFAULT_ROLES) - {"integrator", "admin"}:
            body = EVENT | {"audience": [f"role:{role}"]}
            assert (await client.post(EVENTS, json=body, headers=bearer(role))).status_code == 403


async def test_live_and_ephemeral_events_keep_to_their_audience(tmp_path: Path) -> None:
    settings = sqlite_settings(tmp_path, access=ACCESS, events={"custom": [{"name": "blip", "delivery": "ephemeral"}]})

    def token(name: str) -> str:
        return READERS[name]["Authorization"].partition(" ")[2]

    async with (
        serving(settings) as served,
        httpx2.AsyncClient(base_url=served.url, trust_env=False, headers=INTEGRATOR) as client,
        stream(served.port, token=token("csr")) as csr,
        stream(served.port, token=token("viewer")) as viewer,
    ):
        for opened in (csr, viewer):
            await opened.until("caught_up")
        for n, audience in enumerate((["role:csr"], ["role:viewer"], ["user:carl"], None)):
            for event_type in ("status_update", "blip"):
                event = {"eventType": event_type, "data": {"status": "x", "n": n}, "audience": audience}
                body = {name: value for name, value in event.items() if value is not None}
                (await client.post(EVENTS, json=body)).raise_for_status()
        for opened, wanted in ((csr, [0, 2, 3]), (viewer, [1, 3])):
            while len(opened.envelopes) < 2 * len(wanted):
                await opened.next(timeout_s=5)
            for event_type in ("status_update", "blip"):
                of_type = [e for e in opened.envelopes if e["eventType"] == event_type]
                assert [envelope["data"]["n"] for envelope in of_type] == wanted
            assert b"role:" not in opened.raw
            assert b"user:" not in opened.raw
