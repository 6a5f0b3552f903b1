/** How the page looks and reads: both themes, small screens, assistive technology. */

import { createWebSocket } from '@neurograph/client';
import { type AxeResults, source as axeSource } from 'axe-core';
import type { Browser, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, describe, expect, inject, test } from 'vitest';
import { launch, type Watched, watch } from './browsers.js';
import { fill, openPart, PARTS, select, visit } from './monitor-page.js';

declare global {
  var axe: { run(options: object): Promise<AxeResults> };
}

describe.skipIf(!inject('hasChromium'))('The monitor page looks right', () => {
  const server = inject('server');
  let browser: Browser;
  let watched: Watched;

  beforeAll(async () => {
    browser = await launch();
    const client = createWebSocket(server.url);
    await client.connect();
    const tokens = await Promise.all(
      Array.from({ length: 30 }, (_, n) =>
        client.createToken({
          type: `kind-${n % 4}`,
          coord_x: [Math.cos(n)],
          coord_y: [Math.sin(n)],
          weight: n / 10,
          metadata: { name: n === 0 ? 'Hub' : `A token with a name that is rather long, number ${n}` },
        }),
      ),
    );
    const [hub, ...others] = tokens.map(({ token_id }) => token_id) as [string, ...string[]];
    await Promise.all(others.map((other) => client.connectTokens(hub, other, { type: 'a type that is long as well' })));
    await client.disconnect();
  });

  afterEach(async () => {
    await watched.close();
    expect(watched.faults).toEqual([]);
  });

  afterAll(async () => {
    await browser?.close();
  });

  async function open(options: Parameters<typeof watch>[1]): Promise<Page> {
    watched = await watch(browser, options);
    await visit(watched.page, server.http);
    return watched.page;
  }

  /** What axe finds that people would stumble over. */
  async function barriers(page: Page): Promise<string[]> {
    const { violations } = await page.evaluate(() => globalThis.axe.run({ resultTypes: ['violations'] }));
    return violations
      .filter(({ impact }) => impact === 'serious' || impact === 'critical')
      .flatMap(({ id, nodes }) => nodes.map(({ target, failureSummary }) => `${id} at ${target}: ${failureSummary}`));
  }

  test.each(['light', 'dark'] as const)(
    'Tries to break: in the %s theme no part of the page is a barrier, in any of its states.',
    async (colorScheme) => {
      const page = await open({ colorScheme, reducedMotion: 'reduce' });
      await page.evaluate(axeSource);
      for (const part of PARTS) {
        await openPart(page, part);
        expect({ part, barriers: await barriers(page) }).toEqual({ part, barriers: [] });
      }
      await page.getByRole('button', { name: 'Create token' }).waitFor();
      await fill(page, { weight: 'heavy' });
      await page.getByRole('button', { name: 'Create token' }).click();
      await page.getByRole('alert').waitFor();
      expect(await barriers(page)).toEqual([]);

      await select(page, 'Hub');
      await page.locator('.neighbors li').first().waitFor();
      await page.locator('.connection summary').click();
      expect(await barriers(page)).toEqual([]);
      await page.locator('.connection summary').click();
      await page.getByRole('button', { name: 'Change' }).click();
      expect(await barriers(page)).toEqual([]);
      await page.getByRole('button', { name: 'Cancel' }).click();
      await page.getByRole('button', { name: 'Delete' }).click();
      await page.getByRole('dialog').waitFor();
      expect(await barriers(page)).toEqual([]);
    },
  );

  test('Tries to break: on a screen of 320 pixels no part of the page has to be scrolled sideways.', async () => {
    const page = await open({ viewport: { width: 320, height: 640 }, hasTouch: true, isMobile: true });
    const views = page.getByRole('navigation', { name: 'Parts of the page' }).getByRole('button');
    const names = await views.allTextContents();
    expect(names.length).toBeGreaterThan(2);
    for (const name of names) {
      await views.filter({ hasText: name }).click();
      if (name === 'Find') await page.getByRole('button', { name: 'Hub', exact: true }).waitFor();
      const width = await page.evaluate(() => {
        scrollTo(1000, 0);
        return { scrolled: scrollX, content: document.documentElement.scrollWidth, shown: innerWidth };
      });
      expect({ name, ...width }).toEqual({ name, scrolled: 0, content: 320, shown: 320 });
    }
    await views.filter({ hasText: 'Find' }).click();
    await page.getByRole('button', { name: 'Hub', exact: true }).click();
    await page.locator('.neighbors li').first().waitFor();
    expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBe(320);
  });

  test('Tries to break: the theme follows the system as it changes, until somebody chooses, which is kept.', async () => {
    const page = await open({ colorScheme: 'light' });
    const brightness = () =>
      page.evaluate(() => {
        // A canvas reads any notation of colours.
        const brush = document.createElement('canvas').getContext('2d') as CanvasRenderingContext2D;
        brush.fillStyle = getComputedStyle(document.body).backgroundColor;
        brush.fillRect(0, 0, 1, 1);
        const [red = 0, green = 0, blue = 0] = brush.getImageData(0, 0, 1, 1).data;
        return (red + green + blue) / 3;
      });
    await expect.poll(brightness).toBeGreaterThan(200);
    await page.emulateMedia({ colorScheme: 'dark' });
    await expect.poll(brightness).toBeLessThan(60);
    await page.getByRole('button', { name: 'Light theme' }).click();
    await expect.poll(brightness).toBeGreaterThan(200);
    await visit(page, server.http);
    await expect.poll(brightness).toBeGreaterThan(200);
  });
});
