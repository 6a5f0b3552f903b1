/** Two pages and a writer, while the server is killed and the network goes: nothing is missed, nobody reloads. */

import { createWebSocket, type NeuroGraphWebSocket } from '@neurograph/client';
import type { Browser } from 'playwright-core';
import { afterAll, afterEach, beforeAll, describe, expect, inject, test } from 'vitest';
import { TestServer } from '../../../typescript/test/server.js';
import { launch, seenBy, stopRenderers, type Watched, watch } from './browsers.js';
import { visit } from './monitor-page.js';
import { type Network, startNetwork } from './network.js';
import { faultsOf, readLog, TOPICS } from './truth.js';

/** A connection that is dead is found out after 2 seconds, not 10. */
const QUICK = ['--heartbeat-interval-s', '5', '--heartbeat-timeout-s', '2'];

/** Who writes: how many rounds are done, and the end of it. */
interface Written {
  count: number;
  stop(): Promise<void>;
}

declare global {
  var longestPauseMs: number;
}

describe.skipIf(!inject('hasChromium'))('The page survives', () => {
  let server: TestServer;
  let network: Network;
  let browser: Browser;
  let writer: NeuroGraphWebSocket;
  let pages: Watched[];
  let written: Written | undefined;

  beforeAll(async () => {
    [server, browser] = await Promise.all([TestServer.start({ flags: QUICK }), launch()]);
    network = await startNetwork(server.http);
    writer = createWebSocket({ url: server.url, random: () => 0.2 });
    await writer.connect();
  });

  afterEach(async () => {
    await written?.stop();
    for (const watched of pages) await watched.close();
  });

  afterAll(async () => {
    await writer?.disconnect();
    await network?.stop();
    await Promise.all([browser?.close(), server?.stop()]);
  });

  /** Pages of the server, loaded and following. */
  async function open(count: number, address: string): Promise<void> {
    pages = [];
    for (let n = 0; n < count; n += 1) pages.push(await watch(browser));
    await Promise.all(
      pages.map(async ({ page }) => {
        // The dice of the backoff: each pause is as long as it can be.
        await page.addInitScript(() => {
          Math.random = () => 0.999;
        });
        await visit(page, address);
      }),
    );
  }

  /** Changes without end, of all kinds, through breaks too. */
  function write(): Written {
    let isOver = false;
    const state = { count: 0, stop };
    const loop = async () => {
      while (!isOver) {
        const a = await writer.createToken({ type: 'survivor', coord_x: [Math.random()] });
        const b = await writer.createToken({ type: 'survivor', coord_x: [Math.random()] });
        await writer.connectTokens(a.token_id, b.token_id);
        await writer.updateToken(a.token_id, { weight: 2 });
        if (state.count % 2) await writer.deleteToken(b.token_id);
        state.count += 1;
      }
    };
    const writing = Promise.all([loop(), loop(), loop()]);
    async function stop(): Promise<void> {
      isOver = true;
      await writing;
    }
    return state;
  }

  const states = () => Promise.all(pages.map(({ page }) => page.evaluate(() => ngosMonitor?.state)));
  const stateOfAll = (state: string) => expect.poll(states, { timeout: 15_000 }).toEqual(pages.map(() => state));

  /** All that the log holds has come to every page, once, in order, and is what the page shows. */
  async function expectNothingMissed(): Promise<void> {
    const { total } = await writer.listTokens({ limit: 1, total: true });
    for (const topic of TOPICS) {
      const log = await readLog(server, topic);
      for (const watched of pages) {
        const { page } = watched;
        const seen = () => page.evaluate((name) => ngosMonitor?.positions[name]?.seq ?? 0, topic);
        await expect.poll(seen).toBe(log.length);
        expect(faultsOf(await seenBy(watched), log, topic)).toEqual([]);
      }
    }
    for (const { page } of pages) await expect.poll(() => page.evaluate(() => ngosMonitor?.tokens)).toBe(total);
    for (const { faults, loads } of pages) expect({ faults, loads }).toEqual({ faults: [], loads: 1 });
  }

  test('Tries to break: the server is killed twice under load; both pages go on, with every event, without reload.', async () => {
    await open(2, server.http);
    written = write();
    for (const kill of [1, 2]) {
      const before = written.count;
      await expect.poll(() => written?.count).toBeGreaterThan(before + 20);
      await server.kill();
      await stateOfAll('reconnecting');
      for (const { page } of pages) await page.locator('.connection', { hasText: 'Reconnecting' }).waitFor();
      await server.restart();
      await stateOfAll('connected');
      for (const { page, sockets } of pages) {
        await page
          .getByRole('status')
          .filter({ hasText: /back after .* resumed/ })
          .waitFor();
        expect(sockets).toBeGreaterThan(kill);
      }
    }
    const before = written.count;
    await expect.poll(() => written?.count).toBeGreaterThan(before + 20);
    await written.stop();
    await expectNothingMissed();
  });

  test('Tries to break: the network goes and comes back; the page says so, catches up, and does not wait out its pause.', async () => {
    await open(1, network.http);
    const [watched] = pages as [Watched];
    written = write();
    await watched.context.setOffline(true);
    network.cut();
    await stateOfAll('reconnecting');
    await watched.page.locator('.connection', { hasText: 'Reconnecting' }).waitFor();
    // Long enough away for the pause to have grown: to 4 seconds.
    await expect.poll(() => watched.refusals.length, { timeout: 20_000 }).toBeGreaterThan(2);
    network.mend();
    const mended = performance.now();
    await watched.context.setOffline(false);
    await stateOfAll('connected');
    expect(performance.now() - mended).toBeLessThan(2500);
    await written.stop();
    await expectNothingMissed();
  });

  test('Tries to break: a page that is hidden, and stands still, misses nothing and shows it when it is looked at.', async () => {
    await open(1, server.http);
    const [watched] = pages as [Watched];
    const { page } = watched;
    // Headless Chromium shows every page, and freezes none: hiding is played, standing still is its process, stopped.
    const turn = (visibility: 'hidden' | 'visible') =>
      page.evaluate((state) => {
        Object.defineProperty(document, 'visibilityState', { value: state, configurable: true });
        Object.defineProperty(document, 'hidden', { value: state === 'hidden', configurable: true });
        document.dispatchEvent(new Event('visibilitychange'));
      }, visibility);
    await page.evaluate(() => {
      let lastMs = performance.now();
      globalThis.longestPauseMs = 0;
      setInterval(() => {
        globalThis.longestPauseMs = Math.max(globalThis.longestPauseMs, performance.now() - lastMs);
        lastMs = performance.now();
      }, 10);
    });
    await turn('hidden');
    written = write();
    await expect.poll(() => written?.count).toBeGreaterThan(20);
    const wake = await stopRenderers(browser);
    try {
      const { count } = written;
      const stoppedMs = performance.now();
      await expect.poll(() => performance.now() - stoppedMs > 1000 && (written?.count ?? 0) > count + 100).toBe(true);
    } finally {
      wake();
    }
    await written.stop();
    await turn('visible');
    await expectNothingMissed();
    expect(await page.evaluate(() => globalThis.longestPauseMs)).toBeGreaterThan(800);
  });
});
