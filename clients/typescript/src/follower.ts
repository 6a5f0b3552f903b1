/** One who follows a topic: where it is in the log, and whether what comes next is its due. No I/O. */

import type { Envelope } from './envelope.js';
import type { LogPosition, NgosError } from './errors.js';
import type { Subscribed } from './protocol.js';

/** A place in a durable topic's log; `epoch` is null only where a caller gave a number without one. */
export interface Place {
  readonly epoch: string | null;
  readonly seq: number;
}

const NOWHERE = -1;

/** The base of iterators' feeds and of the handlers' dispatch. Takes each event once and in order. */
export abstract class Follower {
  /** The server's agreement, as this follower sees it; null before. */
  opening: Subscribed | null = null;
  /** Whether what the connection brings next is, or comes before, what is due here. */
  following = false;
  /** How many holes there were. */
  gaps = 0;
  // Two fields instead of one object: they change with every event.
  #epoch: string | null = null;
  #seq = NOWHERE;

  /** Whether it is worth asking the server for more. */
  abstract readonly hasRoom: boolean;

  /** The position of the last event that was taken in here, or to begin after; null: begins with what comes next. */
  get place(): Place | null {
    return this.#seq === NOWHERE ? null : { epoch: this.#epoch, seq: this.#seq };
  }

  set place(place: Place | null) {
    this.#epoch = place?.epoch ?? null;
    this.#seq = place?.seq ?? NOWHERE;
  }

  /** From here on, take events after `place`, or all where that is null. */
  follow(place: Place | null, reply: Subscribed): void {
    this.following = true;
    this.place = place;
    this.opened(reply);
  }

  /** Take an event that comes after the last one; false where it is a repeat, not followed, or does not fit. */
  offer(event: Envelope, sizeBytes: number, durable: boolean): boolean {
    if (!this.following) return false;
    const seq = durable ? (event.seq as number) : NOWHERE;
    const epoch = durable ? (event.epoch as string) : null;
    if (durable && this.#seq !== NOWHERE) {
      if (epoch === this.#epoch && seq <= this.#seq) return false;
      if (epoch !== this.#epoch || seq > this.#seq + 1) {
        this.lose({ epoch: epoch as string, seq }, null);
        if (!this.following) return false;
      }
    }
    if (!this.admits(sizeBytes)) {
      this.following = false;
      if (!durable) this.overflow();
      return false;
    }
    this.#epoch = epoch;
    this.#seq = seq;
    this.take(event, sizeBytes);
    return true;
  }

  /** Take what comes, whatever it is, but nothing twice. */
  overhear(event: Envelope, durable: boolean): boolean {
    if (!durable) return true;
    const seq = event.seq as number;
    if (event.epoch === this.#epoch && seq <= this.#seq) return false;
    this.#epoch = event.epoch as string;
    this.#seq = seq;
    return true;
  }

  /** What comes after `place` is lost; `now` is where the server is, and `reply` what it agreed to, if this came of it. */
  abstract lose(now: LogPosition | null, reply: Subscribed | null): void;
  /** No more events come to here. */
  abstract end(error: NgosError): void;
  /** The server agreed. */
  protected abstract opened(reply: Subscribed): void;
  protected abstract admits(sizeBytes: number): boolean;
  protected abstract take(event: Envelope, sizeBytes: number): void;
  /** An event of an ephemeral topic did not fit. */
  protected abstract overflow(): void;
}
