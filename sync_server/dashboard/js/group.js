/**
 * This tab among the others: who leads, what is said, and what this tab knows of the connection.
 *
 *     hello   a tab says what it wants          welcome  the leader's promise, from which cursor on it will come
 *     leading another tab has taken the lead    events   what came, from where to where
 *     bye     a tab leaves                      resync   what everybody has leads nowhere
 *     signal  a tab wishes to try now           status   how the connection stands
 *     control heartbeats and the like           shared   anything the tabs' action queues say to each other
 *
 * A visible tab takes the lead from a hidden one whose stream is down, since a hidden page's timers run once a minute,
 * and from one that has fallen silent.
 */

import { NO_SUMMARY } from './health.js';
import { Leader } from './leader.js';
import { Signal, State } from './states.js';

const SILENT_S = 20; // the leader says something every 5 s
const CHECK_LEADER_MS = 5000;
const STEAL_WITHIN_MS = 300; // visible tabs that notice together do not all take it

export class Group {
  #tab;
  #tabs = null;
  #makeTabs;
  #member;
  #leader = null;
  #leaderDeps;
  #handlers;
  #clock;
  #known = new Map(); // tab id to what it wants
  #leading = null; // id of the tab that leads, as far as we have heard
  #summary = NO_SUMMARY;
  #summaryAtS = 0;
  #heardAtS = 0;
  #isHelloDue = false;
  #watchdog = null;
  #isJoined = false;
  #isHidden;

  /**
   * makeTabs(handlers, {isAlone}): Tabs or SingleTab. leaderDeps(): what a Leader needs beside the tabs. handlers:
   * `status()`: the summary has changed, `transition(change, all)`, `control(type, data)`, `shared(message)`,
   * `lead(isLeading)`.
   */
  constructor({ tab, makeTabs, member, clock, isHidden, leaderDeps, handlers }) {
    this.#isHidden = isHidden;
    this.#tab = tab;
    this.#makeTabs = makeTabs;
    this.#member = member;
    this.#clock = clock;
    this.#leaderDeps = leaderDeps;
    this.#handlers = handlers;
  }

  get isStarted() {
    return this.#tabs !== null;
  }

  get isLeader() {
    return this.#leader !== null;
  }

