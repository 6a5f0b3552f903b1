/** How long to wait before connecting again (protocol.md section 8): full jitter, so that a crowd comes back spread out. */

const FIRST_MS = 500;
const LONGEST_MS = 20_000;

/** `random(0, min(20 s, 0.5 s × 2^n))`; n counts the waits since the last `reset`, the first one has n = 0. */
export class Backoff {
  readonly #random: () => number;
  #longestMs = FIRST_MS;

  /** `random` returns a number from 0 to 1. */
  constructor(random: () => number) {
    this.#random = random;
  }

  /** The milliseconds to wait, on top of what the server asked for. */
  nextMs(): number {
    const longestMs = this.#longestMs;
    this.#longestMs = Math.min(LONGEST_MS, longestMs * 2);
    return this.#random() * longestMs;
  }

  /** A connection proved good: the next wait is a short one again. */
  reset(): void {
    this.#longestMs = FIRST_MS;
  }
}
