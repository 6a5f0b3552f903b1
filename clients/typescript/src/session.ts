/**
 * The client's side of the protocol without I/O: the cycle of connections, from one greeting to why it ended and when the
 * next is due. Who waits for which reply is in `requests`, what is followed in `topics`, what is told of it all in `life`.
 *
 * Never waits, reads no clock, has no timers: the shell (`line`) does. It outlives connections: the shell brings it one
 * after another and asks it, each time one ends, whether and when to bring the next. Feeding it what the server sends
 * never throws; a failure is a state that everyone who waits hears of.
 *
 * The shell's duties: `begin`; for each connection `receive` each message, send what `takeOutput` returns whenever
 * `output` was called, end the connection when there is a `verdict`, then call `disconnected`; or `refused`, where there
 * came to be none. Both return when the next is due, or null: no more.
 */

import { Backoff, type Next } from './backoff.js';
import { type Envelope, Nonsense, parse } from './envelope.js';
import { CommandError, ConnectFailed, ConnectionLost, type NgosError } from './errors.js';
import { readGreeting } from './greeting.js';
import { Life, type State, type Watch } from './life.js';
import { Proof } from './proof.js';
import { CloseCode, type ConnectionEstablished } from './protocol.js';
import { type Outcome, Requests } from './requests.js';
import { Topics } from './topics.js';

