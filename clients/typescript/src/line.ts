/**
 * One connection of a client after another: opened, served until it breaks, and opened anew. Owns the sockets and the
 * timers; what any of it means, and whether and when there is a next one, is the session's to say.
 */

import type { Next } from './backoff.js';
import { ConnectFailed, ConnectionLost } from './errors.js';
import { watchPresence } from './presence.js';
import { CloseCode, type ConnectionEstablished } from './protocol.js';
import type { Session } from './session.js';
import { findSocket, type Refusal, type Socket, type SocketClass } from './socket/socket.js';
import { startTimer, type Timer } from './timer.js';
import { Vigil } from './vigil.js';

/** So long may a goodbye take. */
const CLOSE_MS = 1_000;
/** The `readyState` of a socket that takes messages. */
const OPEN = 1;
/** What is said to a server that speaks nonsense: of 1002 and its like browsers can send none. */
export const NONSENSE_CODE = 4002;

export interface LineTerms {
  url: string;
  /** The same as errors and debug lines tell it: a query may hold secrets. */
  shownUrl: string;
  connectTimeoutMs: number;
  WebSocket: SocketClass | undefined;
  /** The token to show first on the next connection; null: none. Asked before each. */
  token: () => string | null | undefined | Promise<string | null | undefined>;
  debug: (line: string) => void;
}

type Heartbeat = ConnectionEstablished['heartbeat'];

/** The sockets of one session, at most one at a time. */
export class Line {
  readonly #session: Session;
  readonly #terms: LineTerms;
  #socket: Socket | null = null;
  /** Counts the tries: what belongs to an earlier one finds that it is over. */
  #try = 0;
  #seeking = false;
  #greetedMs = 0;
  #opening: Timer | undefined;
  #waiting: Timer | undefined;
  #notBeforeMs = 0;
  #vigil: Vigil | null = null;
  #unwatch: (() => void) | null = null;

  constructor(session: Session, terms: LineTerms) {
    this.#session = session;
    this.#terms = terms;
  }

