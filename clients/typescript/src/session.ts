/**
 * The client's side of the protocol without I/O: messages in, messages out, and who waits for which reply.
 *
 * Never waits, reads no clock, has no timers: the shell (`line`) does. It outlives connections: the shell brings it one
 * after another and asks it, each time one ends, whether and when to bring the next. Feeding it what the server sends
 * never throws; a failure is a state that everyone who waits hears of.
 *
 * The shell's duties: `begin`; for each connection `receive` each message, send what `takeOutput` returns whenever
 * `output` was called, end the connection when there is a `verdict`, then call `disconnected`; or `refused`, where there
 * came to be none. Both return when the next is due, or null: no more.
 */

import { Backoff } from './backoff.js';
import type { Opened } from './dispatch.js';
import { type Envelope, isObject, Nonsense, parse } from './envelope.js';
import { CommandError, type ConnectFailed, ConnectionLost, type GapError, type NgosError } from './errors.js';
import type { Feed } from './feed.js';
import type { Place } from './follower.js';
import { CloseCode, type ConnectionEstablished, PROTOCOL_VERSION } from './protocol.js';
import { type Outcome, Requests } from './requests.js';
import { Topics } from './topics.js';

/** A connection that lasted so long proved good, if nothing else did. */
const GOOD_MS = 5_000;
/** The least wait after 4429, "too many messages for too long". */
const PAUSE_MS = 1_000;
/** Of what a server asks a client to wait, no more than this is obeyed: a slip there must not end clients here. */
const LONGEST_WISH_MS = 300_000;
const WORTH_ANOTHER_TRY: ReadonlySet<number> = /* @__PURE__ */ new Set([408, 425, 429]);

export type State = 'idle' | 'connecting' | 'connected' | 'reconnecting' | 'ended';

/** When to connect again: after `waitMs`, and for no reason before `atLeastMs`, which the server asked for. */
export interface Next {
  readonly waitMs: number;
  readonly atLeastMs: number;
}

/** Called when all is settled inside, in the order of what they tell; they may call anything. */
export interface SessionWatch {
  /** There may be something to send. */
  output(): void;
  state(state: State): void;
  connected(established: ConnectionEstablished): void;
  /** `failure` is another one. */
  failed(failure: ConnectionLost | ConnectFailed): void;
  /** A connection was lost or a try to come back failed, and when the next comes; null: none. */
  disconnected(error: ConnectionLost | ConnectFailed, nextMs: number | null): void;
  resumed(topic: string, replay: number): void;
  gap(error: GapError): void;
  /** A message for the handlers: each reply, each error, each event once. */
  message(message: Envelope): void;
  /** The server accepted this token. */
  proven(token: string): void;
}

/** What a session is made with; `renewable`: after 4401 there may be another token. */
export interface Terms {
  reconnect: boolean;
  renewable: boolean;
  queueBytes: number;
  random: () => number;
}

/** A client's state, over all its connections. */
export class Session {
  state: State = 'idle';
  /** The latest connection's greeting. */
  established: ConnectionEstablished | null = null;
  /** Why the connection that is there is to be ended from this side. */
  verdict: ConnectionLost | null = null;
  /** Why there will be no connection any more, until `begin`. */
  ended: ConnectionLost | null = null;
  /** Why it ended, or the last failure before the connection that is there; null: none, or the program left. */
  failure: ConnectFailed | ConnectionLost | null = null;
  readonly #terms: Terms;
  readonly #watch: SessionWatch;
  readonly #backoff: Backoff;
  readonly #requests: Requests;
  readonly #topics: Topics;
  readonly #calls: (() => void)[] = [];
  /** What is shown to each connection first; null: nothing. */
  #proof: string | null = null;
  /** What was shown last when the server did not, or no longer, know who this is. */
  #refusedProof: string | null | undefined;
  #retry = true;
  #provedGood = false;
  #wishMs = 0;