/** A connection that lasted so long proved good, if nothing else did. */
const GOOD_MS = 5_000;
/** The least wait after 4429, "too many messages for too long". */
const PAUSE_MS = 1_000;
const WORTH_ANOTHER_TRY: ReadonlySet<number> = /* @__PURE__ */ new Set([408, 425, 429]);

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
  /** The commands that wait for a reply. */
  readonly requests: Requests;
  /** Who this client says that it is. */
  readonly proof = new Proof();
  /** What is followed. */
  readonly topics: Topics;
  readonly #terms: Terms;
  readonly #life: Life;
  readonly #backoff: Backoff;
  #retry = true;
  #provedGood = false;

  constructor(terms: Terms, watch: Watch) {
    this.#terms = terms;
    this.#life = new Life(watch);
    this.#backoff = new Backoff(terms.random);
    this.requests = new Requests(terms.queueBytes);
    this.topics = new Topics(this.requests, this.#life, terms.reconnect, (error) => this.#refused(error));
  }

  /** Seek a connection; `retry`: also after a first one that fails. */
  begin(retry: boolean): void {
    this.ended = this.verdict = this.established = this.failure = null;
    this.proof.begin();
    this.topics.begin();
    this.#retry = retry;
    this.#provedGood = false;
    this.#backoff.forgetWish();
    this.#backoff.reset();
    this.#change('connecting');
    this.#life.settled();
  }

  /**
   * Queue a command and return its id; `done` is called once with what it comes to. It is sent when there is a connection
   * and its turn has come, and again, under the same id, where one breaks before the reply. Throws ConnectionLost, and
   * RequestTooBig, QueueFull and TypeError, the caller's faults; then nothing was queued.
   */
  request(name: string, payload: object, done: (outcome: Outcome) => void, id?: string): string {
    if (this.ended !== null) throw this.ended;
    const heard = name === 'authenticate' ? this.proof.keeping(payload, done) : done;
    const chosen = this.requests.add(name, payload, heard, { id });
    this.#life.settled();
    return chosen;
  }

  /** Nobody waits for this reply any more. What was not taken yet is never sent. */
  forget(id: string): void {
    this.requests.forget(id);
    this.#life.settled(); // there may be room on the wire now
  }

  /** Show this token first on the next connection. False: it was refused already, and the session has ended. */
  prove(token: string | null): boolean {
    if (this.ended !== null) return false;
    if (this.proof.show(token)) return true;
    this.end(new ConnectionLost(CloseCode.UNAUTHENTICATED, 'the token was refused, and there is no other'));
    return false;
  }

  /** Ask for a sign of life, of this connection only. */
  probe(): void {
    if (this.state === 'connected') this.requests.add('ping', {}, () => {}, { ours: true });
    this.#life.settled();
  }

  /** Take one message from the server; a connection's first is its greeting. What can't be read is a verdict, 1002. */
  receive(data: unknown): void {
    if (this.ended !== null || this.verdict !== null) return;
    try {
      const message = parse(data);
      if (this.#take(message, (data as string).length)) {
        this.#life.message(message);
        return;
      }
    } catch (error) {
      if (!(error instanceof Nonsense)) throw error;
      this.#condemn(new ConnectionLost(CloseCode.PROTOCOL_ERROR, error.message));
    }
    this.#life.settled();
  }

  /** The next message to send, in the order of the calls that caused them, or null: nothing for now. */
  takeOutput(): string | null {
    return this.state === 'connected' && this.verdict === null ? this.requests.take() : null;
  }

  /** Set the verdict, if there is none: the shell is to end this connection. `disconnected` comes after it. */
  endConnection(error: ConnectionLost): void {
    this.#condemn(error);
    this.#life.settled();
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
    this.requests.disconnect();
    this.topics.disconnect();
    this.#change('reconnecting');
    if (reason.code === CloseCode.TOO_MANY_MESSAGES) this.#backoff.wish(PAUSE_MS);
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
    this.#backoff.wish(error.retryAfterMs);
    return this.#next(error);
  }

  /** No more connections, until `begin`: everyone who waits hears `error`. The first end counts. */
  end(error: ConnectionLost): void {
    this.#end(error);
    this.#life.settled();
  }

  /** The program leaves: as `end`, and is not told of it, for it knows. */
  leave(): void {
    this.#end(new ConnectionLost(CloseCode.NORMAL, 'closed by this client'), true);
    this.#life.settled();
  }

  // Inside: nothing here settles.

  /** Returns whether handlers are to hear it. */
  #take(message: Envelope, sizeBytes: number): boolean {
    if (this.state !== 'connected') {
      this.#greet(message);
      return true;
    }
    if (message.reply_to != null) {
      if (this.requests.answer(message)) this.#provedGood = true;
      return true;
    }
    if (message.topic == null && message.type === 'error') return true;
    this.#provedGood = true;
    if (message.type === 'system.draining' && message.topic === 'system') {
      this.#backoff.wish(message.payload.reconnect_after_ms);
    }
    return this.topics.deliver(message, sizeBytes);
  }

  #greet(message: Envelope): void {
    const established = readGreeting(message);
    this.established = established;
    this.failure = null;
    this.#backoff.forgetWish();
    this.#change('connected');
    this.#life.tell('connected', established);
    // In this order: who we are, or the ids that follow would be another's; then the subscriptions, or what our commands
    // cause would be missed on ephemeral topics; then the commands.
    const again = this.requests.connect(established.limits);
    const { token } = this.proof;
    const proven = (outcome: Outcome) => this.#proven(outcome);
    if (token !== null) this.requests.add('authenticate', { token }, proven, { ours: true });
    if (this.verdict !== null) return;
    this.topics.connect();
    this.requests.resend(again);
  }

  /** Subscriptions that were followed can't go on here, which is not yet for their consumers to hear. */
  #refused(error: NgosError): void {
    if (error instanceof CommandError) this.#backoff.wish(error.retryAfterMs);
    this.#condemn(new ConnectionLost(CloseCode.TRY_AGAIN_LATER, error.message));
  }

  #proven(outcome: Outcome): void {
    if (!(outcome instanceof Error)) return;
    const retryable = outcome instanceof CommandError && outcome.retryable;
    if (retryable) this.#backoff.wish(outcome.retryAfterMs);
    const code = retryable ? CloseCode.TRY_AGAIN_LATER : CloseCode.UNAUTHENTICATED;
    this.#condemn(new ConnectionLost(code, outcome.message));
  }

  #failed(failure: ConnectFailed | ConnectionLost, lost: ConnectionLost | null): void {
    this.failure = failure;
    this.#life.tell('failed', failure);
    if (lost?.code === CloseCode.UNAUTHENTICATED) this.proof.refuse();
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
    this.requests.disconnect();
    this.requests.fail(error);
    this.topics.end(error);
    this.#change('ended');
    if (told) this.#disconnected(error, null);
  }

  #next(error: ConnectionLost | ConnectFailed): Next {
    const next = this.#backoff.next();
    if (this.established !== null) this.#disconnected(error, next.waitMs);
    this.#life.settled();
    return next;
  }

  #disconnected(error: ConnectionLost | ConnectFailed, nextMs: number | null): void {
    const code = error instanceof ConnectFailed ? (error.lost?.code ?? CloseCode.VANISHED) : error.code;
    this.#life.tell('disconnected', { code, reason: error.reason, nextMs });
  }

  #change(state: State): void {
    this.state = state;
    this.#life.tell('state', state);
  }
}
