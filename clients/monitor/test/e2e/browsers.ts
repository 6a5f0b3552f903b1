/** Headless Chromium, and pages of which everything that went wrong is kept. */

import { existsSync } from 'node:fs';
import { type Browser, type BrowserContext, type BrowserContextOptions, chromium, type Page } from 'playwright-core';

/** The one that the environment names, else Debian's. */
export const CHROMIUM = process.env.NGOS_CHROMIUM ?? '/usr/bin/chromium';

/** Nothing on these pages takes this long. */
const WAIT_MS = 10_000;

/** How Chromium without a GPU brings WebGL to the screen; not the page's doing. */
const OF_SOFTWARE_GL = /^\[\.WebGL-.*GPU stall due to ReadPixels/;

const FLAGS = [
  '--no-sandbox', // containers run as root
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

/** Whether there is a Chromium. Where there is none: false and a line that can't be missed; on CI an error. */
export function hasChromium(): boolean {
  if (existsSync(CHROMIUM)) return true;
  if (process.env.CI) throw new Error(`there is no Chromium at ${CHROMIUM}, and CI must not go without it`);
  console.warn(
    `\n!!! NO CHROMIUM AT ${CHROMIUM}: THE BROWSER TESTS ARE SKIPPED (NGOS_CHROMIUM names another one) !!!\n`,
  );
  return false;
}

export function launch(...flags: string[]): Promise<Browser> {
  return chromium.launch({ executablePath: CHROMIUM, args: [...FLAGS, ...flags] });
}

/** An event of a durable topic, as the page's client heard it. */
export interface SeenEvent {
  readonly type: string;
  readonly topic: string;
  readonly epoch: string;
  readonly seq: number;
}

/** A page in a browser context of its own, and what was noticed of it. */
export interface Watched {
  readonly page: Page;
  readonly context: BrowserContext;
  /** Console errors, exceptions, violations of the CSP, and answers of 400 and above. Nothing is expected here. */
  readonly faults: string[];
  /** What Chromium itself prints when a WebSocket can't connect: the program can't prevent it. */
  readonly refusals: string[];
  /** How many WebSockets it opened. */
  sockets: number;
  /** How often the document was loaded. */
  loads: number;
  close(): Promise<void>;
}

/** Open a page; it is not led anywhere yet. */
export async function watch(browser: Browser, options: BrowserContextOptions = {}): Promise<Watched> {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(WAIT_MS);
  const watched: Watched = {
    page,
    context,
    faults: [],
    refusals: [],
    sockets: 0,
    loads: 0,
    close: () => context.close(),
  };
  await page.addInitScript(keepEvents);
  await page.addInitScript(() => {
    addEventListener('securitypolicyviolation', (event) => {
      console.error(`CSP: ${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`);
    });
    addEventListener('unhandledrejection', (event) => console.error(`unhandled rejection: ${event.reason}`));
  });
  page.on('domcontentloaded', () => {
    watched.loads += 1;
  });
  page.on('pageerror', (error) => watched.faults.push(`exception: ${error.stack ?? error.message}`));
  page.on('crash', () => watched.faults.push('the page crashed'));
  page.on('console', (message) => {
    const { url } = message.location();
    if (message.type() !== 'error' && message.type() !== 'warning') return;
    if (OF_SOFTWARE_GL.test(message.text())) return;
    const isRefusal = /^WebSocket connection to '[^']*' failed/.test(message.text());
    (isRefusal ? watched.refusals : watched.faults).push(`console ${message.type()}: ${message.text()} (${url})`);
  });
  page.on('response', (response) => {
    if (response.status() >= 400) watched.faults.push(`${response.status()} ${response.url()}`);
  });
  page.on('requestfailed', (request) =>
    watched.faults.push(`failed: ${request.url()} ${request.failure()?.errorText}`),
  );
  page.on('websocket', () => {
    watched.sockets += 1;
  });
  return watched;
}

declare global {
  var seenEvents: SeenEvent[];
}

/**
 * In the page: keep what its sockets hand to its client. Not what comes over the network: that may be on a socket that
 * the client has given up, and then comes again on the next.
 */
function keepEvents(): void {
  globalThis.seenEvents = [];
  globalThis.WebSocket = class extends WebSocket {
    constructor(url: string | URL, protocols?: string | string[]) {
      super(url, protocols);
      this.addEventListener('message', ({ data }) => {
        if (!this.onmessage) return;
        const { type, topic, epoch, seq } = JSON.parse(data);
        if (typeof seq === 'number') globalThis.seenEvents.push({ type, topic, epoch, seq });
      });
    }
  };
}

/** All events that the page's client has heard, on all its connections. */
export function seenBy({ page }: Watched): Promise<SeenEvent[]> {
  return page.evaluate(() => globalThis.seenEvents);
}

/** Stop the processes of this browser that run pages, as a machine that sleeps does. Returns what lets them go on. */
export async function stopRenderers(browser: Browser): Promise<() => void> {
  const session = await browser.newBrowserCDPSession();
  const { processInfo } = await session.send('SystemInfo.getProcessInfo');
  await session.detach();
  const ids = processInfo.filter(({ type }) => type === 'renderer').map(({ id }) => id);
  for (const id of ids) process.kill(id, 'SIGSTOP');
  return () => {
    for (const id of ids) process.kill(id, 'SIGCONT');
  };
}
