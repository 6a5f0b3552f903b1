/** A client that lives as long as a component. */

import { useCallback, useEffect, useMemo, useState, useSyncExternalStore } from 'react';
import { createWebSocket, type NeuroGraphWebSocket, type NgosError, type Options, type State } from '../index.js';
import type { MaybeToken } from '../options.js';
import { useLatest } from './latest.js';

/** The client's options, and when to connect. Give them inline: only `clientId` and `token` make a new client. */
export interface ConnectionOptions extends Omit<Options, 'url'> {
  /** Whether to connect on mount, trying until it succeeds. Default: true; else `connect` does it. */
  readonly autoConnect?: boolean | undefined;
}

const CALLS = [
  'connect',
  'disconnect',
  'send',
  'request',
  'subscribe',
  'unsubscribe',
  'createToken',
  'getToken',
  'listTokens',
  'updateToken',
  'deleteToken',
  'connectTokens',
  'getNeighbors',
] as const;

/** The client's methods, to be used without it. */
type Calls = Pick<NeuroGraphWebSocket, (typeof CALLS)[number]>;

/** The client, its methods and what it says of its connection. `ws` and the methods are the same in every render. */
export interface Connection extends Calls {
  readonly ws: NeuroGraphWebSocket;
  readonly isConnected: boolean;
  readonly state: State;
  readonly connectionId: string | null;
  /** Why the connection ended, or failed last. */
  readonly error: NgosError | null;
}

/** What makes it another client: who it is, and where. */
interface Identity {
  readonly url: string | undefined;
  readonly clientId: string | undefined;
  /** A function's identity says nothing, it is new in each render: the one of the last render is asked. */
  readonly token: string | 'function' | undefined;
}

interface Made {
  readonly identity: Identity;
  readonly ws: NeuroGraphWebSocket;
  readonly calls: Calls;
  /** How often it is mounted: 0 or 1, but for moments. Changed by effects only. */
  mounts: number;
}

/**
 * A client of the server at `url`: connected on mount, disconnected on unmount.
 *
 * Another `url`, `clientId` or `token` makes another client; other options are those of the render that made it, save
 * that functions among them may change. Safe under StrictMode (one connection, not two) and on the server, where
 * nothing is connected. Each component that calls it has a client of its own: hand `ws` on to share it.
 *
 * @param url `ws://…/ws`; without it, that of the server that the page came from.
 */
export function useNeuroGraphWebSocket(url?: string, options: ConnectionOptions = {}): Connection {
  const { autoConnect = true } = options;
  const latest = useLatest(options);
  const identity: Identity = {
    url,
    clientId: options.clientId,
    token: typeof options.token === 'function' ? 'function' : options.token,
  };
  // State, not a memo: React may forget memos, and with one a connection.
  const [kept, keep] = useState(() => make(identity, options, latest));
  let made = kept;
  if (!same(kept.identity, identity)) {
    made = make(identity, options, latest);
    keep(made);
  }
  const { ws, calls } = made;

  useEffect(() => {
    made.mounts += 1;
    return () => {
      made.mounts -= 1;
      // Not at once: StrictMode mounts it again before this microtask, and keeps its connection.
      queueMicrotask(() => {
        if (made.mounts === 0) void made.ws.disconnect().catch(ignore);
      });
    };
  }, [made]);
  useEffect(() => {
    // What goes wrong is told by `error`.
    if (autoConnect) void ws.connect().catch(ignore);
  }, [ws, autoConnect]);

  const state = useOf<State>(ws, stateOf, () => 'idle');
  const connectionId = useOf(ws, connectionIdOf, () => null);
  const error = useOf(ws, errorOf, () => null);
  return useMemo(
    () => ({ ...calls, ws, isConnected: state === 'connected', state, connectionId, error }),
    [calls, ws, state, connectionId, error],
  );
}

const stateOf = (ws: NeuroGraphWebSocket): State => ws.state;
const connectionIdOf = (ws: NeuroGraphWebSocket): string | null => ws.getConnectionId();
const errorOf = (ws: NeuroGraphWebSocket): NgosError | null => ws.error;
const ignore = (): void => {};

/** What `read` says of the client, rendered anew whenever it says something else. */
function useOf<T>(ws: NeuroGraphWebSocket, read: (ws: NeuroGraphWebSocket) => T, onServer: () => T): T {
  const subscribe = useCallback(
    (changed: () => void) => {
      const told = () => changed();
      const offs = [ws.onEvent('state', told), ws.onEvent('connected', told), ws.onEvent('failed', told)];
      return () => {
        for (const off of offs) off();
      };
    },
    [ws],
  );
  return useSyncExternalStore(subscribe, () => read(ws), onServer);
}

function same(a: Identity, b: Identity): boolean {
  return a.url === b.url && a.clientId === b.clientId && a.token === b.token;
}

/** Opens nothing: React may throw away what a render has made. */
function make(identity: Identity, options: ConnectionOptions, latest: { readonly current: ConnectionOptions }): Made {
  const { autoConnect: _, token, debug, ...rest } = options;
  const ws = createWebSocket({
    ...rest,
    url: addressOf(identity.url),
    token: typeof token === 'function' ? () => tokenOf(latest.current) : token,
    debug: typeof debug === 'function' ? (line) => print(latest.current, line) : debug,
  });
  const calls = Object.fromEntries(CALLS.map((name) => [name, (ws[name] as () => unknown).bind(ws)]));
  return { identity, ws, calls: calls as unknown as Calls, mounts: 0 };
}

/** On a server there is no page to take an address from, and none is needed: nothing is connected there. */
function addressOf(url: string | undefined): string | undefined {
  const isWhole = url !== undefined && /^\w+:/.test(url);
  return isWhole || typeof location !== 'undefined' ? url : 'ws://there-is-no-page.invalid/ws';
}

function tokenOf({ token }: ConnectionOptions): MaybeToken | Promise<MaybeToken> {
  return typeof token === 'function' ? token() : token;
}

function print({ debug }: ConnectionOptions, line: string): void {
  if (typeof debug === 'function') debug(line);
  else if (debug) console.debug(line);
}
