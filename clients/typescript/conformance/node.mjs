/** The conformance actor in Node, with the package's built dist: orders on stdin, reports on stdout. */

import { createInterface } from 'node:readline';
import { createWebSocket } from '../dist/index.js';
import { createActor } from './actor.mjs';

const report = (what) => process.stdout.write(`${JSON.stringify(what)}\n`);
const order = createActor(createWebSocket, report);
const { version } = (await import('../package.json', { with: { type: 'json' } })).default;
// Up to Node 20 the socket is the client's own; the platform's, where there is one, says as little as a browser's.
report({ ready: { client: 'node', version, tells_refusals: globalThis.WebSocket === undefined } });
createInterface({ input: process.stdin, crlfDelay: Number.POSITIVE_INFINITY })
  .on('line', order)
  .on('close', () => process.exit());
