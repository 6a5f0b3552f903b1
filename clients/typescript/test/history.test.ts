/** Random histories: the session beside a server without I/O, with breaks, replays, pauses and lost logs. */

import { GapError, type LifeEvents } from '@neurograph/client';
import { describe, expect, it } from 'vitest';
import { ConnectionLost } from '../src/errors.js';
import { Feed } from '../src/feed.js';
import type { Outcome } from '../src/requests.js';
import { Session } from '../src/session.js';
import { dice, type FakePeer, FakeServer } from './fakes.js';

const TOPICS = ['a', '__proto__'];
const STEPS = 150;
const HISTORIES = 400;

interface Seen {
  epoch: string;
  seq: number;
}

/** What one follower saw, in order: events, and gaps as the position that it goes on from. */
type Sight = { event: Seen } | { gap: Seen };

class History {
  readonly server = new FakeServer();
  readonly session: Session;
  readonly handled = new Map<string, Sight[]>(TOPICS.map((topic) => [topic, []]));
  readonly feeds: { feed: Feed; seen: Sight[]; start: number | null }[] = [];
  readonly outcomes: Outcome[] = [];
  readonly asked: string[] = [];
  readonly held = new Map<string, number>(TOPICS.map((topic) => [topic, 0]));
  readonly #random: () => number;
  #peer: FakePeer | null = null;
  #toServer: string[] = [];

  constructor(seed: number) {
    this.#random = dice(seed);
    const terms = { reconnect: true, renewable: false, queueBytes: 1e6, random: this.#random };
    this.session = new Session(terms, {
      output: () => this.#flush(),
      life: (name, event) => {
        if (name !== 'gap') return;
        const { topic, now } = event as LifeEvents['gap'];
        if (now !== null) this.handled.get(topic)?.push({ gap: now });
      },
      message: ({ topic, epoch, seq }) => {
        if (topic !== undefined) this.handled.get(topic)?.push({ event: { epoch: epoch ?? '', seq: seq ?? 0 } });
      },
    });
    this.session.begin(true);
  }

  step(): void {
    const topic = this.#pick(TOPICS);
    const one = this.#random();
    if (one < 0.3) this.#toClient();
    else if (one < 0.45) this.#toServerOne();
    else if (one < 0.65) this.server.publish(topic);
    else if (one < 0.7) this.#connect();
    else if (one < 0.73) this.#cut();
    else if (one < 0.75) this.server.prune(topic, Math.floor(this.#random() * this.server.log(topic).last));
    else if (one < 0.755) {
      this.server.lose(topic);
      this.#cut();
    } else if (one < 0.78) this.#follow(topic);
    else if (one < 0.9) this.#read();
    else if (one < 0.93) this.#hold(topic);
    else if (one < 0.95) this.#release(topic);
    else this.#ask();
  }

  /** Let all that is due happen. */
  settle(): void {
    this.#cut();
    this.#connect();
    for (const topic of TOPICS) this.server.publish(topic);
    while (this.#toServerOne() || this.#toClient() || this.#read()) {}
  }

  #connect(): void {
    if (this.#peer !== null) return;
    this.#peer = this.server.connect({ in_flight: 1 + Math.floor(this.#random() * 5) });
    this.#toServer = [];
  }

  #cut(): void {
    const peer = this.#peer;
    if (peer === null) return;
    this.server.leave(peer);
    this.#peer = null;
    // Before the greeting there is nothing to lose.
    if (this.session.state === 'connected') this.session.disconnected(new ConnectionLost(1006, ''), 0);
  }

  #flush(): void {
    if (this.#peer === null) return;
    for (let text = this.session.takeOutput(); text !== null; text = this.session.takeOutput())
      this.#toServer.push(text);
  }

  #toClient(): boolean {
    const text = this.#peer?.toClient.shift();
    if (text === undefined) return false;
    this.session.receive(text);
    expect(this.session.verdict).toBeNull();
    return true;
  }

  #toServerOne(): boolean {
    const text = this.#toServer.shift();
    if (text === undefined || this.#peer === null) return false;
    this.#peer.receive(text);
    return true;
  }

  #follow(topic: string): void {
    if (this.feeds.length > 4) return;
    const { epoch, last } = this.server.log(topic);
    const start = this.#random() < 0.5 ? null : Math.floor(this.#random() * (last + 1));
    const feed = new Feed(
      topic,
      start === null ? null : { epoch, seq: start },
      1 + Math.floor(this.#random() * 6),
      1e6,
      {
        wake: () => {},
        gap: () => {}, // what is told are the handlers' gaps
      },
    );
    this.feeds.push({ feed, seen: [], start });
    this.session.topics.attach(feed);
  }

  #read(): boolean {
    let read = false;
    for (const { feed, seen } of this.feeds) {
      try {
        const event = feed.shift();
        if (event === null) continue;
        read = true;
        seen.push({ event: { epoch: event.epoch ?? '', seq: event.seq ?? 0 } });
        this.#flush();
      } catch (error) {
        expect(error).toBeInstanceOf(GapError);
      }
    }
    return read;
  }

  #hold(topic: string): void {
    // What was overheard of iterators is another story.
    if (this.held.get(topic) === 0) this.handled.set(topic, []);
    this.held.set(topic, (this.held.get(topic) ?? 0) + 1);
    this.session.topics.hold(topic, null);
  }

