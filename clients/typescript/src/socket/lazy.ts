/** Node's stand-in for `none`: loads this package's own socket where it is wanted, which is in Node 20. */

import type { SocketClass } from './socket.js';

export const loadSocket: (() => Promise<SocketClass>) | null = async () => (await import('./node.js')).NodeSocket;
