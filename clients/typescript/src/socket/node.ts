/** The socket for Node 20. */

export { NodeSocket } from './none.js';