  constructor(terms: Terms, watch: SessionWatch) {
    this.#terms = terms;
    this.#watch = watch;
    this.#backoff = new Backoff(terms.random);
    this.#requests = new Requests(terms.queueBytes);
    this.#topics = new Topics(this.#requests, {
      refused: (error) => this.#refused(error),
      resumed: (topic, replay) => this.#call(() => watch.resumed(topic, replay)),
      gap: (error) => this.tellGap(error),
      output: () => watch.output(),
    });
    this.#topics.reconnect = terms.reconnect;
  }

  /** Seek a connection; `retry`: also after a first one that fails. */
  begin(retry: boolean): void {
    this.ended = this.verdict = this.established = this.failure = null;
    this.#refusedProof = undefined;
    this.#retry = retry;
    this.#provedGood = false;
    this.#wishMs = 0;
    this.#backoff.reset();
    this.#change('connecting');
    this.#after();
  }

  /**
   * Queue a command and return its id; `done` is called once with what it comes to. It is sent when there is a connection
   * and its turn has come, and again, under the same id, where one breaks before the reply. Throws ConnectionLost, and
   * RequestTooBig, QueueFull and TypeError, the caller's faults; then nothing was queued.
   */
  request(name: string, payload: object, done: (outcome: Outcome) => void, id?: string): string {
    if (this.ended !== null) throw this.ended;
    const heard = name === 'authenticate' ? this.#remembering(payload, done) : done;
    const chosen = this.#requests.add(name, payload, heard, { id });
    this.#after();
    return chosen;
  }

  /** An id that no command has had. */
  newId(): string {
    return this.#requests.newId();
  }

  /** Nobody waits for this reply any more. What was not taken yet is never sent. */
  forget(id: string): void {
    this.#requests.forget(id);
    this.#after(); // there may be room on the wire now
  }

  /** Follow a topic for handlers; see Topics. Throws ConnectionLost. */
  subscribe(topic: string, place: Place | null, opened: Opened, id?: string): void {
    if (this.ended !== null) throw this.ended;
    this.#topics.subscribe(topic, place, opened, id);
    this.#after();
  }

  unsubscribe(topic: string, done: (answer?: Outcome) => void, id?: string): void {
    this.#topics.unsubscribe(topic, done, id);
    this.#after();
  }

  hold(topic: string, place: Place | null): void {
    this.#topics.hold(topic, place);
    this.#after();
  }

  release(topic: string): void {
    this.#topics.release(topic);
    this.#after();
  }

  /** Let a feed follow its topic from its place; without a connection, when there is one again. */
  attach(feed: Feed): void {
    if (this.ended !== null) feed.end(this.ended);
    else this.#topics.attach(feed);
    this.#after();
  }

  detach(feed: Feed): void {
    this.#topics.detach(feed);
    this.#after();
  }

  /** A feed was ended by a hole. */
  tellGap(error: GapError): void {
    this.#call(() => this.#watch.gap(error));
  }

  follows(topic: string): boolean {
    return this.#topics.follows(topic);
  }

  place(topic: string): Place | null {
    return this.#topics.place(topic);
  }

  /** Show this token first on the next connection. False: it was refused already, and the session has ended. */
  prove(token: string | null): boolean {
    if (this.ended !== null) return false;
    this.#proof = token;
    if (token !== this.#refusedProof) return true;
    this.end(new ConnectionLost(CloseCode.UNAUTHENTICATED, 'the token was refused, and there is no other'));
    return false;
  }

  /** Ask for a sign of life, of this connection only. */
  probe(): void {
    if (this.state === 'connected') this.#requests.add('ping', {}, () => {}, { ours: true });
    this.#after();
  }

  /** The server's latest agreement to follow a topic; null: none, or not followed. */
  agreement(topic: string): Envelope | null {
    return this.#topics.agreement(topic);
  }

  /** Take one message from the server; a connection's first is its greeting. What can't be read is a verdict, 1002. */
  receive(data: unknown): void {
    if (this.ended !== null || this.verdict !== null) return;
    try {
      const message = parse(data);
      if (this.#take(message, (data as string).length)) {
        if (this.#calls.length > 0) this.#call(() => this.#watch.message(message));
        else {
          this.#watch.output();
          this.#watch.message(message);
          return;
        }
      }
    } catch (error) {
      if (!(error instanceof Nonsense)) throw error;
      this.#condemn(new ConnectionLost(CloseCode.PROTOCOL_ERROR, error.message));
    }
    this.#after();
  }

  /** The next message to send, in the order of the calls that caused them, or null: nothing for now. */
  takeOutput(): string | null {
    return this.state === 'connected' && this.verdict === null ? this.#requests.take() : null;
  }

  /** Set the verdict, if there is none: the shell is to end this connection. `disconnected` comes after it. */
  endConnection(error: ConnectionLost): void {
    this.#condemn(error);
    this.#after();
  }

  /** The connection is over, `upMs` after its greeting; an earlier verdict is the reason, else `error`. */
  disconnected(error: ConnectionLost, upMs: number): Next | null {
    if (this.ended !== null) return null;
    const reason = this.verdict ?? error;
    this.verdict = null;
    this.#failed(reason, reason);
    if (!this.#mayReturn(reason)) return this.#endWith(reason);
    if (this.#provedGood || upMs >= GOOD_MS) this.#backoff.reset();
    this.#provedGood = false;
    this.#requests.disconnect();
    this.#topics.disconnect();
    this.#change('reconnecting');
    if (reason.code === CloseCode.TOO_MANY_MESSAGES) this.#wish(PAUSE_MS);
    return this.#next(reason);
  }

  /** There came to be no connection; `final`: nor will there be by trying again. */
  refused(error: ConnectFailed, final = false): Next | null {
    if (this.ended !== null) return null;
    const status = error.status;
    let lost = this.verdict ?? error.lost;
    this.verdict = null;
    if (status !== null && status < 500 && !WORTH_ANOTHER_TRY.has(status)) {
      const code = status === 401 ? CloseCode.UNAUTHENTICATED : status === 403 ? CloseCode.FORBIDDEN : CloseCode.POLICY;
      lost = new ConnectionLost(code, error.message);
    }
    this.#failed(error, lost);
    const last = final || (this.state === 'connecting' && !this.#retry);
    if (lost !== null && !this.#mayReturn(lost)) return this.#endWith(lost);
    if (last) return this.#endWith(lost ?? new ConnectionLost(CloseCode.VANISHED, error.message));
    this.#wish(error.retryAfterMs ?? 0);
    return this.#next(error);
  }

  /** No more connections, until `begin`: everyone who waits hears `error`. The first end counts. */
  end(error: ConnectionLost): void {
    this.#end(error);
    this.#after();
  }

  /** The program leaves: as `end`, and is not told of it, for it knows. */
  leave(): void {
    this.#end(new ConnectionLost(CloseCode.NORMAL, 'closed by this client'), true);
    this.#after();
  }

  // Inside: nothing here calls the watch at once, except by #after.

  /** Returns whether handlers are to hear it. */
  #take(message: Envelope, sizeBytes: number): boolean {
    if (this.state !== 'connected') {
      this.#greet(message);
      return true;
    }
    if (message.reply_to != null) {
      if (this.#requests.answer(message)) this.#provedGood = true;
      return true;
    }
    if (message.topic == null && message.type === 'error') return true;
    this.#provedGood = true;
    if (message.type === 'system.draining' && message.topic === 'system') {
      const afterMs = message.payload.reconnect_after_ms;
      if (typeof afterMs === 'number') this.#wish(afterMs);
    }
    return this.#topics.deliver(message, sizeBytes);
  }

  #greet(message: Envelope): void {
    if (message.type !== 'connection.established') throw new Nonsense(`the first message is '${message.type}'`);
    const established = readEstablished(message.payload);
    this.established = established;
    this.failure = null;
    this.#wishMs = 0;
    this.#change('connected');
    // In this order: who we are, or the ids that follow would be another's; then the subscriptions, or what our commands
    // cause would be missed on ephemeral topics; then the commands.
    const again = this.#requests.connect(established.limits);
    if (this.#proof !== null) {
      this.#requests.add('authenticate', { token: this.#proof }, (outcome) => this.#proven(outcome), { ours: true });
    }
    if (this.verdict === null) {
      this.#topics.connect();
      this.#requests.resend(again);
    }
    this.#call(() => this.#watch.connected(established));
  }

  /** Subscriptions that were followed can't go on here, which is not yet for their consumers to hear. */
  #refused(error: NgosError): void {
    const afterMs = error instanceof CommandError ? error.details.retry_after_ms : 0;
    if (typeof afterMs === 'number') this.#wish(afterMs);
    this.#condemn(new ConnectionLost(CloseCode.TRY_AGAIN_LATER, error.message));
  }

  /** Keep a proof that was accepted: later connections are nobody's until they have shown it too. */
  #remembering(payload: object, done: (outcome: Outcome) => void): (outcome: Outcome) => void {
    const { token } = payload as { token?: unknown };
    return (outcome) => {
      if (typeof token === 'string' && !(outcome instanceof Error) && outcome.type === 'authenticated') {
        this.#proof = token;
        this.#call(() => this.#watch.proven(token));
      }
      done(outcome);
    };
  }

  #proven(outcome: Outcome): void {
    if (!(outcome instanceof Error)) return;
    const retryable = outcome instanceof CommandError && outcome.retryable;
    const code = retryable ? CloseCode.TRY_AGAIN_LATER : CloseCode.UNAUTHENTICATED;
    this.#condemn(new ConnectionLost(code, outcome.message));
  }

  #failed(failure: ConnectFailed | ConnectionLost, lost: ConnectionLost | null): void {
    this.failure = failure;
    this.#call(() => this.#watch.failed(failure));
    if (lost?.code === CloseCode.UNAUTHENTICATED) this.#refusedProof = this.#proof;
  }

  #condemn(error: ConnectionLost): void {
    this.verdict ??= error;
    // Before the greeting it is for `refused` to say.
    if (this.state === 'connected' && !this.#mayReturn(error)) this.#end(error);
  }

  #mayReturn(error: ConnectionLost): boolean {
    if (!error.mayReconnect) return false;
    if (error.code === CloseCode.UNAUTHENTICATED && !this.#terms.renewable) return false;
    return this.state === 'connecting' || this.#terms.reconnect;
  }

  #endWith(error: ConnectionLost): null {
    this.end(error);
    return null;
  }

  #end(error: ConnectionLost, silently = false): void {
    if (this.ended !== null) return;
    const told = this.established !== null && !silently;
    this.ended = error;
    this.failure = silently ? null : (this.failure ?? error);
    this.#requests.disconnect();
    this.#requests.fail(error);
    this.#topics.end(error);
    this.#change('ended');
    if (told) this.#call(() => this.#watch.disconnected(error, null));
  }

  #next(error: ConnectionLost | ConnectFailed): Next {
    const atLeastMs = this.#wishMs;
    this.#wishMs = 0;
    const waitMs = atLeastMs + this.#backoff.nextMs();
    if (this.established !== null) this.#call(() => this.#watch.disconnected(error, waitMs));
    this.#after();
    return { waitMs, atLeastMs };
  }

  #wish(ms: number): void {
    this.#wishMs = Math.max(this.#wishMs, Math.min(ms, LONGEST_WISH_MS));
  }

  #change(state: State): void {
    this.state = state;
    this.#call(() => this.#watch.state(state));
  }

  #call(call: () => void): void {
    this.#calls.push(call);
  }

  #after(): void {
    this.#watch.output();
    for (let call = this.#calls.shift(); call !== undefined; call = this.#calls.shift()) call();
  }
}

function readEstablished(payload: Envelope['payload']): ConnectionEstablished {
  const { server, limits, heartbeat, connection_id: connectionId, client_id: clientId } = payload;
  const numbers =
    isObject(limits) && isObject(heartbeat) && isObject(server)
      ? [limits.message_bytes, limits.in_flight, heartbeat.interval_ms, heartbeat.timeout_ms]
      : [null];
  if (
    numbers.some((value) => typeof value !== 'number') ||
    typeof connectionId !== 'string' ||
    typeof clientId !== 'string'
  ) {
    throw new Nonsense('not a payload of connection.established');
  }
  const established = payload as unknown as ConnectionEstablished;
  const spoken = established.server.protocol;
  if (spoken !== PROTOCOL_VERSION)
    throw new Nonsense(`the server speaks protocol ${spoken}, this client ${PROTOCOL_VERSION}`);
  return established;
}
