/** The conformance actor in Node, with the package's built dist: orders on stdin, reports on stdout. */

import { createInterface } from 'node:readline';
import { createWebSocket } from '../dist/index.js';
import { createActor } from './actor.mjs';

const report = (what) => process.stdout.write(`${JSON.stringify(what)}\n`);
const order = createActor(createWebSocket, report);
const { version } = (await import('../package.json', { with: { type: 'json' } })).default;
report({ ready: { client: 'node', version } });
createInterface({ input: process.stdin, crlfDelay: Number.POSITIVE_INFINITY })
  .on('line', order)
  .on('close', () => process.exit());
