/** Watches a connection for signs of life, by the terms of its greeting (protocol.md section 9). */

import { startTimer, type Timer } from './timer.js';

/**
 * Browsers can't send Ping frames: after `intervalMs` of silence the command `ping` is sent, and after `timeoutMs` more
 * without any message the connection is dead. Timers are late where a page is in the background, frozen or asleep: then
 * messages may wait that were not handed out yet, so a verdict is passed only by a timer that came about in time.
 */
export class Vigil {
  readonly #intervalMs: number;
  readonly #timeoutMs: number;
  readonly #probe: () => void;
  readonly #dead: (silentMs: number) => void;
  #heardMs = Date.now();
  /** Since it was last asked. */
  #heard = false;
  #askedMs: number | null = null;
  #timer: Timer | undefined;

  /** `probe` is to provoke a message from the server. */
  constructor(intervalMs: number, timeoutMs: number, probe: () => void, dead: (silentMs: number) => void) {
    this.#intervalMs = Math.max(1, intervalMs);
    this.#timeoutMs = Math.max(1, timeoutMs);
    this.#probe = probe;
    this.#dead = dead;
    this.#wait(this.#intervalMs, () => this.#look());
  }

  /** Something came. */
  heard(): void {
    this.#heardMs = Date.now();
    this.#heard = true;
  }

  /** Look at once: there is reason to doubt. */
  doubt(): void {
    if (this.#askedMs === null) this.#ask();
  }

  stop(): void {
    clearTimeout(this.#timer);
  }

  #look(): void {
    const silentMs = Date.now() - this.#heardMs;
    // The clock may have been set back: then it says nothing of the silence.
    if (silentMs < 0 || silentMs >= this.#intervalMs) this.#ask();
    else this.#wait(this.#intervalMs - silentMs, () => this.#look());
  }

  #ask(): void {
    const askedMs = Date.now();
    this.#askedMs = askedMs;
    this.#heardMs = Math.min(this.#heardMs, askedMs);
    this.#heard = false;
    this.#wait(this.#timeoutMs, () => this.#judge(askedMs));
    this.#probe();
  }

  #judge(askedMs: number): void {
    this.#askedMs = null;
    const nowMs = Date.now();
    const lateMs = nowMs - askedMs - this.#timeoutMs;
    if (this.#heard) this.#look();
    else if (Math.abs(lateMs) > this.#timeoutMs / 2 + 500) this.#ask();
    else this.#dead(nowMs - this.#heardMs);
  }

  #wait(ms: number, then: () => void): void {
    clearTimeout(this.#timer);
    this.#timer = startTimer(then, ms);
  }
}