  #release(topic: string): void {
    const count = this.held.get(topic) ?? 0;
    if (count === 0) return;
    this.held.set(topic, count - 1);
    this.session.topics.release(topic);
    // What follows is another subscription.
    if (count === 1) this.handled.set(topic, []);
  }

  #ask(): void {
    this.asked.push(this.session.request('do', {}, (outcome) => this.outcomes.push(outcome)));
  }

  #pick<Item>(items: readonly Item[]): Item {
    return items[Math.floor(this.#random() * items.length)] as Item;
  }
}

/** Each event follows the one before, or a gap that says where from. */
function expectNoHole(sights: readonly Sight[], start: number | null): void {
  let at: Seen | null = null;
  for (const sight of sights) {
    if ('event' in sight) {
      if (at !== null) expect(sight.event).toEqual({ epoch: at.epoch, seq: at.seq + 1 });
      else if (start !== null) expect(sight.event.seq).toBe(start + 1);
      at = sight.event;
    } else {
      at = sight.gap;
    }
  }
}

describe('random histories', () => {
  it('try to lose, repeat or reorder an event without a gap told, and a command without its effect', () => {
    let events = 0;
    let gaps = 0;
    for (let seed = 1; seed <= HISTORIES; seed++) {
      const history = new History(seed);
      for (let step = 0; step < STEPS; step++) history.step();
      history.settle();
      const { server, feeds, handled, held, asked, outcomes } = history;
      try {
        expect(outcomes.map((outcome) => 'reply_to' in outcome && outcome.reply_to).sort()).toEqual([...asked].sort());
        expect(server.effects.filter((id) => asked.includes(id))).toEqual(asked);
        for (const { feed, seen, start } of feeds) {
          expectNoHole(seen, start);
          events += seen.length;
          if (feed.ended !== null) gaps++;
          // Who has no gap is at the end of the log.
          else expect(feed.place?.seq).toBe(server.log(feed.topic).last);
        }
        for (const [topic, sights] of handled) {
          if (held.get(topic) === 0) continue;
          expectNoHole(sights, null);
          events += sights.length;
          expect(history.session.topics.place(topic)).toEqual({
            epoch: server.log(topic).epoch,
            seq: server.log(topic).last,
          });
        }
      } catch (error) {
        throw new Error(`seed ${seed}: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
      }
    }
    // The histories are worth something only if these happen.
    expect(events).toBeGreaterThan(5_000);
    expect(gaps).toBeGreaterThan(50);
  });
});