  /** Open the first connection. The session has begun. */
  start(): void {
    this.#unwatch ??= watchPresence(
      () => {
        this.#vigil?.doubt();
        this.hurry();
      },
      () => this.#vigil?.doubt(),
    );
    this.#open();
  }

  /** The session has output. */
  flush(): void {
    const socket = this.#socket;
    // One that is closing takes nothing: browsers drop what it is given, and say so in their console.
    if (socket === null || (socket.readyState ?? OPEN) > OPEN) return;
    for (let message = this.#session.takeOutput(); message !== null; message = this.#session.takeOutput()) {
      socket.send(message);
    }
  }

  /** Say goodbye, for at most a second. The session has ended. */
  leave(): Promise<void> {
    const socket = this.#socket;
    this.#stop();
    if (socket === null) return Promise.resolve();
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, CLOSE_MS);
      socket.onclose = () => {
        clearTimeout(timer);
        resolve();
      };
      hangUp(socket, CloseCode.NORMAL, '');
    });
  }

  /** Don't wait out the backoff: there is reason to think that a connection can be had. */
  hurry(): void {
    if (this.#waiting === undefined) return;
    this.#schedule(Math.max(0, this.#notBeforeMs - performance.now()));
  }

  #open(): void {
    // Who connects anew while an end is told does it before the socket, or the try, of before was put away.
    this.#drop(CloseCode.NORMAL, '');
    const attempt = this.#try;
    this.#seeking = true;
    this.#greetedMs = 0;
    const { connectTimeoutMs } = this.#terms;
    this.#opening = startTimer(() => this.#failed(`no answer within ${connectTimeoutMs} ms`, false), connectTimeoutMs);
    void this.#connect(attempt);
  }

  async #connect(attempt: number): Promise<void> {
    const terms = this.#terms;
    // A token may be there later; a platform without sockets, or one that does not take the address, stays as it is.
    let final = false;
    try {
      const token = (await terms.token()) ?? null;
      if (attempt !== this.#try) return;
      if (!this.#session.prove(token)) {
        this.#next(null);
        return;
      }
      final = true;
      const SocketClass = await findSocket(terms.WebSocket);
      if (attempt !== this.#try) return;
      terms.debug(`connecting to ${terms.shownUrl}`);
      this.#serve(new SocketClass(terms.url));
    } catch (error) {
      if (attempt === this.#try) this.#failed(error instanceof Error ? error.message : String(error), final);
    }
  }

  #serve(socket: Socket): void {
    this.#socket = socket;
    socket.binaryType = 'arraybuffer';
    socket.onmessage = (event) => this.#received(event.data);
    socket.onclose = (event) => this.#closed(socket, event.code, event.reason);
    socket.onerror = () => {}; // the close that follows says what there is to say
  }

  #received(data: unknown): void {
    const session = this.#session;
    this.#vigil?.heard();
    if (this.#seeking) {
      // The first message: the greeting, or nonsense. Before the handlers are called: they may disconnect, or send.
      this.#greetedMs = Date.now();
      clearTimeout(this.#opening);
      this.#seeking = false;
    }
    const attempt = this.#try;
    session.receive(data);
    if (attempt !== this.#try) return;
    if (session.verdict !== null) this.#hangUp(session.verdict);
    else this.#vigil ??= this.#watch(session.established?.heartbeat);
  }

  #watch(heartbeat: Heartbeat | undefined): Vigil | null {
    if (heartbeat === undefined) return null;
    const { interval_ms: intervalMs, timeout_ms: timeoutMs } = heartbeat;
    const probe = () => this.#session.probe();
    return new Vigil(intervalMs, timeoutMs, probe, (silentMs) => this.#silent(silentMs));
  }

  #silent(silentMs: number): void {
    const reason = `nothing came from the server for ${silentMs} ms`;
    this.#session.endConnection(new ConnectionLost(CloseCode.NO_SIGN_OF_LIFE, reason));
    if (this.#session.verdict !== null) this.#hangUp(this.#session.verdict);
  }

  /** The session's verdict: no goodbye is waited for, a browser may take minutes to see that nobody is there. */
  #hangUp(verdict: ConnectionLost): void {
    const nonsense = verdict.code === CloseCode.PROTOCOL_ERROR;
    const code = nonsense ? NONSENSE_CODE : verdict.code >= 3000 ? verdict.code : CloseCode.NORMAL;
    this.#drop(code, nonsense ? 'protocol error' : '');
    this.#over(verdict, null);
  }

  #closed(socket: Socket, code: number, reason: string): void {
    this.#forget();
    this.#over(new ConnectionLost(code, reason), socket.refusal ?? null);
  }

  #failed(reason: string, final: boolean): void {
    this.#drop(CloseCode.NORMAL, '');
    this.#next(this.#session.refused(new ConnectFailed(this.#terms.shownUrl, reason), final));
  }

  /** This connection, or the try for one, is over. */
  #over(lost: ConnectionLost, refusal: Refusal | null): void {
    const session = this.#session;
    const greeted = session.state === 'connected' || session.ended !== null;
    const upMs = Math.max(0, Date.now() - this.#greetedMs);
    if (greeted) {
      this.#next(session.disconnected(lost, upMs));
      return;
    }
    const vanished = lost.code === CloseCode.VANISHED;
    const reason = refusal?.reason ?? (vanished ? 'no connection' : `closed before the greeting: ${lost.message}`);
    const failed = new ConnectFailed(this.#terms.shownUrl, reason, { ...refusal, lost: vanished ? null : lost });
    this.#next(session.refused(failed));
  }

  #next(next: Next | null): void {
    if (next === null) {
      if (this.#session.ended !== null) this.#stop();
      return;
    }
    // A handler that was told may have left, and begun anew.
    if (this.#session.ended !== null || this.#seeking) return;
    // Not by the clock: set back an hour, it would have us wait for that long.
    this.#notBeforeMs = performance.now() + next.atLeastMs;
    this.#schedule(next.waitMs);
  }

  #schedule(waitMs: number): void {
    clearTimeout(this.#waiting);
    this.#waiting = startTimer(() => {
      this.#waiting = undefined;
      this.#open();
    }, waitMs);
  }

  #stop(): void {
    this.#forget();
    this.#unwatch?.();
    this.#unwatch = null;
    clearTimeout(this.#waiting);
    this.#waiting = undefined;
  }

  /** Hear no more of the socket that there is, and close it. */
  #drop(code: number, reason: string): void {
    const socket = this.#socket;
    this.#forget();
    if (socket !== null) hangUp(socket, code, reason);
  }

  /** Hear no more of the socket that there is, and of its timers. */
  #forget(): void {
    const socket = this.#socket;
    this.#try++;
    this.#socket = null;
    this.#seeking = false;
    clearTimeout(this.#opening);
    this.#vigil?.stop();
    this.#vigil = null;
    if (socket === null) return;
    socket.onmessage = socket.onclose = null;
  }
}

/** Close, whatever the socket's state. */
function hangUp(socket: Socket, code: number, reason: string): void {
  try {
    socket.close(code, reason);
  } catch {
    socket.close();
  }
}
