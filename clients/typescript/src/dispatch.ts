/** What handlers hear of one topic: held by subscribers and hooks, or overheard while only iterators follow. No I/O. */

import type { Envelope } from './envelope.js';
import { GapError, type LogPosition, type NgosError } from './errors.js';
import { Follower } from './follower.js';
import type { Subscribed } from './protocol.js';

/** Hears what a `subscribe` came to. */
export type Opened = (outcome: Subscribed | NgosError) => void;

/**
 * One position for all handlers of a topic, so that each event is dispatched once, however many hold the topic.
 *
 * It buffers nothing: handlers are called as events come. After a hole it goes on live, once the gap is told.
 */
export class Dispatch extends Follower {
  readonly topic: string;
  /** `subscribe` was called, and not `unsubscribe`. */
  subscribed = false;
  /** How many hold it besides. */
  holders = 0;
  /** The last holder has gone: nothing is overheard any more. */
  muted = false;
  /** The server did not want it; to be asked again on the next connection. */
  refused = false;
  readonly #gap: (error: GapError) => void;
  #waiters: Opened[] = [];

  constructor(topic: string, gap: (error: GapError) => void) {
    super();
    this.topic = topic;
    this.#gap = gap;
  }

  get held(): boolean {
    return this.subscribed || this.holders > 0;
  }

  get hasRoom(): boolean {
    return !this.refused;
  }

  /** Hear of the server's agreement: at once where it is in force. */
  whenOpen(opened: Opened): void {
    if (this.following && this.opening !== null) opened(this.opening);
    else this.#waiters.push(opened);
  }

  lose(now: LogPosition | null, reply: Subscribed | null): void {
    const had = this.place;
    this.gaps++;
    this.#gap(new GapError(this.topic, had?.seq ?? 0, had?.epoch ?? null, now));
    // Without a reply it was a hole in the stream: the event that showed it is the next to be dispatched.
    if (reply !== null) this.follow(now, { ...reply, recovered: false, replay: 0 });
  }

  /** It can't be followed: those who wait for it hear why, and no longer follow; holders do, with the next connection. */
  end(error: NgosError): void {
    this.following = false;
    this.refused = true;
    const waiters = this.#waiters;
    this.#waiters = [];
    if (waiters.length > 0) this.subscribed = false;
    for (const opened of waiters) opened(error);
  }

  /** Nobody holds it. */
  release(): void {
    this.following = false;
    this.muted = true;
    this.opening = null;
    this.place = null;
  }

  protected opened(reply: Subscribed): void {
    this.opening = reply;
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const opened of waiters) opened(reply);
  }

  protected admits(): boolean {
    return true;
  }

  protected take(_event: Envelope): void {}

  protected overflow(): void {}
}
