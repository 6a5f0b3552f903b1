/**
 * One topic, over all connections: where each of its followers is, and what to ask of the server for them. No I/O.
 *
 * The server knows one position per topic and connection (protocol.md section 5), and asking again moves it. Followers at
 * different positions share it: it is put where the hindmost needs it, and the others drop what they have.
 *
 * A feed that is full does not follow until its consumer has taken half. Meanwhile:
 *
 * - others follow: where only repeats would come for them, the position is moved on to where they are;
 * - none follows: unsubscribe. Else the server would send what nobody takes, for as long as the consumer pauses.
 */

import type { Dispatch } from './dispatch.js';
import { check, type Envelope, Nonsense } from './envelope.js';
import { CommandError, type LogPosition, type NgosError } from './errors.js';
import type { Follower, Place } from './follower.js';
import type { Subscribe, Subscribed } from './protocol.js';

/** So many events that all have are let pass; for more, the position is moved on, which costs a round trip. */
const REPEATS = 100;

/** A `subscribe` without a reply: `since` which place (null: live), and for whom; true for those who are at it. */
interface Asked {
  readonly since: Place | null;
  readonly followers: Map<Follower, boolean>;
}

/** What to send for a topic now. */
export type Due = { type: 'subscribe'; payload: Subscribe } | { type: 'unsubscribe'; payload: { topic: string } };

/** The followers of one topic. Callers send what `nextCommand` says, and tell it what came of it. */
export class Topic {
  readonly name: string;
  readonly dispatch: Dispatch;
  /** Replaced, never changed: it may be walked through while somebody comes or goes. */
  followers: readonly Follower[] = [];
  /** The server's latest answer to `subscribe`, whole. */
  agreement: Envelope | null = null;
  /** What the next `subscribe` is named by, until one is answered; undefined: by anything. */
  nextId: string | undefined;
  #asked: Asked | null = null;
  /** The server's last agreement on this connection, while its subscription is in force. */
  #reply: Subscribed | null = null;
  /** The last event that came, repeat or not, or what the subscription started after. */
  #stream: LogPosition | null = null;
  /** The furthest position that is known: where what is live begins. */
  #head: LogPosition | null = null;
  /** The connection broke under a follower, and none has gone on since. */
  #broken = false;

  constructor(name: string, dispatch: Dispatch) {
    this.name = name;
    this.dispatch = dispatch;
  }

