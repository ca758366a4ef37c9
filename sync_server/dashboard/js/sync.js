/** The client for browsers: one live connection for all tabs, and what comes of it. See README.md. */

export { SyncClient } from './client.js';
export { COMMANDS } from './commands.js';
export {
  BreakerOpen, ConfigurationError, CursorLost, NetworkFailed, NotOurAnswer, Refused, RequestFailed, ServerBusy,
  StopAsked, SyncError, Unauthorized,
} from './errors.js';
export { ENTITY_KEYS, Filter } from './filter.js';
export { dispensed, NEXT_FUEL_STATUSES } from './fueling.js';
export { KINDS } from './kinds.js';
export { Replica } from './replica.js';
export { CONTROL_TYPES, EVENT_TYPES } from './source.js';
export { POLICY, State } from './states.js';
export { FORMAT_VERSION } from './store.js';
