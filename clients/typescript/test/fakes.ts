/** A server without I/O, with logs that can be pruned and lost; and a WebSocket without a network. */

import type { Envelope } from '@neurograph/client';

export const GREETING = {
  connection_id: '00000000-0000-4000-8000-000000000001',
  client_id: 'me',
  timestamp: 1,
  server: { name: 'fake', version: '0', protocol: 1 },
  heartbeat: { interval_ms: 25_000, timeout_ms: 10_000 },
  limits: { message_bytes: 65_536, subscriptions: 128, in_flight: 256 },
};

/** A message's text; what is not given has some value. */
export function message(fields: Partial<Envelope> & { type: string }): string {
  return JSON.stringify({ id: 'm', timestamp: 1, payload: {}, ...fields });
}

export function greeting(changes: object = {}): string {
  return message({ type: 'connection.established', payload: { ...GREETING, ...changes } });
}

export interface Command {
  id: string;
  type: string;
  payload: Record<string, unknown>;
}

interface Log {
  epoch: string;
  /** The log holds the events after this one. */
  pruned: number;
  last: number;
}

/** The state of a server that outlives its connections: logs by topic, and replies by command id. */
export class FakeServer {
  readonly logs = new Map<string, Log>();
  readonly effects: string[] = [];
  readonly #replies = new Map<string, object>();
  readonly #peers = new Set<FakePeer>();
  #epochs = 1;

  connect(limits: object = {}): FakePeer {
    const peer = new FakePeer(this);
    peer.toClient.push(greeting({ limits: { ...GREETING.limits, ...limits } }));
    this.#peers.add(peer);
    return peer;
  }

  leave(peer: FakePeer): void {
    this.#peers.delete(peer);
  }

  log(topic: string): Log {
    let log = this.logs.get(topic);
    if (log === undefined) {
      log = { epoch: '0000000a', pruned: 0, last: 0 };
      this.logs.set(topic, log);
    }
    return log;
  }

  publish(topic: string): void {
    this.log(topic).last++;
    for (const peer of this.#peers) if (peer.topics.has(topic)) peer.event(topic, this.log(topic).last);
  }

  prune(topic: string, seq: number): void {
    const log = this.log(topic);
    log.pruned = Math.max(log.pruned, Math.min(seq, log.last));
  }

  /** The log is lost: another one begins, and all who follow are cut. */
  lose(topic: string): void {
    const epoch = (0xb0 + this.#epochs++).toString(16).padStart(8, '0');
    this.logs.set(topic, { epoch, pruned: 0, last: 0 });
  }

  /** Do a command once (protocol.md section 6). */
  once(command: Command): object {
    const before = this.#replies.get(command.id);
    if (before !== undefined) return { ...before, replayed: true };
    this.effects.push(command.id);
    const reply = { type: `${command.type}.done`, reply_to: command.id };
    this.#replies.set(command.id, reply);
    return reply;
  }
}

/** One connection, as the server has it. */
export class FakePeer {
  readonly toClient: string[] = [];
  readonly topics = new Set<string>();
  readonly commands: Command[] = [];
  readonly #server: FakeServer;

  constructor(server: FakeServer) {
    this.#server = server;
  }

  event(topic: string, seq: number): void {
    const { epoch } = this.#server.log(topic);
    this.toClient.push(message({ type: 'x', topic, seq, epoch, payload: { seq } }));
  }

  receive(text: string): void {
    const command = JSON.parse(text) as Command;
    this.commands.push(command);
    const topic = String(command.payload.topic);
    if (command.type === 'unsubscribe') {
      const success = this.topics.delete(topic);
      this.#reply(command, { type: 'unsubscribed', payload: { topic, success } });
    } else if (command.type === 'subscribe') this.#subscribe(command, topic);
    else this.#reply(command, this.#server.once(command));
  }

  #subscribe(command: Command, topic: string): void {
    const { epoch, pruned, last } = this.#server.log(topic);
    const { since, epoch: known } = command.payload;
    const recovered =
      typeof since === 'number' && since >= pruned && since <= last && (known === undefined || known === epoch);
    const replay = recovered ? last - since : 0;
    const payload = { topic, success: true, durable: true, epoch, seq: last, recovered, replay };
    this.#reply(command, { type: 'subscribed', payload });
    this.topics.add(topic);
    for (let seq = last - replay + 1; seq <= last; seq++) this.event(topic, seq);
  }

  #reply(command: Command, fields: object): void {
    this.toClient.push(message({ type: 'reply', ...fields, reply_to: command.id }));
  }
}

/** A generator of numbers from 0 to 1 that a seed repeats (mulberry32). */
export function dice(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

/** A WebSocket without a network, as far as this client uses one. */
export class FakeSocket {
  /** All that were opened, the eldest first. */
  static readonly all: FakeSocket[] = [];
  binaryType = 'blob';
  onmessage: ((event: { data: unknown }) => void) | null = null;
  onclose: ((event: { code: number; reason: string }) => void) | null = null;
  onerror: (() => void) | null = null;
  refusal: { reason: string; status: number | null; retryAfterMs: number | null } | null = null;
  readonly url: string;
  readonly sent: Command[] = [];
  closed: { code: number | undefined; reason: string | undefined } | null = null;

  constructor(url: string) {
    this.url = url;
    FakeSocket.all.push(this);
  }

  /** The latest. */
  static get last(): FakeSocket {
    const last = FakeSocket.all.at(-1);
    if (last === undefined) throw new Error('no socket was opened');
    return last;
  }

  get types(): string[] {
    return this.sent.map((command) => command.type);
  }

  send(text: string): void {
    this.sent.push(JSON.parse(text));
  }

  /** As browsers have it: only 1000 and 3000 to 4999 may be said. */
  close(code?: number, reason?: string): void {
    if (code !== undefined && code !== 1000 && (code < 3000 || code > 4999)) throw new RangeError(`code ${code}`);
    this.closed ??= { code, reason };
  }

  say(data: unknown): void {
    this.onmessage?.({ data });
  }

  greet(changes: object = {}): void {
    this.say(greeting(changes));
  }

  /** Answer the latest command. */
  answer(type = 'done', payload: object = {}): void {
    const command = this.sent.at(-1);
    this.say(message({ type, payload: payload as Record<string, unknown>, reply_to: command?.id ?? '' }));
  }

  break(code = 1006, reason = ''): void {
    this.onclose?.({ code, reason });
  }

  refuse(status: number | null, retryAfterMs: number | null = null): void {
    this.refusal = { reason: `${status}`, status, retryAfterMs };
    this.break();
  }
}