  /** Add a follower. It follows at once where the subscription that is there serves it. */
  join(follower: Follower): void {
    this.followers = [...this.followers, follower];
    if (this.#reply === null || this.#asked !== null) return;
    if (!this.#reply.durable) {
      follower.follow(null, live(this.#reply));
    } else if (follower.place === null && this.#head !== null) {
      follower.follow(this.#head, live(this.#reply, this.#head.seq));
    }
  }

  /** Put a follower that is here to another place: the server is to be asked for it. */
  move(follower: Follower, place: Place): void {
    follower.following = false;
    follower.place = place;
    this.#asked?.followers.delete(follower);
  }

  leave(follower: Follower): void {
    this.followers = this.followers.filter((other) => other !== follower);
  }

  /** The connection is gone, and the server's subscription with it. */
  disconnect(): void {
    this.#asked = this.#reply = this.#stream = this.#head = null;
    this.dispatch.refused = false;
    for (const follower of this.followers) {
      follower.following = false;
      this.#broken ||= follower.opening?.durable === true;
    }
  }

  /** What to send now so that each follower gets what it is due, or null; it counts as sent. */
  nextCommand(): Due | null {
    if (this.#asked !== null && this.followers.length > 0) return null;
    const following = this.followers.filter((follower) => follower.following);
    const ready = this.followers.filter((follower) => !follower.following && follower.hasRoom);
    if (ready.length > 0 || this.#onlyRepeats(following)) {
      return { type: 'subscribe', payload: this.#ask([...ready, ...following]) };
    }
    if (following.length === 0 && (this.#reply !== null || this.#asked !== null)) {
      this.#reply = this.#asked = null;
      return { type: 'unsubscribe', payload: { topic: this.name } };
    }
    return null;
  }

  /**
   * The server's answer to `subscribe`: each follower follows, has a gap, or is due another `subscribe`. Returns how many
   * events come again, where this is the first after a break that lets somebody go on. Throws Nonsense.
   */
  agreed(reply: Subscribed): number | null {
    const asked = this.#asked;
    this.#asked = null;
    if (asked === null || this.followers.length === 0) return null;
    const before = this.followers.filter((follower) => follower.opening !== null);
    const gaps = before.map((follower) => follower.gaps);
    this.#reply = reply;
    if (!reply.durable) {
      this.#stream = this.#head = null;
      for (const follower of this.followers) placeOnEphemeral(follower, reply);
      return null;
    }
    check(typeof reply.epoch === 'string' && Number.isSafeInteger(reply.seq), `no position in '${this.name}'`);
    const now = { epoch: reply.epoch, seq: reply.seq as number };
    const since = reply.recovered && asked.since !== null ? asked.since.seq : null;
    const head = since === null ? now : { epoch: now.epoch, seq: Math.max(now.seq, since + reply.replay) };
    this.#stream = { epoch: now.epoch, seq: since ?? now.seq };
    this.#head = { ...head };
    for (const follower of this.followers) {
      const place = follower.place;
      const hindmost = asked.followers.get(follower);
      if (place === null) follower.follow(head, live(reply, head.seq));
      // It came, or had room, later than this was asked: the answer says nothing about it.
      else if (hindmost === undefined) continue;
      else if (since === null) placeAt(now, follower, place, hindmost, reply);
      else placeInReplay(follower, place, since, head, reply);
    }
    const goesOn = before.some((follower, index) => follower.following && follower.gaps === gaps[index]);
    if (!this.#broken || !goesOn) return null;
    this.#broken = false;
    return reply.replay;
  }

  /**
   * The server did not subscribe: what is in force goes on, and those it was asked for hear it. Where it may go better on
   * another connection, those who had started do not; returns whether there are such.
   */
  refused(error: NgosError, final: boolean): boolean {
    const asked = this.#asked;
    this.#asked = null;
    if (asked === null) return false;
    const waiting = this.followers.filter(
      (follower) => !follower.following && (asked.followers.has(follower) || follower.place === null),
    );
    const retryable = !final && error instanceof CommandError && error.retryable;
    let left = false;
    for (const follower of waiting.length > 0 ? waiting : this.followers) {
      if (retryable && follower.opening !== null) left = true;
      else follower.end(error);
    }
    return left;
  }

  /**
   * Offer an event to all followers. Returns whether handlers are to hear it. Throws Nonsense where a durable topic's
   * event has no position.
   */
  deliver(event: Envelope, sizeBytes: number): boolean {
    const reply = this.#reply;
    if (reply === null) return false; // the tail of a subscription that was given up
    const durable = reply.durable;
    if (durable) {
      if (event.seq == null || event.epoch == null) throw new Nonsense(`an event of '${this.name}' has no position`);
      this.#advance(event.epoch, event.seq);
    }
    let heard = false;
    for (const follower of this.followers) {
      const taken = follower.offer(event, sizeBytes, durable);
      if (follower === this.dispatch) heard = taken;
    }
    if (this.dispatch.held || this.dispatch.muted) return heard;
    return this.dispatch.overhear(event, durable);
  }

  /** Whether some follower does not follow, and may be due a command. */
  get strayed(): boolean {
    return this.followers.some((follower) => !follower.following);
  }

  /** Both are there while a durable subscription is in force; changed in place, for this is done with every event. */
  #advance(epoch: string, seq: number): void {
    const stream = this.#stream;
    const head = this.#head;
    if (stream === null || head === null) return;
    if (head.epoch !== epoch || head.seq < seq) {
      head.epoch = epoch;
      head.seq = seq;
    }
    stream.epoch = epoch;
    stream.seq = seq;
  }

  /** Ask since the hindmost. Those of another epoch than the first will have to be told apart. */
  #ask(followers: Follower[]): Subscribe {
    const places = followers.flatMap((follower) => follower.place ?? []);
    if (places.length === 0) {
      this.#asked = { since: null, followers: new Map(followers.map((follower) => [follower, false])) };
      return { topic: this.name };
    }
    const epoch = places.find((place) => place.epoch !== null)?.epoch ?? null;
    const inLog = (place: Place | null) => place !== null && (place.epoch === null || place.epoch === epoch);
    const seq = Math.min(...places.filter(inLog).map((place) => place.seq));
    const isHindmost = ({ place }: Follower) => inLog(place) && place?.seq === seq;
    this.#asked = {
      since: { epoch, seq },
      followers: new Map(followers.map((follower) => [follower, isHindmost(follower)])),
    };
    return { topic: this.name, since: seq, ...(epoch === null ? {} : { epoch }) };
  }

  /** Whether the next events are known to all who follow, and there are many of them. */
  #onlyRepeats(following: readonly Follower[]): boolean {
    const stream = this.#stream;
    if (stream === null) return false;
    const places = following.flatMap((follower) => follower.place ?? []);
    if (places.length === 0 || places.some((place) => place.epoch !== stream.epoch)) return false;
    return Math.min(...places.map((place) => place.seq)) - stream.seq > REPEATS;
  }
}

/** The agreement of one who has no past to come: it starts with what comes after `seq`. */
function live(reply: Subscribed, seq = reply.seq): Subscribed {
  return { ...reply, seq, recovered: false, replay: 0 };
}

/** All after `since` comes. */
function placeInReplay(follower: Follower, place: Place, since: number, head: LogPosition, reply: Subscribed): void {
  if (place.epoch !== null && place.epoch !== head.epoch) {
    follower.lose(head, reply);
  } else if (follower.opening === null && place.seq > head.seq) {
    follower.lose(head, reply); // it says that it saw what has not happened: another log's number
  } else if (place.seq >= since && (follower.following || follower.hasRoom)) {
    const replay = Math.max(0, reply.replay - (place.seq - since));
    follower.follow({ epoch: head.epoch, seq: place.seq }, { ...reply, seq: place.seq, replay });
  }
}

/** Only what comes after `now` comes. */
function placeAt(now: LogPosition, follower: Follower, place: Place, hindmost: boolean, reply: Subscribed): void {
  // Who has followed may be ahead of a server that has yet to hear of the last events itself.
  const ahead = follower.opening !== null && place.epoch === now.epoch && place.seq > now.seq;
  if (ahead || (place.epoch === now.epoch && place.seq === now.seq)) {
    if (follower.following || follower.hasRoom) follower.follow(place, { ...reply, replay: 0 });
  } else if (hindmost || (place.epoch !== null && place.epoch !== now.epoch)) {
    follower.lose(now, reply);
  } else {
    follower.following = false; // its own place may be in the log still: asked for next
  }
}

/** There is no log. Events may be missed here by nature, but not by one who was promised all of them. */
function placeOnEphemeral(follower: Follower, reply: Subscribed): void {
  if (follower.opening?.durable === true) follower.lose(null, reply);
  else follower.follow(null, live(reply));
}
