/** The part of the WebSocket interface that this client uses: the platform's, or this package's own for Node 20. */

// By the condition `node` in package.json this is `lazy`, else `none`: bundles for browsers have no trace of it.
import { loadSocket } from '#socket';

/** What the server answered instead of a handshake, where the platform tells it. */
export interface Refusal {
  readonly reason: string;
  readonly status: number | null;
  readonly retryAfterMs: number | null;
}

export interface Socket {
  binaryType: string;
  onmessage: ((event: { data: unknown }) => void) | null;
  onclose: ((event: { code: number; reason: string }) => void) | null;
  onerror: ((event: unknown) => void) | null;
  /** Only on this package's own: why there came to be no connection. */
  readonly refusal?: Refusal | null;
  readonly readyState?: number;
  send(text: string): void;
  close(code?: number, reason?: string): void;
}

export type SocketClass = new (url: string) => Socket;

/** The class to open sockets with; `given` goes first, then the platform's. Rejects where there is none. */
export async function findSocket(given: SocketClass | undefined): Promise<SocketClass> {
  const platform = given ?? (globalThis.WebSocket as SocketClass | undefined);
  if (platform !== undefined) return platform;
  if (loadSocket === null) throw new TypeError('this platform has no WebSocket: give one as an option');
  return loadSocket();
}
