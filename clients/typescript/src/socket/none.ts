/** What browsers' bundles have instead of a socket for Node: nothing, for browsers have their own. */

import type { SocketClass } from './socket.js';

export const loadSocket: (() => Promise<SocketClass>) | null = null;
