/**
 * What can go wrong with a request, by what the caller should do. `status` is null where there was no answer;
 * `retryAfterS` what the server asked to wait; `problem` its problem document (RFC 9457), or null.
 *
 *     SyncError
 *       RequestFailed
 *         NetworkFailed   no answer, or not in time: try again
 *         ServerBusy      408 425 429 5xx: try again
 *         BreakerOpen     not sent at all: try again
 *         NotOurAnswer    not what our server says: somebody in between
 *         Unauthorized    401 403: another token
 *         CursorLost      410 of the poll: resync
 *         StopAsked       204: do not come back
 *         Refused         other 4xx: the request itself is wrong
 */

export class SyncError extends Error {
  constructor(message) {
    super(message);
    this.name = new.target.name;
  }
}

export class RequestFailed extends SyncError {
  constructor(message, { status = null, retryAfterS = null, problem = null } = {}) {
    super(message);
    this.status = status;
    this.retryAfterS = retryAfterS;
    this.problem = problem;
  }
}

export class NetworkFailed extends RequestFailed {}
export class ServerBusy extends RequestFailed {}
export class BreakerOpen extends RequestFailed {}
export class NotOurAnswer extends RequestFailed {}
export class Unauthorized extends RequestFailed {}
export class CursorLost extends RequestFailed {}
export class StopAsked extends RequestFailed {}
export class Refused extends RequestFailed {}

/** A configuration that cannot be used; thrown by constructors. */
export class ConfigurationError extends SyncError {}
