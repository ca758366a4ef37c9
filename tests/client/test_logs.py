"""The library's log lines: of the standard logger, one line an event, with the program's own handlers."""

import logging

import pytest

from sync_client.logs import get_logger

log = get_logger()


def test_an_event_is_a_line_with_its_fields(caplog: pytest.LogCaptureFixture) -> None:
    log.warning("state", before="connected", after="reconnecting", slept_s=1.5)
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("sync_client", logging.WARNING)
    assert record.getMessage() == "event='state' before='connected' after='reconnecting' slept_s=1.5"


def test_what_is_below_the_level_is_not_even_made(caplog: pytest.LogCaptureFixture) -> None:
    class Costly:
        def __repr__(self) -> str:
            raise AssertionError

    with caplog.at_level(logging.ERROR, "sync_client"):
        log.info("state", value=Costly())
    assert caplog.records == []


def test_a_percent_sign_is_only_that(caplog: pytest.LogCaptureFixture) -> None:
    log.warning("state", reason="100 %s")
    assert caplog.records[0].getMessage() == "event='state' reason='100 %s'"


def test_an_exception_brings_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    try:
        raise ValueError("broken")
    except ValueError as exc:
        log.exception("activity_failed")
        log.error("task_failed", exc_info=exc)
    assert all(record.exc_info and record.exc_info[0] is ValueError for record in caplog.records)
    assert caplog.text.count("ValueError: broken") == 2


def test_a_line_names_the_place_that_wrote_it(caplog: pytest.LogCaptureFixture) -> None:
    log.error("here")
    assert caplog.records[0].filename == "test_logs.py"
