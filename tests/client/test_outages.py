"""What `sync-client watch` says of outages where nobody watches: one line each, with the reason and what comes next."""

from dataclasses import replace

from sync_client.console.watch import Outages
from sync_client.gauges import health_at_rest
from sync_client.health import Health
from sync_client.states import State

URL = "http://shop"


def health(status: str, **more: object) -> Health:
    """At rest, with *more*."""
    return replace(health_at_rest(State.CONNECTING), status=status, **more)


def said(*looks: tuple[float, Health]) -> list[str]:
    outages = Outages(URL)
    return [news for now_s, look in looks if (news := outages.news(look, now_s=now_s))]


BEGINNING = health("reconnecting")
UP = health("healthy", transport="sse")
ERROR = health("error", attempt=1, reason="no route", next_retry_s=1.25)


def test_an_outage_is_one_line_however_many_attempts_it_takes() -> None:
    again = replace(ERROR, attempt=2, next_retry_s=None)
    assert said((0, BEGINNING), (1, ERROR), (2, again), (60, replace(ERROR, attempt=9))) == [
        f"reconnecting to {URL}: no route; next try in 1.2 s, then until it works"
    ]


def test_its_end_is_a_line_and_the_next_one_is_told_again() -> None:
    assert said((0, UP), (1, ERROR), (5.5, UP), (6, UP), (9, ERROR)) == [
        f"reconnecting to {URL}: no route; next try in 1.2 s, then until it works",
        "connected again after 4.5 s",
        f"reconnecting to {URL}: no route; next try in 1.2 s, then until it works",
    ]


def test_polling_ends_an_outage() -> None:
    polling = health("polling", transport="polling", reason="a proxy holds the stream back")
    assert said((0, ERROR), (2, polling))[1:] == ["polling (a proxy holds the stream back) after 2.0 s"]


def test_a_poll_that_fails_as_well_is_an_outage() -> None:
    offline = health("offline", last_error="poll: no route")
    assert said((0, UP), (1, offline)) == [f"reconnecting to {URL}: poll: no route; trying until it works"]


def test_a_planned_end_is_none() -> None:
    assert said((0, UP), (1, health("reconnecting", reason="max_age", next_retry_s=0.5)), (1.5, UP)) == []


def test_a_server_that_does_not_answer_is_told_before_the_attempt_has_failed() -> None:
    assert said((0, BEGINNING), (2.9, BEGINNING)) == []
    assert said((0, BEGINNING), (3.1, BEGINNING)) == [f"reconnecting to {URL}: no answer yet; trying until it works"]
