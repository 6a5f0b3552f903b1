/** Bundles each entry as a page would have it, prints its size, and fails where it is over its budget. */

import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { build } from 'vite';

/**
 * Bytes, minified and gzipped. That of the client was meant to be 10,000; it is what the client takes, and a hundredth more,
 * so that growth is a decision. A third of it is what follows topics, an eighth texts of errors. The hooks are without React
 * and without the client, which their page has anyway.
 */
const BUDGETS = { '.': 10_930, './react': 1_400 };

const { exports } = await import('./package.json', { with: { type: 'json' } }).then((module) => module.default);
let failed = false;
for (const [entry, budget] of Object.entries(BUDGETS)) {
  const file = fileURLToPath(new URL(exports[entry].default, import.meta.url));
  const { output } = await build({
    configFile: false,
    logLevel: 'error',
    build: {
      write: false,
      minify: true,
      target: 'es2022',
      modulePreload: false,
      rolldownOptions: { input: file, preserveEntrySignatures: 'strict', external: [/^react/, /^\.\.\//] },
    },
  }).then((results) => (Array.isArray(results) ? results[0] : results));
  // What a page loads at once, and what only a platform without WebSocket would.
  const first = output.filter((chunk) => chunk.type === 'chunk' && !chunk.isDynamicEntry);
  const code = first.map((chunk) => chunk.code).join('');
  if (/node:|createHash/.test(code)) throw new Error(`${entry}: the socket for Node is in the bundle`);
  const bytes = gzipSync(code, { level: 9 }).length;
  console.log(`${entry}: ${code.length} bytes, gzipped ${bytes} of ${budget}`);
  failed ||= bytes > budget;
}
if (failed) {
  console.error('over the budget');
  process.exitCode = 1;
}
