/**
 * What may go wrong, and whose fault it is.
 *
 *     NgosError
 *     ├── ConnectFailed     there is no connection: the URL, the network, or the server's refusal
 *     ├── ConnectionLost    there was one, or there is to be none: it says with which close code it ended
 *     ├── CommandError      the server answered `error`; the connection stays (protocol.md section 7)
 *     ├── NotFound          the server answered that it has no such token
 *     ├── RequestTimeout    no answer within the caller's time; whether it took effect is unknown
 *     ├── RequestTooBig     the caller's: over the server's `message_bytes`; nothing was sent
 *     ├── QueueFull         the caller's: `queueBytes` of commands wait for replies already; nothing was queued
 *     ├── GapError          the log no longer holds what a subscription is due: events are missing
 *     └── SlowSubscriber    the consumer's: it read ephemeral events slower than they came
 *
 * An argument that can't be is a TypeError or a RangeError.
 */

import type { Envelope } from './envelope.js';
import { CloseCode, type ErrorCode, type JsonObject, MAY_RECONNECT } from './protocol.js';

/** A place in a durable topic's log. */
export interface LogPosition {
  epoch: string;
  seq: number;
}

/** The root of the tree above. */
export class NgosError extends Error {
  override name = 'NgosError';
}

/**
 * No connection to `url`. `status` is the HTTP status where the server answered with one and the platform tells it:
 * this package's own socket does, browsers do not. `retryAfterMs` is what it asked for; `lost` is set where there was a
 * connection, but no greeting.
 */
export class ConnectFailed extends NgosError {
  override name = 'ConnectFailed';
  readonly url: string;
  readonly reason: string;
  readonly status: number | null;
  readonly retryAfterMs: number | null;
  readonly lost: ConnectionLost | null;

  constructor(
    url: string,
    reason: string,
    more: { status?: number | null; retryAfterMs?: number | null; lost?: ConnectionLost | null } = {},
  ) {
    super(`can't connect to ${url}: ${reason}`);
    this.url = url;
    this.reason = reason;
    this.status = more.status ?? null;
    this.retryAfterMs = more.retryAfterMs ?? null;
    this.lost = more.lost ?? null;
  }
}

/**
 * The connection ended with close code `code` (protocol.md section 8; 1006: without a goodbye). A client that reconnects
 * rejects with it only when that is over: after a code or a refusal that does not let it (401 is told as 4401, 403 as
 * 4403), and after `disconnect()`.
 */
export class ConnectionLost extends NgosError {
  override name = 'ConnectionLost';
  readonly code: number;
  readonly reason: string;

  constructor(code: number, reason: string) {
    super(`connection lost: ${reason || 'no reason given'} (${code})`);
    this.code = code;
    this.reason = reason;
  }

  /** Whether protocol.md section 8 lets a client connect again by itself. */
  get mayReconnect(): boolean {
    return this.code === CloseCode.VANISHED || MAY_RECONNECT.has(this.code);
  }
}

/** The server answered `error`. `reply` is the whole envelope. */
export class CommandError extends NgosError {
  override name = 'CommandError';
  readonly code: ErrorCode | (string & {});
  readonly retryable: boolean;
  readonly details: JsonObject;
  /** For how long the server asks to wait, where it does: `rate_limited` does. */
  readonly retryAfterMs: number | null;
  readonly reply: Envelope;

  constructor(reply: Envelope) {
    const { code, message, retryable, details } = reply.payload;
    super(`${String(code)}: ${String(message)}`);
    this.code = String(code);
    this.retryable = retryable === true;
    this.details = typeof details === 'object' && details !== null ? (details as JsonObject) : {};
    const { retry_after_ms: afterMs } = this.details;
    this.retryAfterMs = typeof afterMs === 'number' ? afterMs : null;
    this.reply = reply;
  }
}

/** The server has no token `tokenId`. */
export class NotFound extends NgosError {
  override name = 'NotFound';
  readonly tokenId: string;

  constructor(tokenId: string) {
    super(`no token ${tokenId}`);
    this.tokenId = tokenId;
  }
}

/** No reply to `command` within `timeoutMs`. Send it again with the same id to find out. */
export class RequestTimeout extends NgosError {
  override name = 'RequestTimeout';
  readonly command: string;
  readonly timeoutMs: number;

  constructor(command: string, timeoutMs: number) {
    super(`no reply to ${command} within ${timeoutMs} ms`);
    this.command = command;
    this.timeoutMs = timeoutMs;
  }
}

/**
 * The command is `sizeBytes` long and the server takes `limitBytes`; sending it would end the connection. Where the
 * server that the client came back to takes less than the one before, whether it took effect is unknown.
 */
export class RequestTooBig extends NgosError {
  override name = 'RequestTooBig';
  readonly command: string;
  readonly sizeBytes: number;
  readonly limitBytes: number;

  constructor(command: string, sizeBytes: number, limitBytes: number) {
    super(`${command} takes ${sizeBytes} bytes, the server's limit is ${limitBytes}`);
    this.command = command;
    this.sizeBytes = sizeBytes;
    this.limitBytes = limitBytes;
  }
}

/** Commands without a reply take `waitingBytes` already, of `limitBytes` (the option `queueBytes`). */
export class QueueFull extends NgosError {
  override name = 'QueueFull';
  readonly command: string;
  readonly sizeBytes: number;
  readonly waitingBytes: number;
  readonly limitBytes: number;

  constructor(command: string, sizeBytes: number, waitingBytes: number, limitBytes: number) {
    super(`no room for ${command}, ${sizeBytes} bytes: ${waitingBytes} of ${limitBytes} bytes wait for replies`);
    this.command = command;
    this.sizeBytes = sizeBytes;
    this.waitingBytes = waitingBytes;
    this.limitBytes = limitBytes;
  }
}

/**
 * Events of a durable topic after `seq` in `epoch` can't be had any more (protocol.md section 5). `now` is the server's
 * position, null where the topic is not durable any more. Nobody's fault but time's: fetch the state anew, and subscribe
 * `since` its position.
 */
export class GapError extends NgosError {
  override name = 'GapError';
  readonly topic: string;
  readonly seq: number;
  readonly epoch: string | null;
  readonly now: LogPosition | null;

  constructor(topic: string, seq: number, epoch: string | null, now: LogPosition | null) {
    const there = now === null ? 'keeps no log now' : `is at seq ${now.seq} of epoch ${now.epoch}`;
    super(`events on '${topic}' after seq ${seq} are lost, the server ${there}`);
    this.topic = topic;
    this.seq = seq;
    this.epoch = epoch;
    this.now = now;
  }
}

/** The buffer of an iterator over an ephemeral topic was full; what came next is lost. */
export class SlowSubscriber extends NgosError {
  override name = 'SlowSubscriber';
  readonly topic: string;

  constructor(topic: string) {
    super(`events on '${topic}' came faster than they were read, and are not kept for later`);
    this.topic = topic;
  }
}
