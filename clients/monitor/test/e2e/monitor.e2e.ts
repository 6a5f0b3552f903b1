/** The page that a real server shows at `/`, as people use it, two at a time. */

import { createWebSocket, type NeuroGraphWebSocket } from '@neurograph/client';
import type { Browser } from 'playwright-core';
import { afterAll, afterEach, beforeAll, describe, expect, inject, test } from 'vitest';
import { launch, type Watched, watch } from './browsers.js';
import { createNamed, face, fill, find, openPart, select, visit } from './monitor-page.js';

declare global {
  var graphics: WEBGL_lose_context | undefined;
}

describe.skipIf(!inject('hasChromium'))('The monitor page', () => {
  const server = inject('server');
  let browser: Browser;
  let client: NeuroGraphWebSocket;
  const open: Watched[] = [];

  beforeAll(async () => {
    browser = await launch();
    client = createWebSocket(server.url);
    await client.connect();
  });

  afterEach(async () => {
    const closing = open.splice(0);
    for (const watched of closing) await watched.close();
    expect(closing.flatMap(({ faults, refusals }) => [...faults, ...refusals])).toEqual([]);
  });

  afterAll(async () => {
    await client?.disconnect();
    await browser?.close();
  });

  /** Another browser's page, which has loaded. */
  async function another() {
    const watched = await watch(browser);
    open.push(watched);
    await visit(watched.page, server.http);
    return watched.page;
  }

  test('Tries to break: what one browser creates, connects, changes and deletes, the other one shows.', async () => {
    const [a, b] = [await another(), await another()];
    await createNamed(a, 'Ada', { type: 'person', weight: '2' });
    await createNamed(b, 'Bob', { type: 'person' });
    await (await find(b, 'Ada')).waitFor();
    await select(b, 'Ada');

    await select(a, 'Ada');
    await a.getByRole('button', { name: 'Connect' }).click();
    await select(a, 'Bob');
    const connect = a.getByRole('form', { name: 'Connect two tokens' });
    await connect.getByLabel('Type').fill('knows');
    await connect.getByRole('button', { name: 'Connect' }).click();
    await b
      .locator('.neighbors li')
      .filter({ hasText: /Bob.*knows/ })
      .waitFor();

    await a.getByRole('button', { name: 'Change' }).click();
    await fill(a, { weight: '5.5' });
    await a.getByRole('button', { name: 'Save changes' }).click();
    await face(b, 'weight').filter({ hasText: '5.5' }).waitFor();
    await face(b, 'version').filter({ hasText: '2' }).waitFor();

    await b.getByRole('button', { name: 'Disconnect Bob' }).click();
    await b.getByRole('dialog').getByRole('button', { name: 'Disconnect' }).click();
    await a.getByText('Connected to nothing.').waitFor();

    await a.getByRole('button', { name: 'Delete' }).click();
    await a.getByRole('dialog').getByRole('button', { name: 'Delete' }).click();
    await b.getByText(/The token .* is gone/).waitFor();
    const { tokens } = await client.listTokens({ type: 'person', full: true });
    expect(tokens.map((token) => 'metadata' in token && token.metadata.name)).toEqual(['Bob']);
  });

  test('Tries to break: a token is created with the keyboard alone, from the top of the page.', async () => {
    const page = await another();
    const focused = () => page.evaluate(() => document.activeElement?.id ?? '');
    await page.keyboard.press('Tab');
    expect(await page.evaluate(() => document.activeElement?.textContent)).toContain('Skip to');
    await page.keyboard.press('Enter');
    for (let n = 0; n < 10 && !(await focused()).startsWith('tab-'); n += 1) await page.keyboard.press('Tab');
    expect(await focused()).toBe('tab-Token');
    for (let n = 0; n < 2; n += 1) await page.keyboard.press('ArrowRight');
    expect(await focused()).toBe('tab-New');
    await page.keyboard.press('Tab'); // the panel, or its first field
    if ((await page.evaluate(() => document.activeElement?.tagName)) !== 'INPUT') await page.keyboard.press('Tab');
    await page.keyboard.press('ControlOrMeta+a');
    await page.keyboard.type('typed');
    await page.keyboard.press('Enter');
    await face(page, 'type').filter({ hasText: 'typed' }).waitFor();
    expect((await client.listTokens({ type: 'typed' })).count).toBe(1);
  });

  test('Tries to break: what is wrong with a form is said at its field, by the page and by the server.', async () => {
    const page = await another();
    await openPart(page, 'New');
    await fill(page, { type: 'x'.repeat(51), weight: 'heavy', metadata: '[1]' });
    const before = (await client.listTokens({ total: true })).total;
    await page.getByRole('button', { name: 'Create token' }).click();
    await expect.poll(() => page.getByRole('alert').allTextContents()).toHaveLength(3);
    await fill(page, { type: 'fine', weight: '1e400', metadata: '{}' });
    await page.getByRole('button', { name: 'Create token' }).click();
    await expect.poll(() => page.getByRole('alert').allTextContents()).toHaveLength(1);
    expect((await client.listTokens({ total: true })).total).toBe(before);
  });

  test('Tries to break: two change the same token: the second is told, and nothing of either is lost unasked.', async () => {
    const { token_id } = await client.createToken({ type: 'contested', metadata: { name: 'Contested' } });
    const page = await another();
    await select(page, 'Contested');
    await page.getByRole('button', { name: 'Change' }).click();
    await fill(page, { weight: '3' });
    await client.updateToken(token_id, { weight: 7, flags: 5 });
    await expect
      .poll(() => page.evaluate(() => ngosMonitor?.positions.tokens?.seq))
      .toBe(client.position('tokens')?.seq ?? (await client.listTokens()).position.seq);
    await page.getByRole('button', { name: 'Save changes' }).click();
    await page.getByRole('alert').filter({ hasText: 'is at version 2, this form at 1' }).waitFor();
    expect(await client.getToken(token_id)).toMatchObject({ weight: 7, version: 2 });
    await page.getByRole('button', { name: 'Keep what I typed, take the rest from there' }).click();
    const form = page.locator('form.token-form');
    expect(await form.getByLabel('Weight').inputValue()).toBe('3');
    expect(await form.getByLabel('Flags').inputValue()).toBe('5');
    await page.getByRole('button', { name: 'Save changes' }).click();
    await face(page, 'weight').filter({ hasText: '3' }).waitFor();
    expect(await client.getToken(token_id)).toMatchObject({ weight: 3, flags: 5, version: 3 });
  });

  test('Tries to break: markup in types, names, metadata and topics is text.', async () => {
    const page = await another();
    const evil = '<img src=x onerror="console.error(1)">';
    const a = await client.createToken({
      type: evil,
      metadata: { name: `${evil}1`, more: '</script><script>throw 1</script>' },
    });
    const b = await client.createToken({ type: evil, metadata: { name: `${evil}2` } });
    await client.connectTokens(a.token_id, b.token_id, { type: evil });
    await select(page, `${evil}1`);
    await page.getByRole('heading', { name: `${evil}1` }).waitFor();
    await page.locator('.neighbors li').filter({ hasText: evil }).waitFor();
    expect(await page.locator('img[src="x"]').count()).toBe(0);
  });

  test('Tries to break: the browser takes the graphics away and gives them back: the page says so, and shows all again.', async () => {
    const page = await another();
    const toldLost = page.getByText('The browser took the graphics away');
    const turn = (act: 'loseContext' | 'restoreContext') =>
      page.evaluate((name) => {
        const gl = document.querySelector('canvas')?.getContext('webgl2');
        globalThis.graphics ??= gl?.getExtension('WEBGL_lose_context') as WEBGL_lose_context;
        globalThis.graphics[name]();
      }, act);
    await turn('loseContext');
    await toldLost.waitFor();
    expect(await page.locator('.labels .label:visible').count()).toBe(0);
    const { token_id } = await client.createToken({ metadata: { name: 'Meanwhile' }, coord_x: [0.3] });
    await expect.poll(() => page.evaluate((id) => ngosMonitor?.screenOf(id) !== null, token_id)).toBe(true);
    await turn('restoreContext');
    await toldLost.waitFor({ state: 'detached' });
    await page.locator('.labels .label:visible').filter({ hasText: 'Meanwhile' }).waitFor();
  });

  test('Tries to break: a custom topic is followed, counted and left.', async () => {
    const page = await another();
    await page.getByLabel('Follow another topic').fill('news.e2e');
    await page.getByRole('button', { name: 'Follow', exact: true }).click();
    await page.getByRole('button', { name: 'Stop following news.e2e' }).waitFor();
    await client.publish('news.e2e', 'news.flash', { n: 1 });
    await page.getByRole('log').getByText('news.flash').waitFor();
    await page.getByRole('button', { name: 'Stop following news.e2e' }).click();
    const topics = async () => (await (await fetch(`${server.http}/ws/stats`)).json()).topics;
    await expect.poll(topics).not.toHaveProperty(['news.e2e']);
  });
});
