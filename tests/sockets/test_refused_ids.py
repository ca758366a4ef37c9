"""What is refused before anybody looks at it is told with its id all the same: its sender knows what to send again."""

from typing import Any

import pytest

from tests.feed.conftest import Start
from tests.sockets.client import socket
from tests.sockets.routes import PATH, echo, serve_at

MUCH = "x" * 10 * 64 * 1024
"""More than ten small messages count."""


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/ws", {"type": "device_reset", "deviceId": "nothing"}),
        ("/ws/tracking", {"type": "vehicle_location", "vehicleID": "nothing", "lon": 0, "lat": 0}),
    ],
)
async def test_every_message_with_an_id_is_answered_by_it(
    start_sqlite: Start, path: str, message: dict[str, Any]
) -> None:
    ids = [f"m{number}" for number in range(190)]  # above the rate, and below twice the rate
    async with start_sqlite() as served, socket(served, path, max_queue=None) as client:
        for known in ids:
            await client.say(message | {"id": known})
        while client.kinds.count("error") < len(ids):
            await client.next()
        errors = [message for message in client.seen if message["type"] == "error"]
        assert sorted(error["id"] for error in errors) == sorted(ids)
        assert "RATE_LIMITED" in [error["code"] for error in errors]


@pytest.mark.parametrize(
    ("more", "known"),
    [
        ({"id": "m1"}, "m1"),
        ({"id": "x" * 128}, "x" * 128),
        ({"id": "x" * 129}, None),
        ({"id": 7}, None),
        ({}, None),
        ({"id": "m1", "pad": "x" * 4096}, None),
    ],
    ids=["id", "a long id", "too long an id", "a number", "none", "a large message"],
)
async def test_above_the_rate_small_messages_are_looked_at_for_their_id(
    start_sqlite: Start, more: dict[str, Any], known: str | None
) -> None:
    async with start_sqlite() as served:
        serve_at(served, echo, messages_per_s=10)
        async with socket(served, PATH) as client:
            for message in ({"type": "x", "id": "much", "pad": MUCH}, {"type": "x", **more}):
                await client.say(message)
            much, refused = await client.next(), await client.next()
            assert (much["code"], "id" in much) == ("RATE_LIMITED", False)
            assert (refused["code"], refused.get("id")) == ("RATE_LIMITED", known)


async def test_a_message_without_a_type_is_refused_with_its_id(start_sqlite: Start) -> None:
    async with start_sqlite() as served:
        serve_at(served, echo)
        async with socket(served, PATH) as client:
            error = await client.ask({"typ": "x", "id": "m1"})
            assert (error["code"], error["id"]) == ("INVALID_MESSAGE", "m1")


async def test_no_error_on_the_feed_has_an_id_for_that_is_a_cursor_there(start_sqlite: Start) -> None:
    async with start_sqlite() as served, socket(served) as client:
        await client.until("caught_up")
        for message in ({"typ": "x"}, {"eventType": "x", "pad": MUCH}, {"eventType": "x"}):
            await client.say(message | {"id": "k3f9a2c1.7"})
        errors = [await client.until("error") for _ in range(3)]
        assert [error["code"] for error in errors] == ["INVALID_MESSAGE", "RATE_LIMITED", "RATE_LIMITED"]
        assert [error.get("id") for error in errors] == [None] * 3
