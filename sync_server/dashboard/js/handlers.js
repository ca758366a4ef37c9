/** Who listens to which events, and the ways to listen that the hooks share. */

const EVERYTHING = '*';
const STAGE_TYPES = new Set(['stage_change', 'order_stage_change']);
const PAIR_SEQS = 16; // a command makes at most that many events, and both of a pair are among them

/** Handlers by event type; `*` stands for all types but control events. */
export class Handlers {
  #byType = new Map();

  /** Gives the function that ends it. */
  on(type, handler) {
    if (typeof handler !== 'function') throw new TypeError('a handler is a function');
    if (!this.#byType.has(type)) this.#byType.set(type, new Set());
    const handlers = this.#byType.get(type);
    const entry = { handler };
    handlers.add(entry);
    return () => handlers.delete(entry);
  }

  /** The types that are asked for by name. */
  get types() {
    return [...this.#byType.keys()].filter((type) => type !== EVERYTHING && this.#byType.get(type).size);
  }

  /** Call those that asked for `type` by name; with `all` those for everything too. `run(work)` catches. */
  call(type, event, { all = true, run }) {
    for (const { handler } of [...(this.#byType.get(type) ?? [])]) run(() => handler(event));
    if (!all) return;
    for (const { handler } of [...(this.#byType.get(EVERYTHING) ?? [])]) run(() => handler(event));
  }
}

/**
 * `handler(event, previousStage, newStage)` for each change of stage; give the result every event. One command makes
 * two events of the same change, a small one for boards and one with the order: it is called once.
 */
export function stageChanges(handler) {
  const last = new Map(); // by order
  return (event) => {
    const { previousStage, newStage } = event.data;
    if (!STAGE_TYPES.has(event.eventType) || newStage === undefined) return undefined;
    const change = { type: event.eventType, seq: seqOf(event.id), text: `${previousStage} ${newStage}` };
    const before = last.get(event.orderID);
    last.set(event.orderID, change);
    const isOther = before !== undefined && before.type !== change.type && before.text === change.text;
    if (isOther && change.seq - before.seq <= PAIR_SEQS) {
      last.delete(event.orderID);
      return undefined;
    }
    return handler(event, previousStage, newStage);
  };
}

function seqOf(id) {
  const seq = Number(String(id).split('.')[1]);
  return Number.isNaN(seq) ? Infinity : seq;
}

/**
 * A refresh that follows bursts of events: called `debounceMs` after the last of them, or `atMostMs` after the first,
 * never twice at a time. `failed(error)` gets what it throws.
 */
export class Debounced {
  #refresh;
  #debounceMs;
  #atMostMs;
  #failed;
  #timer = null;
  #firstMs = null;
  #isRunning = false;
  #again = false;

  constructor(refresh, { debounceMs = 300, atMostMs = 2000, failed }) {
    this.#refresh = refresh;
    this.#debounceMs = debounceMs;
    this.#atMostMs = atMostMs;
    this.#failed = failed;
  }

  /** Something happened. */
  trigger() {
    const nowMs = performance.now();
    this.#firstMs ??= nowMs;
    clearTimeout(this.#timer);
    const dueMs = Math.min(nowMs + this.#debounceMs, this.#firstMs + this.#atMostMs);
    this.#timer = setTimeout(() => this.#run(), Math.max(dueMs - nowMs, 0));
  }

  async #run() {
    this.#timer = null;
    this.#firstMs = null;
    if (this.#isRunning) {
      this.#again = true;
      return;
    }
    this.#isRunning = true;
    do {
      this.#again = false;
      try {
        await this.#refresh();
      } catch (error) {
        this.#failed(error);
      }
    } while (this.#again);
    this.#isRunning = false;
  }

  stop() {
    clearTimeout(this.#timer);
    this.#timer = null;
    this.#firstMs = null;
    this.#again = false;
  }
}
