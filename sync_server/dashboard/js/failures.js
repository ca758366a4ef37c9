/** What a failed request means to the state machine. Pure. */

import { NotOurAnswer, Refused, ServerBusy, StopAsked, Unauthorized } from './errors.js';
import { Activity, Signal } from './states.js';

/** What a failure is called, by activity, where it means nothing more. */
export const FAILED = {
  [Activity.STREAM]: Signal.ATTEMPT_FAILED,
  [Activity.PROBE]: Signal.PROBE_FAILED,
  [Activity.POLL]: Signal.POLL_FAILED,
  [Activity.PLAIN]: Signal.PLAIN_FAILED,
  [Activity.TOKEN]: Signal.TOKEN_FAILED,
};

/** The signal of `activity` that ended with `error`. Pure. */
export function signalOf(activity, error) {
  if (activity === Activity.PLAIN) {
    // Any answer tells that the network carries plain requests.
    const answered = error.status !== null && !(error instanceof ServerBusy);
    return answered ? Signal.PLAIN_ANSWERED : Signal.PLAIN_FAILED;
  }
  if (activity === Activity.TOKEN) return Signal.TOKEN_FAILED;
  if (error instanceof StopAsked) return Signal.STOPPED;
  if (error instanceof Unauthorized) return Signal.UNAUTHORIZED;
  // A probe that is refused says nothing about the polling beside it.
  if (error instanceof Refused && activity !== Activity.PROBE) return Signal.MISCONFIGURED;
  // A page that is no JSON comes from somebody in between; while polling that passes.
  if (error instanceof NotOurAnswer && activity === Activity.STREAM) return Signal.MISCONFIGURED;
  return FAILED[activity];
}
