/** A page around the user's TokenMonitor, bundled on the fly with the React that is asked for. */

import { once } from 'node:events';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { build } from 'vite';

const at = (path: string) => join(import.meta.dirname, path);
const ENTRY = 'virtual:token-monitor-page';

const PROGRAM = `
import { createElement, StrictMode, version } from 'react';
import { createRoot } from 'react-dom/client';
import { TokenMonitor } from ${JSON.stringify(at('../../../typescript/test/react/token-monitor.jsx'))};

let root = null;
let rendered = 0;
globalThis.app = {
  version,
  mount() {
    root ??= createRoot(document.getElementById('root'));
    rendered += 1;
    root.render(createElement(StrictMode, null, createElement(TokenMonitor, { rendered })));
  },
  unmount() {
    root?.unmount();
    root = null;
  },
};
app.mount();
`;

/** What the bundled page offers to the test. */
export interface App {
  readonly version: string;
  /** Mount it under StrictMode, or render it again. */
  mount(): void;
  unmount(): void;
}

/**
 * Serve the page, from a server of its own: Chromium lets no page that a test makes up connect to this machine.
 *
 * @param major The React to bundle, as a development build: StrictMode mounts twice in them only.
 */
export async function serveReactPage(major: 18 | 19): Promise<{ url: string; stop(): void }> {
  const html = await bundle(major);
  const server = createServer((_, response) => {
    response.setHeader('Content-Type', 'text/html; charset=utf-8');
    response.end(html);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (!address || typeof address === 'string') throw new Error('no port');
  return { url: `http://127.0.0.1:${address.port}/`, stop: () => server.close() };
}

async function bundle(major: 18 | 19): Promise<string> {
  const modules = at(major === 18 ? '../../../react-18/node_modules' : '../../../node_modules');
  const result = await build({
    configFile: false,
    logLevel: 'error',
    mode: 'development',
    define: { 'process.env.NODE_ENV': '"development"' },
    resolve: { alias: [{ find: /^(react|react-dom)(\/.*)?$/, replacement: `${modules}/$1$2` }] },
    plugins: [
      {
        name: 'page',
        resolveId: (id) => (id === ENTRY ? id : null),
        load: (id) => (id === ENTRY ? PROGRAM : null),
      },
    ],
    build: { write: false, minify: false, rollupOptions: { input: ENTRY, output: { codeSplitting: false } } },
  });
  const [built] = [result].flat();
  if (!built || !('output' in built)) throw new Error('nothing was built');
  const code = built.output[0].code.replaceAll('</script', '<\\/script');
  return `<!doctype html><html lang="en"><title>TokenMonitor</title><link rel="icon" href="data:,">
<div id="root"></div><script type="module">${code}</script></html>`;
}
