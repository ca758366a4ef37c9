/** The action queue's records in IndexedDB, shared by all tabs; in memory where there is no IndexedDB. */

const STORE = 'actions';

/** Records are plain objects with a unique `key`; `n`, their order, is given by `add`. */
export class ActionDatabase {
  #indexedDB;
  #name;
  #opening = null;
  #memory = null;
  #lastN = Date.now(); // in memory: behind whatever came from disk
  /** Why nothing survives a reload; '' while it does. */
  problem = '';

  constructor({ indexedDB, name }) {
    this.#indexedDB = indexedDB ?? null;
    this.#name = name;
  }

  /** All records, in order. */
  all() {
    return this.#do('readonly', (store) => store.getAll(), (records) => [...records.values()]);
  }

  /** Keep a new record, durably; gives its `n`. */
  add(record) {
    return this.#do('readwrite', (store) => store.add(record), (records) => {
      this.#lastN += 1;
      records.set(this.#lastN, { ...record, n: this.#lastN });
      return this.#lastN;
    });
  }

  put(record) {
    return this.#do('readwrite', (store) => store.put(record), (records) => records.set(record.n, record));
  }

  delete(n) {
    return this.#do('readwrite', (store) => store.delete(n), (records) => records.delete(n));
  }

  async close() {
    const opening = this.#opening;
    this.#opening = null;
    (await opening)?.close();
  }

  async #do(mode, work, otherwise) {
    if (this.#memory === null) {
      try {
        return await this.#transact(mode, work);
      } catch (error) {
        this.#giveUp(error);
      }
    }
    return otherwise(this.#memory);
  }

  async #transact(mode, work) {
    const database = await this.#open();
    return new Promise((resolve, reject) => {
      // Strict: what the cashier was shown as queued is on disk.
      const transaction = database.transaction(STORE, mode, { durability: 'strict' });
      const request = work(transaction.objectStore(STORE));
      transaction.oncomplete = () => resolve(request.result);
      transaction.onabort = () => reject(transaction.error ?? request.error);
    });
  }

  #open() {
    this.#opening ??= new Promise((resolve, reject) => {
      if (this.#indexedDB === null) throw new DOMException('there is no IndexedDB', 'NotFoundError');
      const request = this.#indexedDB.open(this.#name, 1);
      request.onupgradeneeded = () => {
        const store = request.result.createObjectStore(STORE, { keyPath: 'n', autoIncrement: true });
        store.createIndex('key', 'key', { unique: true });
      };
      request.onsuccess = () => {
        const database = request.result;
        // A newer version of this page wants to change the schema, or the browser closes it: open it anew.
        database.onversionchange = () => database.close();
        database.onclose = () => {
          this.#opening = null;
        };
        resolve(database);
      };
      request.onerror = () => reject(request.error);
    });
    return this.#opening;
  }

  #giveUp(error) {
    if (error?.name === 'ConstraintError') throw error;
    this.problem = `IndexedDB cannot be used: ${error?.message ?? error}`;
    this.#memory = new Map();
  }
}
