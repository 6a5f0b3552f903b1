/**
 * All that a client follows. Asks the server, by way of `requests`, for what each topic's followers are due, and gives its
 * events to them. What a follower is due is the topic's to say. No I/O.
 */

import { Dispatch, type Opened } from './dispatch.js';
import { check, type Envelope } from './envelope.js';
import type { GapError, NgosError } from './errors.js';
import type { Feed } from './feed.js';
import type { Place } from './follower.js';
import type { Life } from './life.js';
import type { Subscribed } from './protocol.js';
import type { Outcome, Requests } from './requests.js';
import { Topic } from './topic.js';

/** Hears that the server has unsubscribed, with its answer where it gave one. */
type Left = (answer?: Outcome) => void;

/** The topics by name. Between `connect` and `disconnect` it may ask the server. */
export class Topics {
  readonly #requests: Requests;
  readonly #life: Life;
  readonly #refused: (error: NgosError) => void;
  readonly #topics = new Map<string, Topic>();
  #connected = false;
  /** Who waits until the server has unsubscribed. */
  #leaving = new Set<Left>();
  /** Whether another connection may come. */
  readonly #reconnect: boolean;
  /** Why there will be none. */
  #ended: NgosError | null = null;

  /** `refused` hears that followers can't go on with this connection, but perhaps with another. */
  constructor(requests: Requests, life: Life, reconnect: boolean, refused: (error: NgosError) => void) {
    this.#requests = requests;
    this.#life = life;
    this.#reconnect = reconnect;
    this.#refused = refused;
  }

  // From here on for the program: when it returns, all is settled.

