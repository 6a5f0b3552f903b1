/** A topic's events as an async iterator. */

import { Deferred } from './deferred.js';
import type { EventEnvelope } from './envelope.js';
import type { GapError, LogPosition } from './errors.js';
import { Feed } from './feed.js';
import type { Place } from './follower.js';
import { checkBound } from './options.js';
import type { Subscribed } from './protocol.js';
import type { Topics } from './topics.js';

export interface EventsOptions {
  /** Start after this event of a durable topic; without it, with what comes next. */
  since?: number | undefined;
  /** The log that `since` counts in. */
  epoch?: string | undefined;
  /** So many events wait for their consumer, at most; 10,000. */
  bufferEvents?: number | undefined;
  /** And so many characters of JSON; 4 Mi. */
  bufferBytes?: number | undefined;
  /** Ends the iterator, as `return()` does. */
  signal?: AbortSignal | undefined;
}

const BUFFER_EVENTS = 10_000;
const BUFFER_BYTES = 4 * 1024 * 1024;

type Result<Topic extends string> = IteratorResult<EventEnvelope<Topic>, undefined>;

/**
 * The events of one topic, in order; made by `NeuroGraphWebSocket.events`, and subscribed from then on.
 *
 * On a durable topic each event comes once and in order, over breaks of the connection and however slowly it is read:
 * what does not fit into the buffer is fetched again from the server's log. On an ephemeral topic what was published
 * during a break is missed.
 *
 * It never ends by itself. It rejects, after the events that came before: with GapError where the log no longer holds the
 * next one, ConnectionLost when the client has ended, SlowSubscriber on an ephemeral topic, CommandError where the server
 * did not want it. `return()`, which `for await` calls at its end, unsubscribes.
 */
export class Events<Topic extends string = string> implements AsyncIterableIterator<EventEnvelope<Topic>, undefined> {
  readonly topic: Topic;
  readonly #topics: Topics;
  readonly #feed: Feed;
  readonly #waiters: Deferred<Result<Topic>>[] = [];
  readonly #opened = new Deferred<Subscribed>();
  #closed = false;
  #forgetSignal: () => void = () => {};

  /** @internal */
  constructor(topics: Topics, topic: Topic, start: Place | null, options: EventsOptions) {
    this.topic = topic;
    this.#topics = topics;
    const limitEvents = Math.max(1, checkBound('bufferEvents', options.bufferEvents ?? BUFFER_EVENTS));
    const limitBytes = checkBound('bufferBytes', options.bufferBytes ?? BUFFER_BYTES);
    const watch = { wake: () => this.#wake(), gap: (error: GapError) => topics.gap(error) };
    this.#feed = new Feed(topic, start, limitEvents, limitBytes, watch);
    const { signal } = options;
    if (signal?.aborted) {
      void this.return();
      return;
    }
    if (signal != null) {
      const abort = () => void this.return();
      signal.addEventListener('abort', abort, { once: true });
      this.#forgetSignal = () => signal.removeEventListener('abort', abort);
    }
    topics.attach(this.#feed);
  }

  /** The server's first answer; its `seq` is where this subscription starts, `replay` how many events of the past come. */
  opened(): Promise<Subscribed> {
    return this.#opened.promise;
  }

  /** The last event that was handed out, or what the subscription started after; null before, and on ephemeral topics. */
  get position(): LogPosition | null {
    const { epoch, seq } = this.#feed.taken ?? {};
    return epoch != null && seq !== undefined ? { epoch, seq } : null;
  }

  next(): Promise<Result<Topic>> {
    const waiter = new Deferred<Result<Topic>>();
    this.#waiters.push(waiter);
    this.#serve();
    return waiter.promise;
  }

  /** Unsubscribe, and forget what waits. */
  return(): Promise<Result<Topic>> {
    if (!this.#closed) {
      this.#feed.clear();
      this.#close();
      this.#opened.reject(new DOMException('the iterator was closed', 'AbortError'));
      this.#serve();
    }
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  #wake(): void {
    const { opening, ended } = this.#feed;
    if (opening !== null) this.#opened.resolve(opening);
    else if (ended !== null) this.#opened.reject(ended);
    this.#serve();
  }

  #close(): void {
    this.#closed = true;
    this.#forgetSignal();
    this.#topics.detach(this.#feed);
  }

  #serve(): void {
    while (this.#waiters.length > 0) {
      let event: EventEnvelope<Topic> | null = null;
      try {
        event = this.#closed ? null : (this.#feed.shift() as EventEnvelope<Topic> | null);
      } catch (error) {
        // Told once: afterwards it is over, as iterators have it.
        this.#close();
        this.#waiters.shift()?.reject(error);
        continue;
      }
      if (event === null && !this.#closed) return;
      this.#waiters.shift()?.resolve(event === null ? { done: true, value: undefined } : { done: false, value: event });
    }
  }
}
