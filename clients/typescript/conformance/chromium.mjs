/**
 * The conformance actor in headless Chromium: a page has loaded the same actor code and the built dist, and lines are
 * passed both ways. NGOS_CHROMIUM may name the browser. What the page's console says, errors included, goes to stderr.
 */

import { accessSync, constants } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { delimiter, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';

const HERE = fileURLToPath(new URL('..', import.meta.url));
const NAMES = ['chromium', 'chromium-browser', 'google-chrome'];
const FLAGS = ['--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking'];
FLAGS.push('--disable-component-update', '--disable-sync');

const PAGE = `<!doctype html><meta charset="utf-8"><title>actor</title>
<script type="importmap">{"imports": {"#socket": "/dist/socket/none.js"}}</script>
<script type="module">
  import { createWebSocket } from '/dist/index.js';
  import { createActor } from '/conformance/actor.mjs';
  // What is reported in one task goes out as one: each crossing from the page to this program costs half a millisecond.
  let lines = [];
  window.order = createActor(createWebSocket, (report) => {
    if (lines.push(JSON.stringify(report)) > 1) return;
    setTimeout(() => {
      window.report(lines.join('\\n'));
      lines = [];
    });
  });
</script>`;

function findBrowser() {
  if (process.env.NGOS_CHROMIUM) return process.env.NGOS_CHROMIUM;
  const folders = ['/usr/bin', ...(process.env.PATH ?? '').split(delimiter)];
  for (const path of NAMES.flatMap((name) => folders.map((folder) => join(folder, name)))) {
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {}
  }
  throw new Error(`none of ${NAMES.join(', ')} is here: set NGOS_CHROMIUM`);
}

/** Serves the page, and the modules under dist/ and conformance/. */
async function serve() {
  const server = createServer(async (request, response) => {
    const path = request.url ?? '/';
    if (path === '/') {
      response.setHeader('Content-Type', 'text/html').end(PAGE);
    } else if (/^\/(dist|conformance)(\/[\w-]+)+\.m?js$/.test(path)) {
      const text = await readFile(join(HERE, path)).catch(() => null);
      response
        .setHeader('Content-Type', 'text/javascript')
        .writeHead(text === null ? 404 : 200)
        .end(text);
    } else {
      response.writeHead(path === '/favicon.ico' ? 204 : 404).end();
    }
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return `http://127.0.0.1:${server.address().port}/`;
}

const url = await serve();
const root = process.getuid?.() === 0;
const browser = await chromium.launch({
  executablePath: findBrowser(),
  args: root ? ['--no-sandbox', ...FLAGS] : FLAGS,
  // The pipe's end is the browser's: it never outlives this program.
  handleSIGHUP: true,
});
const page = await browser.newPage();
page.on('console', (message) => console.error(`page ${message.type()}: ${message.text()}`));
page.on('pageerror', (error) => console.error(`page error: ${error.stack ?? error}`));
page.on('crash', () => process.exit(1));
await page.exposeBinding('report', (_source, line) => process.stdout.write(`${line}\n`));
await page.goto(url);
await page.waitForFunction('window.order');
const { version } = (await import('../package.json', { with: { type: 'json' } })).default;
process.stdout.write(`${JSON.stringify({ ready: { client: 'chromium', version, tells_refusals: false } })}\n`);
createInterface({ input: process.stdin, crlfDelay: Number.POSITIVE_INFINITY })
  // Not awaited: an order that waits holds up no other, and they arrive in the order that they are given.
  .on('line', (line) => {
    page.evaluate(`void window.order(${JSON.stringify(line)})`).catch((error) => console.error(String(error)));
  })
  .on('close', async () => {
    await browser.close().catch(() => {});
    process.exit();
  });
