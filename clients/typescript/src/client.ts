/** The client, as programs see it. What the protocol means is in `session`, the sockets are in `line`. */

import { Api, type RequestOptions } from './api.js';
import { within } from './deadline.js';
import { Deferred, quiet } from './deferred.js';
import type { Envelope, MessageEnvelope, ReplyEnvelope } from './envelope.js';
import { CommandError, type LogPosition, type NgosError } from './errors.js';
import { Events, type EventsOptions } from './events.js';
import { callGuarded, Handlers } from './handlers.js';
import type { LifeEvents, State } from './life.js';
import { Line } from './line.js';
import type { BareCommand, CommandName } from './names.js';
import { addressOf, checkBound, checkTopic, type Options, startOf } from './options.js';
import type { Commands, ConnectionEstablished, JsonObject, Subscribed } from './protocol.js';
import type { Outcome } from './requests.js';
import { Session } from './session.js';
import type { SocketClass } from './socket/socket.js';
import { isSubscription, type SubscribeOptions, subscribe, subscription } from './subscription.js';

/** Make a client; nothing is opened yet. Throws TypeError where the options can't be. */
export function createWebSocket(options: Options | string): NeuroGraphWebSocket {
  return new NeuroGraphWebSocket(typeof options === 'string' ? { url: options } : options);
}

/**
 * A client of an ngos server, over all its connections.
 *
 * After a break it comes back by itself, sends unanswered commands again under their ids, and resumes its subscriptions.
 * Commands are sent in the order of the calls, without waiting for earlier replies; without a connection they wait for
 * the next. No promise of it ends a process when nobody looks at its rejection.
 */
