"""What a failed request means to the state machine. Pure."""

from sync_client.errors import NotAStream, Refused, RequestFailed, ServerBusy, StopAsked, Unauthorized
from sync_client.states import Activity, Signal

__all__ = ["FAILED", "signal_of"]

FAILED: dict[Activity, Signal] = {
    Activity.STREAM: Signal.ATTEMPT_FAILED,
    Activity.PROBE: Signal.PROBE_FAILED,
    Activity.POLL: Signal.POLL_FAILED,
    Activity.PLAIN: Signal.PLAIN_FAILED,
    Activity.TOKEN: Signal.TOKEN_FAILED,
}


def signal_of(activity: Activity, exc: RequestFailed, *, is_open: bool) -> Signal:
    """The signal of *activity* that ended with *exc*; *is_open*: its stream had been open."""
    if activity is Activity.PLAIN:
        # Any answer tells that the network carries plain requests.
        answered = exc.status is not None and not isinstance(exc, ServerBusy)
        return Signal.PLAIN_ANSWERED if answered else Signal.PLAIN_FAILED
    if activity is Activity.TOKEN:
        return Signal.TOKEN_FAILED
    if isinstance(exc, StopAsked):
        return Signal.STOPPED
    if isinstance(exc, Unauthorized):
        return Signal.UNAUTHORIZED
    # A probe that is refused says nothing about the polling beside it.
    if isinstance(exc, Refused) and activity is not Activity.PROBE:
        return Signal.MISCONFIGURED
    # A page that is no JSON comes from somebody in between; while polling that passes.
    if isinstance(exc, NotAStream) and activity is Activity.STREAM:
        return Signal.MISCONFIGURED
    return Signal.LOST if activity is Activity.STREAM and is_open else FAILED[activity]
