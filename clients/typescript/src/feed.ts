/** The bounded buffer between a topic and one iterator. No I/O, and it never waits: it holds up nobody else. */

import type { Envelope } from './envelope.js';
import { GapError, type LogPosition, type NgosError, SlowSubscriber } from './errors.js';
import { Follower, type Place } from './follower.js';
import type { Subscribed } from './protocol.js';
import { Queue } from './queue.js';

/** What a feed tells its iterator. */
export interface FeedWatch {
  /** There is something new: an event, the opening, or the end. */
  wake(): void;
  gap(error: GapError): void;
}

/**
 * At most `limitEvents` events of at most `limitBytes`, counted in the UTF-16 units of the messages as they came.
 *
 * On a durable topic it stops to follow when it is full, and has room again when half is taken: what it missed is in the
 * server's log. A hole ends it with GapError. On an ephemeral topic a full feed ends with SlowSubscriber.
 */
export class Feed extends Follower {
  readonly topic: string;
  ended: NgosError | null = null;
  /** The place of the last event that was handed out, or to begin after. */
  taken: Place | null;
  /** Called when a feed that does not follow has room again. */
  onRoom: (() => void) | null = null;
  readonly #limitEvents: number;
  readonly #limitBytes: number;
  readonly #watch: FeedWatch;
  // Two queues instead of one of pairs: this is done with every event.
  readonly #events = new Queue<Envelope>();
  readonly #sizes = new Queue<number>();
  #bytes = 0;

  constructor(topic: string, start: Place | null, limitEvents: number, limitBytes: number, watch: FeedWatch) {
    super();
    this.topic = topic;
    this.place = this.taken = start;
    this.#limitEvents = limitEvents;
    this.#limitBytes = limitBytes;
    this.#watch = watch;
  }

  get waiting(): number {
    return this.#events.length;
  }

  get hasRoom(): boolean {
    return this.waiting <= this.#limitEvents / 2 && this.#bytes <= this.#limitBytes / 2;
  }

  override follow(place: Place | null, reply: Subscribed): void {
    const before = this.place;
    if (before?.seq !== place?.seq || before?.epoch !== place?.epoch) this.taken = place;
    super.follow(place, reply);
  }

  /** The next event, or null: none yet. Throws what ended the feed, when it is empty. */
  shift(): Envelope | null {
    const event = this.#events.shift();
    if (event === undefined) {
      if (this.ended !== null) throw this.ended;
      return null;
    }
    this.#bytes -= this.#sizes.shift() ?? 0;
    if (event.seq != null) this.taken = { epoch: event.epoch ?? null, seq: event.seq };
    if (!this.following && this.ended === null && this.hasRoom) this.onRoom?.();
    return event;
  }

  /** Forget what waits. */
  clear(): void {
    this.#events.clear();
    this.#sizes.clear();
    this.#bytes = 0;
  }

  lose(now: LogPosition | null): void {
    if (this.ended !== null) return;
    const had = this.place;
    const error = new GapError(this.topic, had?.seq ?? 0, had?.epoch ?? null, now);
    this.gaps++;
    this.#watch.gap(error);
    this.end(error);
  }

  end(error: NgosError): void {
    this.following = false;
    if (this.ended !== null) return;
    this.ended = error;
    this.#watch.wake();
  }

  protected opened(reply: Subscribed): void {
    if (this.opening !== null) return;
    this.opening = reply;
    this.#watch.wake();
  }

  protected admits(sizeBytes: number): boolean {
    // One event always fits: else an event over the limit could never be delivered.
    if (this.waiting === 0) return true;
    return this.waiting < this.#limitEvents && this.#bytes + sizeBytes <= this.#limitBytes;
  }

  protected take(event: Envelope, sizeBytes: number): void {
    this.#events.push(event);
    this.#sizes.push(sizeBytes);
    this.#bytes += sizeBytes;
    this.#watch.wake();
  }

  protected overflow(): void {
    this.end(new SlowSubscriber(this.topic));
  }
}
