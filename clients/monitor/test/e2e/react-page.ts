/** A page around the user's TokenMonitor, bundled on the fly with the React that is asked for. */

import { fileURLToPath } from 'node:url';
import { build } from 'vite';

const at = (path: string) => fileURLToPath(new URL(path, import.meta.url));
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
 * The page as one document. Development builds of React: StrictMode mounts twice in them only.
 *
 * @param major 18 or 19.
 */
export async function reactPage(major: 18 | 19): Promise<string> {
  const modules = at(major === 18 ? '../../../react-18/node_modules' : '../../../node_modules');
  const result = await build({
    configFile: false,
    logLevel: 'warn',
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
    build: { write: false, minify: false, rollupOptions: { input: ENTRY, output: { format: 'iife' } } },
  });
  const [bundle] = [result].flat();
  if (!bundle || !('output' in bundle)) throw new Error('nothing was built');
  const code = bundle.output[0].code.replaceAll('</script', '<\\/script');
  return `<!doctype html><html lang="en"><title>TokenMonitor</title><link rel="icon" href="data:,">
<div id="root"></div><script>${code}</script></html>`;
}
