"""What failed requests mean."""

import pytest

from sync_client.errors import NetworkFailed, NotAStream, Refused, RequestFailed, ServerBusy, StopAsked, Unauthorized
from sync_client.failures import FAILED, signal_of
from sync_client.states import Activity, Signal

REQUESTS = (Activity.STREAM, Activity.PROBE, Activity.POLL)


@pytest.mark.parametrize("activity", REQUESTS)
def test_what_the_server_says_of_us_holds_for_every_request(activity: Activity) -> None:
    assert signal_of(activity, StopAsked("x", status=204), is_open=False) is Signal.STOPPED
    assert signal_of(activity, Unauthorized("x", status=401), is_open=False) is Signal.UNAUTHORIZED


@pytest.mark.parametrize("activity", REQUESTS)
@pytest.mark.parametrize("exc", [NetworkFailed("x"), ServerBusy("x", status=503)])
def test_what_passes_is_a_failure_of_its_kind(activity: Activity, exc: RequestFailed) -> None:
    assert signal_of(activity, exc, is_open=False) is FAILED[activity]


def test_an_open_stream_that_breaks_is_lost() -> None:
    assert signal_of(Activity.STREAM, NetworkFailed("x"), is_open=True) is Signal.LOST
    assert signal_of(Activity.POLL, NetworkFailed("x"), is_open=True) is Signal.POLL_FAILED


def test_a_refused_probe_does_not_end_the_polling() -> None:
    assert signal_of(Activity.PROBE, Refused("x", status=404), is_open=False) is Signal.PROBE_FAILED
    assert signal_of(Activity.PROBE, NotAStream("x", status=200), is_open=False) is Signal.PROBE_FAILED
    assert signal_of(Activity.STREAM, Refused("x", status=404), is_open=False) is Signal.MISCONFIGURED


def test_a_strange_page_is_final_for_a_stream_and_passes_for_a_poll() -> None:
    assert signal_of(Activity.STREAM, NotAStream("x", status=200), is_open=False) is Signal.MISCONFIGURED
    assert signal_of(Activity.POLL, NotAStream("x", status=200), is_open=False) is Signal.POLL_FAILED


def test_any_answer_to_the_plain_request_tells_that_the_network_carries_it() -> None:
    assert signal_of(Activity.PLAIN, Unauthorized("x", status=401), is_open=False) is Signal.PLAIN_ANSWERED
    assert signal_of(Activity.PLAIN, ServerBusy("x", status=503), is_open=False) is Signal.PLAIN_FAILED
    assert signal_of(Activity.PLAIN, NetworkFailed("x"), is_open=False) is Signal.PLAIN_FAILED