  /** 'leader', 'follower', 'single' (nobody to share with), or null before the start. */
  get role() {
    if (this.#tabs === null) return null;
    if (!this.#tabs.isShared) return 'single';
    return this.isLeader ? 'leader' : 'follower';
  }

  /** The connection as last heard of, and how long ago that was: `{summary, ageS}`. */
  get connection() {
    if (this.#leader !== null) return { summary: this.#leader.summary(), ageS: 0 };
    return { summary: this.#summary, ageS: this.#summary === NO_SUMMARY ? 0 : this.#clock() - this.#summaryAtS };
  }

  get state() {
    return this.#leader?.machine.state ?? this.#summary.state;
  }

  /** How far the server's wall clock is ahead of this one. */
  get serverOffsetMs() {
    return this.#leader?.serverOffsetMs ?? this.#summary.serverOffsetMs;
  }

  get errors() {
    return this.#leader?.errors ?? [];
  }

  start() {
    if (this.#tabs !== null) return;
    this.#heardAtS = this.#clock();
    this.#setSummary({ ...NO_SUMMARY, state: State.CONNECTING });
    this.#join({ isAlone: false });
  }

  #join({ isAlone }) {
    const handlers = {
      joined: () => {
        this.#isJoined = true;
        this.#hello();
      },
      lead: () => this.#lead(),
      follow: () => this.#follow(),
      message: (message) => this.#hear(message),
      alone: () => {
        clearInterval(this.#watchdog);
        this.#tabs.close();
        this.#join({ isAlone: true });
      },
    };
    this.#tabs = this.#makeTabs(handlers, { isAlone });
    if (this.#tabs.isShared) this.#watchdog = setInterval(() => this.#checkLeader(), CHECK_LEADER_MS);
    this.#tabs.start();
  }

  /** Leave. Another tab, if there is one, leads from here on. */
  stop() {
    if (this.#tabs === null) return;
    clearInterval(this.#watchdog);
    this.#tabs.send({ type: 'bye', tab: this.#tab });
    const leader = this.#leader;
    leader?.stop();
    this.#leader = null;
    this.#isJoined = false;
    if (leader !== null) this.#handlers.lead(false);
    this.#tabs.close();
    this.#tabs = null;
    this.#known.clear();
    this.#leading = null;
    this.#member.close();
    const { metrics, storage } = this.#summary;
    this.#setSummary({ ...NO_SUMMARY, metrics, storage, state: State.CLOSED, reason: 'close() was called' });
  }

  /** The wishes of this tab have changed. */
  wanting() {
    if (this.#isHelloDue || this.#tabs === null) return;
    this.#isHelloDue = true;
    queueMicrotask(() => {
      this.#isHelloDue = false;
      this.#hello();
    });
  }

  /** Ask whoever leads to try now. */
  hurry(signal = Signal.CONNECT) {
    if (this.#leader !== null) this.#leader.signal(signal);
    else this.#tabs?.send({ type: 'signal', signal });
  }

  /** The network has changed, or the page is looked at again. */
  look({ woke = false } = {}) {
    if (this.#leader === null) this.#checkLeader();
    else if (woke) this.#leader.signal(Signal.WOKE, { reason: 'the network is back' });
    else this.#leader.look();
  }

  /** The browser says that there is no network: see whether that concerns us. */
  suspect() {
    this.#leader?.suspect();
  }

  /** The page may be gone without a word from here on. */
  save() {
    this.#leader?.save();
  }

  /** Say something to the other tabs' queues. */
  share(message) {
    this.#tabs?.send({ type: 'shared', message });
  }

  #hello() {
    if (!this.#isJoined || this.#tabs === null) return;
    const wishes = this.#member.wishes();
    if (this.#leader !== null) this.#leader.hello(this.#tab, wishes);
    else this.#tabs.send({ type: 'hello', tab: this.#tab, wishes });
  }

  // -- the lead

  #lead() {
    const { access } = this.#summary;
    this.#leader = new Leader({
      ...this.#leaderDeps(),
      tab: this.#tab, tabs: this.#tabs, member: this.#member, known: this.#known, access,
      handlers: {
        summary: (summary) => this.#setSummary(summary),
        transition: (change) => this.#handlers.transition(change, this.#leader?.transitions),
        control: (type, data) => this.#handlers.control(type, data),
      },
    });
    this.#leading = this.#tab;
    this.#leader.start();
    this.#handlers.lead(true);
  }

  /** Another tab has taken the lead. */
  #follow() {
    this.#leader?.stop({ isTaken: true });
    this.#leader = null;
    this.#member.doubt();
    this.#heardAtS = this.#clock();
    this.#handlers.lead(false);
    this.#hello();
  }

  #hear(message) {
    if (this.#tabs === null) return;
    const { type } = message;
    if (type === 'hello') {
      this.#known.set(message.tab, message.wishes);
      this.#leader?.hello(message.tab, message.wishes);
    } else if (type === 'bye') {
      this.#known.delete(message.tab);
      this.#leader?.bye(message.tab);
    } else if (type === 'signal') {
      this.#leader?.signal(message.signal);
    } else if (type === 'shared') {
      this.#handlers.shared(message.message);
    } else if (this.#leader === null) {
      this.#hearLeader(message);
    }
  }

  #hearLeader(message) {
    const { type } = message;
    this.#heardAtS = this.#clock();
    if (type === 'leading') {
      this.#leading = message.tab;
      this.#member.doubt();
      this.#hello();
    } else if (type === 'status') {
      this.#leading = message.tab;
      this.#takeStatus(message);
    } else if (type === 'welcome') {
      if (message.to !== this.#tab) return;
      for (const [id, wishes] of message.known) if (id !== this.#tab) this.#known.set(id, wishes);
      this.#member.welcome(message.serial, message.cursor);
    } else if (type === 'events') {
      this.#member.take(message);
    } else if (type === 'resync') {
      if (this.#member.isPromised) this.#member.resync(message.reason, message.cursor);
    } else if (type === 'control') {
      this.#handlers.control(message.control, message.data);
    }
  }

  #takeStatus({ summary, transitions }) {
    const before = this.#summary.state;
    this.#setSummary(summary);
    const last = transitions.at(-1);
    if (summary.state !== before && last !== undefined) this.#handlers.transition({ ...last, before }, transitions);
    this.#checkLeader();
  }

  #setSummary(summary) {
    this.#summary = summary;
    this.#summaryAtS = this.#clock();
    this.#handlers.status();
  }

  /** Whether this tab had better lead itself. */
  #checkLeader() {
    if (!this.#wouldLeadBetter()) return;
    const whose = this.#leading;
    setTimeout(() => {
      if (whose === this.#leading && this.#wouldLeadBetter()) this.#tabs.steal();
    }, Math.random() * STEAL_WITHIN_MS);
  }

  #wouldLeadBetter() {
    if (this.#tabs === null || !this.#isJoined || this.#leader !== null || this.#isHidden()) return false;
    if (this.#clock() - this.#heardAtS > SILENT_S) return true;
    const { state, isHidden } = this.#summary;
    const isDown = [State.RECONNECTING, State.ERROR, State.CONNECTING, State.POLLING].includes(state);
    return isHidden && isDown && this.#leading !== null;
  }
}