  /**
   * Subscribe for handlers, once; `place` moves them there. `opened` hears what it came to. Where that takes a command, and
   * an `id` is given, it is the command's. Throws ConnectionLost after an end.
   */
  subscribe(name: string, place: Place | null, opened: Opened, id?: string): void {
    if (this.#ended !== null) throw this.#ended;
    const topic = this.#topic(name);
    topic.nextId = id;
    topic.dispatch.subscribed = true;
    this.#hold(topic, place);
    topic.dispatch.whenOpen(opened);
    this.#settle(topic);
    if (topic.dispatch.following) topic.nextId = undefined; // nothing had to be asked
    this.#life.settled();
  }

  /** Hold a topic for handlers, once more; `place` counts for the first holder. */
  hold(name: string, place: Place | null): void {
    const topic = this.#topic(name);
    const first = !topic.dispatch.held;
    topic.dispatch.holders++;
    this.#hold(topic, first ? place : null);
    this.#settle(topic);
    this.#life.settled();
  }

  /** Give back one `hold`. */
  release(name: string): void {
    const topic = this.#topics.get(name);
    if (topic === undefined) return;
    topic.dispatch.holders--;
    this.#released(topic, () => {});
    this.#life.settled();
  }

  /**
   * End `subscribe`; `done` when no more is to come for it: the server has answered, or others hold the topic. Where that
   * takes a command, and an `id` is given, it is the command's.
   */
  unsubscribe(name: string, done: Left, id?: string): void {
    const topic = this.#topics.get(name);
    if (topic === undefined) {
      done();
      return;
    }
    topic.dispatch.subscribed = false;
    this.#released(topic, done, id);
    this.#life.settled();
  }

  /** Let a feed follow its topic from its place; without a connection, when there is one again. */
  attach(feed: Feed): void {
    if (this.#ended !== null) {
      feed.end(this.#ended);
      return;
    }
    const topic = this.#topic(feed.topic);
    feed.onRoom = () => {
      this.#settle(topic);
      this.#life.settled();
    };
    topic.join(feed);
    this.#settle(topic);
    this.#life.settled();
  }

  /** Stop a feed. The last follower of a topic queues `unsubscribe`. */
  detach(feed: Feed): void {
    feed.onRoom = null;
    const topic = this.#topics.get(feed.topic);
    if (topic === undefined) return;
    topic.leave(feed);
    this.#settle(topic);
    this.#life.settled();
  }

  /** A feed was ended by a hole. */
  gap(error: GapError): void {
    this.#life.gap(error);
  }

  /** Whether handlers follow a topic on the connection that there is. */
  follows(name: string): boolean {
    return this.#topics.get(name)?.dispatch.following ?? false;
  }

  /** Where the handlers of a topic are, or null. */
  place(name: string): Place | null {
    return this.#topics.get(name)?.dispatch.place ?? null;
  }

  /** The server's latest agreement to follow a topic, or null. */
  agreement(name: string): Envelope | null {
    return this.#topics.get(name)?.agreement ?? null;
  }

  // From here on for the session: it settles.

  /** A connection may come, after an end too. */
  begin(): void {
    this.#ended = null;
  }

  /** There is a connection: queue a `subscribe` for each topic whose followers have room, eldest topic first. */
  connect(): void {
    this.#connected = true;
    for (const topic of [...this.#topics.values()]) {
      topic.dispatch.refused = false;
      this.#settle(topic);
    }
  }

  /** There is none any more, and the server has forgotten what was followed. */
  disconnect(): void {
    this.#connected = false;
    for (const topic of this.#topics.values()) topic.disconnect();
    const leaving = this.#leaving;
    this.#leaving = new Set();
    for (const done of leaving) done();
  }

  /** There will be none for now: iterators end, and `subscribe` that waits; what is held stays for another `connect`. */
  end(error: NgosError): void {
    this.#ended = error;
    this.disconnect();
    for (const topic of [...this.#topics.values()]) {
      for (const follower of topic.followers) follower.end(error);
      this.#settle(topic);
    }
  }

  /** Give an event to its topic's followers; returns whether handlers are to hear it. Throws Nonsense. */
  deliver(event: Envelope, sizeBytes: number): boolean {
    if (event.topic == null) return true;
    const topic = this.#topics.get(event.topic);
    if (topic === undefined) return false; // the tail of what was unsubscribed
    const heard = topic.deliver(event, sizeBytes);
    if (topic.strayed) this.#settle(topic);
    return heard;
  }

  #topic(name: string): Topic {
    let topic = this.#topics.get(name);
    if (topic === undefined) {
      topic = new Topic(name, new Dispatch(name, (error) => this.gap(error)));
      this.#topics.set(name, topic);
    }
    return topic;
  }

  #hold(topic: Topic, place: Place | null): void {
    const dispatch = topic.dispatch;
    dispatch.muted = false;
    dispatch.refused = false;
    const joined = topic.followers.includes(dispatch);
    if (joined && place !== null) topic.move(dispatch, place);
    if (joined) return;
    dispatch.opening = null;
    dispatch.place = place;
    topic.join(dispatch);
  }

  #released(topic: Topic, done: Left, id?: string): void {
    if (topic.dispatch.held || !topic.followers.includes(topic.dispatch)) {
      done();
      return;
    }
    topic.dispatch.release();
    topic.leave(topic.dispatch);
    this.#settle(topic, done, id);
  }

  /** Drop followers that are done, and ask the server for what the others are due. */
  #settle(topic: Topic, left: Left = () => {}, leftId?: string): void {
    for (const follower of topic.followers) {
      const over = follower === topic.dispatch ? !topic.dispatch.held : (follower as Feed).ended !== null;
      if (!over) continue;
      topic.leave(follower);
      if (follower === topic.dispatch) topic.dispatch.release();
    }
    if (topic.followers.length === 0 && this.#topics.get(topic.name) === topic) this.#topics.delete(topic.name);
    const due = this.#connected ? topic.nextCommand() : null;
    if (due === null) {
      left();
    } else if (due.type === 'subscribe') {
      const done = (outcome: Outcome) => this.#answered(topic, outcome);
      this.#requests.add('subscribe', due.payload, done, { ours: true, id: topic.nextId });
      left();
    } else {
      this.#leaving.add(left);
      const done = (outcome: Outcome) => this.#leaving.delete(left) && left(outcome);
      this.#requests.add('unsubscribe', due.payload, done, { ours: true, id: leftId });
    }
  }

  #answered(topic: Topic, outcome: Outcome): void {
    topic.nextId = undefined;
    if (outcome instanceof Error) {
      if (topic.refused(outcome, !this.#reconnect)) {
        this.#refused(outcome);
        return;
      }
    } else {
      topic.agreement = outcome;
      const replay = topic.agreed(readSubscribed(outcome));
      if (replay !== null) this.#life.tell('resumed', { topic: topic.name, replay });
    }
    this.#settle(topic);
  }
}

function readSubscribed(reply: Envelope): Subscribed {
  const { durable, recovered, replay } = reply.payload;
  check(typeof durable === 'boolean' && typeof recovered === 'boolean' && Number.isSafeInteger(replay), reply.type);
  return reply.payload as unknown as Subscribed;
}
