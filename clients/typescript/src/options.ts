/** What a client is made with, and what of it can't be. */

import type { Place } from './follower.js';
import { randomHex } from './random.js';

/** Null, undefined: none. */
export type MaybeToken = string | null | undefined;

export interface Options {
  /** As in `ws://127.0.0.1:8000/ws`; in browsers the default is the page's own host, `/ws`. */
  url?: string | undefined;
  /**
   * 1 to 128 of `A-Z a-z 0-9 . _ : -`. It names this client to others, and makes its commands idempotent. Default: the
   * URL's `client_id`, else random.
   */
  clientId?: string | undefined;
  /**
   * Shown by the command `authenticate`, first on each connection. A function is asked anew for each connection, null:
   * none; after 4401 ("not, or no longer, authenticated") the client comes back only with another token than the one
   * refused. What `authenticate` was accepted with takes its place, until that is refused.
   */
  token?: string | (() => MaybeToken | Promise<MaybeToken>) | undefined;
  /** Whether to come back after a break; true. */
  reconnect?: boolean | undefined;
  /** Tell of the connection's life, line by line: true for `console.debug`. Tokens are never told. */
  debug?: boolean | ((line: string) => void) | undefined;
  /** For each reply, breaks included; 30,000. */
  requestTimeoutMs?: number | undefined;
  /** From opening to the greeting; 10,000. */
  connectTimeoutMs?: number | undefined;
  /** Bytes of commands without a reply; beyond, QueueFull. 16 MiB. */
  queueBytes?: number | undefined;
  /** The dice of the backoff, from 0 to 1; `Math.random`. */
  random?: (() => number) | undefined;
  /** Opens the sockets. Default: the platform's; in Node 20, which has none, one of this package. */
  WebSocket?: typeof WebSocket | undefined;
}

const NAME = /^[A-Za-z0-9._:-]{1,128}$/;
const EPOCH = /^[0-9a-f]{8}$/;

/** Where the server is, and who we are to it. */
export interface Address {
  readonly clientId: string;
  readonly url: string;
  /** The same as errors and debug lines tell it: the rest may hold secrets. */
  readonly shownUrl: string;
}

/** The address of connections; the client's id may be in the URL. Throws TypeError: the caller's fault. */
export function addressOf({ url, clientId: given }: Options): Address {
  const page = (globalThis as { location?: { href: string } }).location?.href;
  let whole: URL | undefined;
  try {
    whole = new URL(url ?? '/ws', page);
    whole.protocol = whole.protocol.replace(/^http/, 'ws');
  } catch {
    // Told below, with what is a URL of another kind.
  }
  if (whole === undefined || !/^wss?:$/.test(whole.protocol)) {
    throw new TypeError(`not a URL such as ws://127.0.0.1:8000/ws: ${String(url)}`);
  }
  const { protocol, host, pathname, searchParams } = whole;
  const clientId = given ?? (searchParams.get('client_id') || `client_${randomHex(8)}`);
  if (!NAME.test(clientId)) throw new TypeError(`not a client id: ${clientId}`);
  searchParams.set('client_id', clientId);
  whole.hash = '';
  return { clientId, url: whole.href, shownUrl: `${protocol}//${host}${pathname}` };
}

/** Throws TypeError where this is no topic's name: the server would refuse it, and with it others that it was asked for. */
export function checkTopic(topic: string): void {
  if (typeof topic !== 'string' || !NAME.test(topic)) throw new TypeError(`not a topic: ${String(topic)}`);
}

/** Where to start, or null: live. Throws RangeError where it can't be a position. */
export function startOf(options: {
  since?: number | null | undefined;
  epoch?: string | null | undefined;
}): Place | null {
  const { since, epoch } = options;
  if (since == null) return null;
  if (!Number.isSafeInteger(since) || since < 0 || (epoch != null && !EPOCH.test(epoch))) {
    throw new RangeError(`not a position: since ${since}, epoch ${String(epoch)}`);
  }
  return { epoch: epoch ?? null, seq: since };
}

/** Throws RangeError where this is no bound: with NaN all comparisons are false, and nothing would be bounded. */
export function checkBound(name: string, bound: number): number {
  if (!(bound >= 0)) throw new RangeError(`not a bound: ${name} ${bound}`);
  return bound;
}
