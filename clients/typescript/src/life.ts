/** What is told of a client, and when: in order, once all is settled inside, for who hears it may call anything. No I/O. */

import type { Envelope } from './envelope.js';
import type { GapError, LogPosition, NgosError } from './errors.js';
import type { ConnectionEstablished } from './protocol.js';
import { Queue } from './queue.js';

export type State = 'idle' | 'connecting' | 'connected' | 'reconnecting' | 'ended';

/** What `onEvent` tells of the connection's life. */
export interface LifeEvents {
  state: State;
  connected: ConnectionEstablished;
  /** A connection was lost (or a try to come back failed, 1006); the next try is in `nextMs`; null: none comes. */
  disconnected: { code: number; reason: string; nextMs: number | null };
  /** `error` is another one: a connection was lost or a try failed, the first ones too. */
  failed: NgosError;
  /** After a break a durable topic goes on without a hole, and so many events come again. */
  resumed: { topic: string; replay: number };
  /** Events after `seq` are lost; handlers go on live from `now`, iterators end with GapError. */
  gap: { topic: string; epoch: string | null; seq: number; now: LogPosition | null };
}

/** Who hears of a client. */
export interface Watch {
  /** There may be something to send. */
  output(): void;
  /** One of LifeEvents. */
  life<Name extends keyof LifeEvents>(name: Name, event: LifeEvents[Name]): void;
  /** A message for the handlers: each reply, each error, each event once. */
  message(message: Envelope): void;
}

/** Keeps what there is to tell until all is settled. */
export class Life {
  readonly #watch: Watch;
  readonly #calls = new Queue<() => void>();

  constructor(watch: Watch) {
    this.#watch = watch;
  }

  tell<Name extends keyof LifeEvents>(name: Name, event: LifeEvents[Name]): void {
    this.call(() => this.#watch.life(name, event));
  }

  gap({ topic, epoch, seq, now }: GapError): void {
    this.tell('gap', { topic, epoch, seq, now });
  }

  call(call: () => void): void {
    this.#calls.push(call);
  }

  /** Tell of a message, after what is to be told already; then all is settled. */
  message(message: Envelope): void {
    // A closure less for all but the rarest of messages.
    if (this.#calls.length > 0) {
      this.call(() => this.#watch.message(message));
      this.settled();
    } else {
      this.#watch.output();
      this.#watch.message(message);
    }
  }

  /** All is settled: send, and tell. */
  settled(): void {
    this.#watch.output();
    for (let call = this.#calls.shift(); call !== undefined; call = this.#calls.shift()) call();
  }
}
