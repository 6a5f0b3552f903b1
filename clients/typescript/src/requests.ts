/**
 * The commands of a client that have no reply yet, over all its connections. No I/O.
 *
 * What was on its way when a connection broke may have taken effect or not: it is sent again with the id that it has, in
 * the order it was first asked for, and the server answers it once (protocol.md section 6).
 *
 * Bounded: of all that has no reply yet the bytes, by `queueBytes`; of what is on the wire the number, by `in_flight`.
 */

import { type Envelope, isObject } from './envelope.js';
import { CommandError, type NgosError, QueueFull, RequestTooBig } from './errors.js';
import type { Limits } from './protocol.js';
import { Queue } from './queue.js';
import { randomHex } from './random.js';

/** What a command comes to: its reply, or why there is none. */
export type Outcome = Envelope | NgosError;

interface Pending {
  readonly name: string;
  readonly message: string;
  readonly sizeBytes: number;
  /** The session's own, for one connection only. */
  readonly ours: boolean;
  readonly done: (outcome: Outcome) => void;
  state: 'queued' | 'sent' | 'over';
}

/** Who waits for which reply, and what is still to be sent. */
export class Requests {
  readonly #queueBytes: number;
  // Ids make commands idempotent per client_id (section 6), so no two sessions may ever share one.
  readonly #prefix = randomHex(8);
  #count = 0;
  #limits: Limits | null = null;
  #waitingBytes = 0;
  #pending = new Map<string, Pending>();
  #sent = 0;
  /** What is still to be sent, in order; some may be over meanwhile. */
  readonly #output = new Queue<Pending>();

  constructor(queueBytes: number) {
    this.#queueBytes = queueBytes;
  }

  /** An id that no command has had. */
  newId(): string {
    return `${this.#prefix}-${++this.#count}`;
  }

  /**
   * Queue a command and return its id; `done` is called once. Throws TypeError (not JSON, or the id waits for its reply
   * already), RequestTooBig and QueueFull, all the caller's fault; then nothing was queued. One command is taken always.
   * What is `ours` never throws: it is asked while a server's message is taken, and `done` hears that it is too big.
   */
  add(
    name: string,
    payload: object,
    done: Pending['done'],
    options: { id?: string | undefined; ours?: true } = {},
  ): string {
    const ours = options.ours === true;
    const id = options.id ?? this.newId();
    if (typeof name !== 'string') throw new TypeError('a command is named by a string');
    if (typeof id !== 'string' || id === '' || id.length > 128) throw new TypeError('an id is 1 to 128 characters');
    if (this.#pending.has(id)) throw new TypeError(`the command '${id}' waits for its reply already`);
    if (!isObject(payload)) throw new TypeError('a payload is an object');
    const message = JSON.stringify({ id, type: name, payload });
    const pending: Pending = { name, message, sizeBytes: utf8Bytes(message), ours, done, state: 'queued' };
    const tooBig = this.#tooBig(pending);
    if (tooBig !== null && ours) {
      done(tooBig);
      return id;
    }
    if (tooBig !== null) throw tooBig;
    // What the session asks by itself is little, and could not wait.
    if (!ours) {
      const waitingBytes = this.#waitingBytes;
      if (waitingBytes > 0 && waitingBytes + pending.sizeBytes > this.#queueBytes) {
        throw new QueueFull(name, pending.sizeBytes, waitingBytes, this.#queueBytes);
      }
      this.#waitingBytes += pending.sizeBytes;
    }
    this.#pending.set(id, pending);
    this.#output.push(pending);
    return id;
  }

  /** Nobody waits for this reply any more. What was not taken yet is never sent, and nothing is sent again. */
  forget(id: string): void {
    this.#drop(id);
  }

  /** Give a reply to who waits for it. False where nobody does, and for what the session asked by itself. */
  answer(reply: Envelope): boolean {
    const pending = reply.reply_to === undefined ? undefined : this.#drop(reply.reply_to);
    if (pending === undefined) return false;
    pending.done(reply.type === 'error' ? new CommandError(reply) : reply);
    return !pending.ours;
  }

  /** The next message to send, or null: there is none, or `in_flight` are unanswered. */
  take(): string | null {
    // A server that allowed none could never be asked anything.
    const most = Math.max(1, this.#limits?.in_flight ?? 1);
    while (this.#output.length > 0 && this.#sent < most) {
      const pending = this.#output.shift();
      if (pending?.state !== 'queued') continue;
      pending.state = 'sent';
      this.#sent++;
      return pending.message;
    }
    return null;
  }

  /** Nothing can be sent, and what the session asked of that connection has no meaning for another. */
  disconnect(): void {
    this.#output.clear();
    for (const [id, pending] of this.#pending) if (pending.ours) this.#drop(id);
  }

  /** There is a connection with these limits. Returns the ids to `resend` once what goes first is queued. */
  connect(limits: Limits): string[] {
    this.#limits = limits;
    this.#output.clear();
    this.#sent = 0;
    for (const pending of this.#pending.values()) pending.state = 'queued';
    return [...this.#pending.keys()];
  }

  /** Queue these again. What this server would not take fails with RequestTooBig, before it ends the connection. */
  resend(ids: string[]): void {
    for (const id of ids) {
      const pending = this.#pending.get(id);
      if (pending === undefined) continue;
      const tooBig = this.#tooBig(pending);
      if (tooBig === null) {
        this.#output.push(pending);
      } else {
        this.#drop(id);
        pending.done(tooBig);
      }
    }
  }

  /** No reply will come: everyone hears `error`. */
  fail(error: NgosError): void {
    const pending = this.#pending;
    this.#pending = new Map();
    this.#output.clear();
    this.#sent = 0;
    this.#waitingBytes = 0;
    for (const waiting of pending.values()) waiting.done(error);
  }

  #drop(id: string): Pending | undefined {
    const pending = this.#pending.get(id);
    if (pending === undefined) return undefined;
    this.#pending.delete(id);
    if (pending.state === 'sent') this.#sent--;
    pending.state = 'over';
    if (!pending.ours) this.#waitingBytes -= pending.sizeBytes;
    return pending;
  }

  #tooBig(pending: Pending): RequestTooBig | null {
    const limit = this.#limits?.message_bytes;
    if (limit === undefined || pending.sizeBytes <= limit) return null;
    return new RequestTooBig(pending.name, pending.sizeBytes, limit);
  }
}

/** How long a text is in UTF-8; of most commands faster than to encode it. */
function utf8Bytes(text: string): number {
  let bytes = text.length;
  for (let index = 0; index < text.length; index++) {
    const unit = text.charCodeAt(index);
    if (unit < 0x80) continue;
    // Each half of a surrogate pair is 2 of its 4 bytes; JSON.stringify leaves no half alone.
    bytes += unit < 0x800 || (unit >= 0xd800 && unit < 0xe000) ? 1 : 2;
  }
  return bytes;
}
