/** Stands where browsers' bundles would have the socket for Node: they have their own. */

import type { SocketClass } from './socket.js';

export const NodeSocket: SocketClass | null = null;
