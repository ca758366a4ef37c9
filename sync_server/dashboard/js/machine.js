/**
 * The client's state machine: a total table of signal and state, without I/O, clock or randomness.
 *
 * `step` takes the machine and what happened and gives the next machine and what is to be done. The table is the
 * whole behaviour, the same as the Python client's; what its words mean is in rules.js. A signal from something
 * that is not active any more (a stream that was given up a moment ago) changes nothing: decided here, once.
 */

import { Draft, RULES } from './rules.js';
import { Activity, POLICY, Signal } from './states.js';

const GRID = `
                   disconnected connecting   connected    reconnecting error        polling_fallback closed  failed
connect            begin        -            -            hurry        hurry        probe_now        begin   begin
close              close        close        close        close        close        close            -       close
token_changed      -            -            -            hurry        hurry        -                -       begin
reopen             -            reopen       reopen       reopen       -            reopen           -       -
consumer_behind    -            hold         hold         hold         hold         hold             -       -
consumer_ready     -            unhold       unhold       unhold       unhold       unhold           -       -
first_byte         -            await_open   -            await_open   -            await_open       -       -
opened             -            opened       -            opened       -            -                -       -
first_byte_missed  -            check_plain  lost         check_plain  -            -                -       -
attempt_failed     -            failed       lost         failed       -            -                -       -
lost               -            failed       lost         failed       -            -                -       -
goodbye            -            failed       goodbye      failed       -            -                -       -
plain_answered     -            buffered     -            buffered     -            -                -       -
plain_failed       -            failed       -            failed       -            -                -       -
stopped            -            stopped      stopped      stopped      -            stopped          -       -
unauthorized       -            renew        lost         renew        -            renew            -       -
misconfigured      -            give_up      lost         give_up      -            give_up          -       -
spinning           -            spin         lost         spin         -            spin             -       -
reset              -            failed       reset        failed       -            reset            -       -
token_ready        -            carry_on     -            carry_on     -            carry_on         -       -
token_missing      -            give_up      -            give_up      -            give_up          -       -
token_failed       -            token_failed -            token_failed -            token_failed     -       -
polled             -            -            -            -            -            polled           -       -
poll_failed        -            -            -            -            -            poll_failed      -       -
probe_opened       -            -            -            -            -            adopt            -       -
probe_failed       -            -            -            -            -            probe_failed     -       -
retry_due          -            -            -            retry        retry        -                -       -
healthy_due        -            -            healthy      -            -            -                -       -
patience_due       -            -            -            lose_patience -           -                -       -
opening_due        -            never_opened -            never_opened -            never_opened     -       -
poll_due           -            -            -            -            -            poll             -       -
probe_due          -            -            -            -            -            probe            -       -
unattended_due     -            -            -            -            -            -                -       begin
woke               -            start_over   start_over   start_over   start_over   start_over       -       -
`;

/** Who sends a signal. Those that several can send name their source themselves. */
const REPORTS = new Map([
  [Signal.OPENED, Activity.STREAM],
  [Signal.FIRST_BYTE_MISSED, Activity.STREAM],
  [Signal.ATTEMPT_FAILED, Activity.STREAM],
  [Signal.LOST, Activity.STREAM],
  [Signal.GOODBYE, Activity.STREAM],
  [Signal.PLAIN_ANSWERED, Activity.PLAIN],
  [Signal.PLAIN_FAILED, Activity.PLAIN],
  [Signal.TOKEN_READY, Activity.TOKEN],
  [Signal.TOKEN_MISSING, Activity.TOKEN],
  [Signal.TOKEN_FAILED, Activity.TOKEN],
  [Signal.POLLED, Activity.POLL],
  [Signal.POLL_FAILED, Activity.POLL],
  [Signal.PROBE_OPENED, Activity.PROBE],
  [Signal.PROBE_FAILED, Activity.PROBE],
  [Signal.RETRY_DUE, Activity.RETRY_TIMER],
  [Signal.HEALTHY_DUE, Activity.HEALTHY_TIMER],
  [Signal.PATIENCE_DUE, Activity.PATIENCE_TIMER],
  [Signal.OPENING_DUE, Activity.OPENING_TIMER],
  [Signal.POLL_DUE, Activity.POLL_TIMER],
  [Signal.PROBE_DUE, Activity.PROBE_TIMER],
  [Signal.UNATTENDED_DUE, Activity.UNATTENDED_TIMER],
]);

const ANY_REQUEST = new Set([
  Signal.FIRST_BYTE, Signal.STOPPED, Signal.UNAUTHORIZED, Signal.MISCONFIGURED, Signal.SPINNING, Signal.RESET,
]);

/** Reports after which the activity is still there. */
const GO_ON = new Set([Signal.FIRST_BYTE, Signal.OPENED, Signal.PROBE_OPENED]);

/** State to signal to the name of the rule. */
export const TABLE = readGrid(GRID);

function readGrid(grid) {
  const [states, ...rows] = grid.trim().split('\n').map((line) => line.trim().split(/\s+/));
  const table = Object.fromEntries(states.map((state) => [state, {}]));
  for (const [signal, ...rules] of rows) {
    states.forEach((state, column) => {
      table[state][signal] = rules[column] === '-' ? 'ignore' : rules[column];
    });
  }
  return table;
}

/**
 * The next machine, and the effects in the order in which they are to be done: `[machine, effects]`.
 *
 * happening: `{signal, nowS, source?, delayS?, reason?}`. An effect: `{do: 'start'|'stop'|'adopt'|'report',
 * activity, delayS, reason?}`. Neither argument is changed.
 */
export function step(machine, happening, { policy = POLICY, rng = Math.random } = {}) {
  const full = { source: null, delayS: null, reason: '', ...happening };
  const source = ANY_REQUEST.has(full.signal) ? full.source : REPORTS.get(full.signal) ?? null;
  if (source !== null && !machine.active.has(source)) return [machine, []];
  const draft = new Draft(machine, full, { policy, rng });
  if (source !== null && !GO_ON.has(full.signal)) {
    draft.machine.active.delete(source);
    draft.ended(source);
  }
  RULES[TABLE[machine.state][full.signal]](draft);
  return [draft.machine, draft.effects];
}
