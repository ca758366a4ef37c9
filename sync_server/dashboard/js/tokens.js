/** The access token: a fixed text, or a function (sync or async) that fetches one. */

export class Tokens {
  #provider;
  /** What requests carry; null without one: the cookie, if any, says who we are. */
  current = null;

  constructor(provider = null) {
    this.replace(provider);
  }

  /** Another token, or another way to get one. */
  replace(provider) {
    this.#provider = provider;
    this.current = typeof provider === 'string' ? provider : null;
  }

  /** Whether there is a token, or somebody to ask for one. */
  get isUsed() {
    return this.#provider !== null && this.#provider !== undefined;
  }

  /** Whether there is a function that has not been asked yet. */
  get needsFetching() {
    return this.current === null && typeof this.#provider === 'function';
  }

  /** The current one is no longer good: the next request fetches another one first, where there is a function. */
  expire() {
    if (typeof this.#provider === 'function') this.current = null;
  }

  /** Ask the provider; false if there is none, or it has nothing. What it throws is passed on. */
  async renew() {
    if (typeof this.#provider !== 'function') return false;
    const token = await this.#provider();
    if (typeof token !== 'string' || !token) return false;
    this.current = token;
    return true;
  }
}