export class NeuroGraphWebSocket extends Api {
  readonly clientId: string;
  readonly url: string;
  readonly #session: Session;
  readonly #line: Line;
  readonly #messages = new Handlers<Envelope>();
  readonly #life = new Handlers<LifeEvents[keyof LifeEvents]>();
  /** The first to hear of it: whoever waits for the connection, and the debug lines. */
  readonly #first: { [Name in keyof LifeEvents]?: (event: LifeEvents[Name]) => void } = {
    state: (state) => {
      this.#debug(state);
      // Who heard of the failure before may have begun anew.
      if (this.state === 'ended') this.#connected(({ reject }) => reject(this.error ?? this.#session.ended));
    },
    connected: (established) => this.#connected(({ resolve }) => resolve(established)),
    disconnected: ({ nextMs }) =>
      this.#debug(`${this.error?.message}; ${nextMs === null ? 'no more' : `again in ${Math.round(nextMs)} ms`}`),
    gap: ({ topic, seq }) => this.#debug(`events on '${topic}' after seq ${seq} are lost`),
  };
  readonly #requestTimeoutMs: number;
  readonly #reconnect: boolean;
  readonly #debug: (line: string) => void;
  #connecting: Deferred<ConnectionEstablished> | null = null;

  /** See `createWebSocket`. */
  constructor(options: Options = {}) {
    super();
    const { clientId, url, shownUrl } = addressOf(options);
    this.clientId = clientId;
    this.url = url;
    this.#requestTimeoutMs = options.requestTimeoutMs ?? 30_000;
    this.#reconnect = options.reconnect ?? true;
    const { debug, token } = options;
    this.#debug =
      typeof debug === 'function'
        ? (line) => callGuarded(debug, line)
        : debug === true
          ? (line) => console.debug(`[ngos] ${line}`)
          : () => {};
    const terms = {
      reconnect: this.#reconnect,
      renewable: typeof token === 'function',
      queueBytes: checkBound('queueBytes', options.queueBytes ?? 16 * 1024 * 1024),
      random: options.random ?? Math.random,
    };
    this.#session = new Session(terms, {
      output: () => this.#line?.flush(),
      life: (name, event) => {
        this.#first[name]?.(event);
        this.#life.call(name, event);
      },
      message: (message) => this.#hear(message),
    });
    this.#line = new Line(this.#session, {
      url,
      shownUrl,
      connectTimeoutMs: options.connectTimeoutMs ?? 10_000,
      WebSocket: options.WebSocket as SocketClass | undefined,
      token: () => this.#session.proof.accepted ?? (typeof token === 'function' ? token() : token),
      debug: this.#debug,
    });
  }

  get state(): State {
    return this.#session.state;
  }

  /** Why it ended, or the last failure; null while there is a connection, and after `disconnect`. */
  get error(): NgosError | null {
    return this.#session.failure;
  }

  isConnected(): boolean {
    return this.state === 'connected';
  }

  getConnectionId(): string | null {
    return this.isConnected() ? (this.#session.established?.connection_id ?? null) : null;
  }

  /**
   * Connect, and stay connected. Resolves with the server's greeting; while connecting, the same promise. May be called
   * again after `disconnect` or an end: what is subscribed goes on where it was.
   *
   * `retry` (default: the option `reconnect`) keeps trying until it is connected; else the first failure rejects with
   * ConnectFailed. A refusal that forbids coming back rejects in any case.
   */
  connect(options: { retry?: boolean } = {}): Promise<ConnectionEstablished> {
    const { state, established } = this.#session;
    if (state === 'connected' && established !== null) return Promise.resolve(established);
    if (this.#connecting !== null) return this.#connecting.promise;
    const connecting = new Deferred<ConnectionEstablished>();
    this.#connecting = connecting;
    if (state === 'reconnecting') {
      this.#line.hurry();
    } else {
      this.#session.begin(options.retry ?? this.#reconnect);
      if (this.state === 'connecting') this.#line.start();
    }
    return connecting.promise;
  }

  /** Say goodbye, for at most a second. What waits for a reply, and every iterator, rejects with ConnectionLost. */
  disconnect(): Promise<void> {
    // The line first: who hears of the end may connect anew.
    const gone = this.#line.leave();
    this.#session.leave();
    return gone;
  }

  /**
   * Send a command and look at no promise: its reply comes to `on` handlers, an error to those of 'error'. Returns its id,
   * which the reply has as `reply_to`. Of `subscribe` and `unsubscribe` too, where nothing had to be asked of the server.
   * Throws QueueFull, RequestTooBig, TypeError, RangeError, and ConnectionLost after an end.
   */
  send<Command extends BareCommand>(type: Command, payload?: Commands[Command]): string;
  send<Command extends CommandName>(type: Command, payload: Commands[Command]): string;
  send(type: string, payload?: JsonObject): string;
  send(type: string, payload: object = {}): string {
    if (isSubscription(type, payload)) {
      const id = this.#session.requests.newId();
      subscription(this.#session.topics, type, payload, (outcome) => this.#unheard(type, outcome, id), id);
      return id;
    }
    return this.#session.request(type, payload, (outcome) => this.#unheard(type, outcome));
  }

  /**
   * Send a command and resolve with its reply, whose `type` tells which of the command's replies it is.
   *
   * When the connection breaks before the reply, it is sent again under its id on the next, and still takes effect once;
   * the envelope's `replayed` says that it had before. Except `publish` to an ephemeral topic, which leaves nothing to
   * tell by: its event may come twice. `subscribe` and `unsubscribe` do what the methods of that name do, under ids of
   * their own.
   *
   * Rejects with CommandError (the server answered `error`), ConnectionLost, RequestTimeout, RequestTooBig, QueueFull, and
   * TypeError (the id is in use, or this is not JSON).
   */
  request<Command extends BareCommand>(
    type: Command,
    payload?: Commands[Command],
    options?: RequestOptions,
  ): Promise<ReplyEnvelope<Command>>;
  request<Command extends CommandName>(
    type: Command,
    payload: Commands[Command],
    options?: RequestOptions,
  ): Promise<ReplyEnvelope<Command>>;
  request(type: string, payload?: JsonObject, options?: RequestOptions): Promise<Envelope>;
  request(type: string, payload: object = {}, options: RequestOptions = {}): Promise<Envelope> {
    const { id: chosen, timeoutMs = this.#requestTimeoutMs, signal } = options;
    return within(type, timeoutMs, signal, (done) => {
      if (isSubscription(type, payload)) return subscription(this.#session.topics, type, payload, done);
      const id = this.#session.request(type, payload, done, chosen);
      return () => this.#session.forget(id);
    });
  }

  /** Hear messages of a type, or all with '*': replies, errors, events, the greeting. Returns its own `off`. */
  on<Type extends string>(type: Type, handler: (message: MessageEnvelope<Type>) => void): () => void {
    return this.#messages.on(type, handler as (message: Envelope) => void);
  }

  off<Type extends string>(type: Type, handler: (message: MessageEnvelope<Type>) => void): void {
    this.#messages.off(type, handler as (message: Envelope) => void);
  }

  /** Hear of the connection's life. Returns its own end. */
  onEvent<Name extends keyof LifeEvents>(name: Name, handler: (event: LifeEvents[Name]) => void): () => void {
    return this.#life.on(name, handler as (event: LifeEvents[keyof LifeEvents]) => void);
  }

  /**
   * Let `on` handlers hear a topic's events, until `unsubscribe`, over all connections, each once and in order. Idempotent
   * without `since`. Resolves with the server's agreement; where it rejects, the topic is not followed by this.
   */
  subscribe(topic: string, options: SubscribeOptions = {}): Promise<Subscribed> {
    const { topics } = this.#session;
    return within('subscribe', this.#requestTimeoutMs, undefined, (done) => subscribe(topics, topic, options, done));
  }

  /**
   * End `subscribe`: no event of the topic comes afterwards, except for those who hold it or iterate over it. Rejects with
   * RequestTimeout where the server does not answer; it has ended all the same.
   */
  unsubscribe(topic: string): Promise<void> {
    return within<void>('unsubscribe', this.#requestTimeoutMs, undefined, (done) => {
      this.#session.topics.unsubscribe(topic, () => done());
      return () => {};
    });
  }

  /**
   * As `subscribe`, counted: the topic is followed while anybody holds it. Returns the release. May be called at any time;
   * without a connection it counts from the next one on. `since` counts for the first who holds it.
   */
  hold(topic: string, options: SubscribeOptions = {}): () => void {
    checkTopic(topic);
    this.#session.topics.hold(topic, startOf(options));
    let held = true;
    return () => {
      if (held) this.#session.topics.release(topic);
      held = false;
    };
  }

  /** A topic's events as an async iterator with a buffer of its own; see Events. */
  events<Topic extends string>(topic: Topic, options: EventsOptions = {}): Events<Topic> {
    checkTopic(topic);
    return new Events(this.#session.topics, topic, startOf(options), options);
  }

  /** Where `on` handlers are in a durable topic's log: the last event that was dispatched, or what they started after. */
  position(topic: string): LogPosition | null {
    const place = this.#session.topics.place(topic);
    return place === null || place.epoch === null ? null : { epoch: place.epoch, seq: place.seq };
  }

  /** Whether `on` handlers hear a topic now: the server has agreed to it, on the connection that there is. */
  isFollowing(topic: string): boolean {
    return this.#session.topics.follows(topic);
  }

  /** The milliseconds from here to the server's command handling and back, a break included. Rejects as `request`. */
  ping(): Promise<number> {
    const startMs = performance.now();
    return quiet(this.request('ping', {}).then(() => performance.now() - startMs));
  }

  /** It has come to something: connecting is over. */
  #connected(settle: (connecting: Deferred<ConnectionEstablished>) => void): void {
    const connecting = this.#connecting;
    this.#connecting = null;
    if (connecting !== null) settle(connecting);
  }

  #hear(message: Envelope): void {
    this.#messages.call(message.type, message);
    if (message.type !== '*') this.#messages.call('*', message);
  }

  /** What a command that `send` sent came to. Handlers heard it, unless it was the answer to another one than `id`. */
  #unheard(type: string, outcome: Outcome, id?: string): void {
    const reply = outcome instanceof CommandError ? outcome.reply : outcome;
    if (outcome instanceof Error) this.#debug(`${type}: ${outcome.message}`);
    // Later: whoever called is to have the id first.
    if (id !== undefined && !(reply instanceof Error) && reply.reply_to !== id) {
      queueMicrotask(() => this.#hear({ ...reply, reply_to: id }));
    }
  }
}
