/** How long to wait before connecting again (protocol.md section 8): full jitter, so that a crowd comes back spread out. */

const FIRST_MS = 500;
const LONGEST_MS = 20_000;
/** Of what a server asks a client to wait, no more than this is obeyed: a slip there must not end clients here. */
const LONGEST_WISH_MS = 300_000;

/** When to connect again: after `waitMs`, and for no reason before `atLeastMs`, which the server asked for. */
export interface Next {
  readonly waitMs: number;
  readonly atLeastMs: number;
}

/** `random(0, min(20 s, 0.5 s × 2^n))`; n counts the waits since the last `reset`, the first one has n = 0. */
export class Backoff {
  readonly #random: () => number;
  #longestMs = FIRST_MS;
  #wishMs = 0;

  /** `random` returns a number from 0 to 1. */
  constructor(random: () => number) {
    this.#random = random;
  }

  /** The next wait, on top of what the server asked for. */
  next(): Next {
    const longestMs = this.#longestMs;
    const atLeastMs = this.#wishMs;
    this.#longestMs = Math.min(LONGEST_MS, longestMs * 2);
    this.#wishMs = 0;
    return { waitMs: atLeastMs + this.#random() * longestMs, atLeastMs };
  }

  /** The server asks for a wait of `ms`, if it is a number. */
  wish(ms: unknown): void {
    if (typeof ms === 'number') this.#wishMs = Math.max(this.#wishMs, Math.min(ms, LONGEST_WISH_MS));
  }

  /** There is a connection: what was asked for before does not count for the end of this one. */
  forgetWish(): void {
    this.#wishMs = 0;
  }

  /** A connection proved good: the next wait is a short one again. */
  reset(): void {
    this.#longestMs = FIRST_MS;
  }
}
