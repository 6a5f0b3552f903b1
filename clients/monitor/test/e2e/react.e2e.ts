/** The user's React program, in a real browser, against a real server. */

import { createWebSocket, type NeuroGraphWebSocket } from '@neurograph/client';
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { launch, watch } from './browsers.js';
import { type App, serveReactPage } from './react-page.js';

declare const app: App;

describe.skipIf(!inject('hasChromium'))('TokenMonitor in Chromium', () => {
  const server = inject('server');
  let browser: Browser;
  let writer: NeuroGraphWebSocket;

  beforeAll(async () => {
    browser = await launch();
    writer = createWebSocket({ url: server.url });
    await writer.connect();
  });

  afterAll(async () => {
    await writer?.disconnect();
    await browser?.close();
  });

  const stats = async () => (await fetch(`${server.http}/ws/stats`)).json();

  test.each([18, 19] as const)(
    'Tries to break: on React %i under StrictMode it follows, refreshes and leaves, over one socket.',
    async (major) => {
      const shown = await serveReactPage(major);
      const watched = await watch(browser);
      const { page } = watched;
      // The program names its server itself; it is led to the one that there is.
      await page.addInitScript((host) => {
        const Real = WebSocket;
        globalThis.WebSocket = class extends Real {
          constructor(url: string | URL, protocols?: string | string[]) {
            super(String(url).replace('localhost:8000', host), protocols);
          }
        };
      }, new URL(server.http).host);
      await page.goto(shown.url);
      await page.getByRole('heading', { name: 'Token Monitor 🟢' }).waitFor();
      expect(await page.evaluate(() => app.version)).toMatch(new RegExp(`^${major}\\.`));
      await expect.poll(async () => (await stats()).topics.tokens).toBe(1);

      const marked = `react-${major}`;
      await writer.createToken({ type: marked, weight: 0.5 });
      await page.getByText(`${marked} - 0.5`).waitFor();
      await page.evaluate(() => {
        for (let n = 0; n < 500; n += 1) app.mount();
      });
      await writer.createToken({ type: `${marked}-again`, weight: 1 });
      await page.getByText(`${marked}-again - 1`).waitFor();
      expect(watched.sockets).toBe(1);
      expect((await stats()).topics).toEqual({ tokens: 1 });

      await page.evaluate(() => app.unmount());
      await expect.poll(async () => (await stats()).active_connections).toBe(1);
      await page.evaluate(() => app.mount());
      await page.getByRole('heading', { name: 'Token Monitor 🟢' }).waitFor();
      await page.getByRole('button', { name: 'Refresh' }).click();
      await page.getByText(`${marked}-again - 1`).waitFor();
      expect(watched.sockets).toBe(2);
      expect(watched.faults).toEqual([]);
      await watched.close();
      shown.stop();
      await expect.poll(async () => (await stats()).active_connections).toBe(1);
    },
  );
});
