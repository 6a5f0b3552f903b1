/** The page of a server that asks who somebody is. */

import { createWebSocket, type NeuroGraphWebSocket } from '@neurograph/client';
import { type AxeResults, source as axeSource } from 'axe-core';
import type { Browser, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, describe, expect, inject, test } from 'vitest';
import { TestServer } from '../../../typescript/test/server.js';
import { type Grant, Issuer, READ_ONLY } from '../../../typescript/test/tokens.js';
import { launch, type Watched, watch } from './browsers.js';
import { createNamed, fill, find, openPart, select } from './monitor-page.js';

/** The lifetime of a token that a test lets expire: what goes before takes less. */
const SOON_S = 10;

declare global {
  var axe: { run(options: object): Promise<AxeResults> };
}

describe.skipIf(!inject('hasChromium'))('The monitor page of a server that asks for tokens', () => {
  const issuer = new Issuer();
  let server: TestServer;
  let browser: Browser;
  let client: NeuroGraphWebSocket;
  let watched: Watched;

  beforeAll(async () => {
    server = await TestServer.start({ flags: issuer.flags });
    browser = await launch();
    client = createWebSocket({ url: server.url, token: issuer.token('loader', 3600) });
    await client.connect();
    await client.createToken({ type: 'seed', metadata: { name: 'Seed' } });
  });

  afterEach(async () => {
    await watched.close();
    expect([...watched.faults, ...watched.refusals]).toEqual([]);
  });

  afterAll(async () => {
    await client?.disconnect();
    await browser?.close();
    await server?.stop();
    issuer.close();
  });

  async function visit(options: Parameters<typeof watch>[1] = {}): Promise<Page> {
    watched = await watch(browser, options);
    await watched.page.goto(server.http);
    return watched.page;
  }

  const form = (page: Page, name: string) => page.getByRole('form', { name });
  const who = (page: Page) => page.locator('.who summary');

  async function signIn(page: Page, token: string, name = 'This server asks for a token'): Promise<void> {
    await form(page, name).getByLabel('Access token').fill(token);
    await form(page, name).getByRole('button', { name: 'Sign in' }).click();
  }

  async function enter(page: Page, grant?: Grant, lifetimeS = 3600): Promise<string> {
    const token = issuer.token('alice', lifetimeS, grant);
    await signIn(page, token);
    await who(page).waitFor();
    await page.waitForFunction(() => globalThis.ngosMonitor?.loaded);
    return token;
  }

  test('Tries to break: who has no token is asked for one, by keyboard alone, and sees nothing before.', async () => {
    const page = await visit();
    const field = form(page, 'This server asks for a token').getByLabel('Access token');
    await expect.poll(() => field.evaluate((element) => element === document.activeElement)).toBe(true);
    expect(await field.getAttribute('type')).toBe('password');
    expect(await field.getAttribute('autocomplete')).toBe('off');
    expect(await page.evaluate(() => globalThis.ngosMonitor?.tokens)).toBe(0);
    await page.keyboard.press('Enter');
    await page.getByText('There is no token in the field.').waitFor();

    const token = issuer.token('alice', 3600);
    await page.keyboard.insertText(`  Bearer ${token}\n`);
    await page.keyboard.press('Enter');
    await who(page).waitFor();
    expect(await who(page).textContent()).toMatch(/^Signed in as alice until \d/);
    await expect.poll(() => who(page).evaluate((element) => element === document.activeElement)).toBe(true);
    await (await find(page, 'Seed')).waitFor();

    // It is nowhere but in the memory and the tab.
    const kept = await page.evaluate(() => ({ local: JSON.stringify(localStorage), url: location.href }));
    expect(JSON.stringify(kept)).not.toContain(token);
    expect(await page.content()).not.toContain(token);
    expect(await page.evaluate(() => sessionStorage.getItem('ngos.token'))).toBe(token);
  });

  test('Tries to break: a token that is not valid is refused in words, and another one is taken.', async () => {
    const page = await visit();
    await signIn(page, 'not.a.token');
    const refused = form(page, 'The token was refused');
    await refused.getByText('It is not valid, or has expired.').waitFor();
    expect(await refused.getByLabel('Access token').inputValue()).toBe('');
    expect(await page.evaluate(() => sessionStorage.getItem('ngos.token'))).toBeNull();
    const sockets = watched.sockets;
    await signIn(page, issuer.token('alice', 3600), 'The token was refused');
    await who(page).waitFor();
    await (await find(page, 'Seed')).waitFor();
    // Asked, refused, taken: nobody knocked in vain.
    expect([sockets, watched.sockets]).toEqual([2, 3]);
  });

  test('Tries to break: a reload keeps who one is; signing out forgets it, and what was shown.', async () => {
    const page = await visit();
    await enter(page);
    await page.reload();
    await who(page).waitFor();
    await (await find(page, 'Seed')).waitFor();
    await who(page).click();
    await page.getByRole('button', { name: 'Sign out' }).click();
    await form(page, 'This server asks for a token').waitFor();
    expect(await page.evaluate(() => globalThis.ngosMonitor?.tokens)).toBe(0);
    expect(await page.evaluate(() => sessionStorage.length)).toBe(0);
    await page.reload();
    await form(page, 'This server asks for a token').waitFor();
  });

  test('Tries to break: what a token does not allow is said where it was tried.', async () => {
    const page = await visit();
    await enter(page, READ_ONLY);
    await openPart(page, 'New');
    await fill(page, { metadata: '{"name": "Never"}' });
    await page.getByRole('button', { name: 'Create token' }).click();
    await page.getByRole('alert').getByText('The token does not allow to use commands that write.').waitFor();
    await select(page, 'Seed');
    await page.getByRole('button', { name: 'Delete' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click();
    await page.getByRole('alert').getByText('The token does not allow to use commands that write.').waitFor();
    // And it lives on.
    const { token_id } = await client.createToken({ metadata: { name: 'Live' } });
    await (await find(page, 'Live')).waitFor();
    await client.deleteToken(token_id);
  });

  test('Tries to break: topics that may not be followed are named, and the picture waits for nothing.', async () => {
    const page = await visit();
    await enter(page, { commands: ['read'], subscribe: ['experience'] });
    await page.getByText('Your token does not allow to follow tokens and graph').waitFor();
    await (await find(page, 'Seed')).waitFor();
    await expect.poll(() => page.locator('.topic .denied').count()).toBe(3);
    await page.getByLabel('Follow another topic').fill('secrets');
    await page.getByRole('button', { name: 'Follow', exact: true }).click();
    await page.getByRole('alert').getByText('The token does not allow to subscribe to secrets.').waitFor();
  });

  test('Tries to break: who may nothing at all is told that, and is not left with a blank page.', async () => {
    const page = await visit();
    await enter(page, {});
    await page.getByText('Your token allows neither to read nor to follow tokens and graph').waitFor();
    expect(await page.getByRole('button', { name: 'Load a small demo graph' }).count()).toBe(0);
  });

  test('Tries to break: a token that expires takes nothing away, and with a new one nothing was missed.', async () => {
    const page = await visit();
    await enter(page, undefined, SOON_S);
    await createNamed(page, 'Before');
    await openPart(page, 'New');
    await fill(page, { weight: '42' });
    const expired = form(page, 'Your token has expired');
    await expired.waitFor({ timeout: 2000 * SOON_S });
    expect(await page.locator('.state').textContent()).toBe('Token expired');
    // What was typed and what is shown are still there.
    expect(await page.locator('form.token-form').getByLabel('Weight').inputValue()).toBe('42');
    await (await find(page, 'Before')).waitFor();
    await client.createToken({ metadata: { name: 'Meanwhile' } });
    // A slip on the way costs nothing either.
    await signIn(page, 'not.a.token', 'Your token has expired');
    await form(page, 'The token was refused').waitFor();
    await signIn(page, issuer.token('alice', 3600), 'The token was refused');
    await who(page).waitFor();
    await (await find(page, 'Meanwhile')).waitFor();
    await page
      .getByText(/resumed 1 event on tokens/)
      .first()
      .waitFor();
    expect(watched.loads).toBe(1);
  });

  test('Tries to break: what the next token allows no longer is named; with the one after that it is brought.', async () => {
    const page = await visit();
    await enter(page, undefined, SOON_S);
    await form(page, 'Your token has expired').waitFor({ timeout: 2000 * SOON_S });
    const less = issuer.token('alice', 3600, { ...READ_ONLY, subscribe: ['tokens'] });
    await signIn(page, less, 'Your token has expired');
    await page.getByText('Your token does not allow to follow graph').waitFor();
    await who(page).click();
    await page.getByRole('button', { name: 'Renew' }).click();
    await form(page, 'A new token').getByLabel('Access token').fill(issuer.token('alice', 7200));
    await form(page, 'A new token').getByRole('button', { name: 'Renew' }).click();
    await page.getByText('Your token does not allow to follow graph').waitFor({ state: 'detached' });
    await page.waitForFunction(() => globalThis.ngosMonitor?.loaded);
    expect(await page.locator('.topic .denied').count()).toBe(0);
    const { token_id } = await client.createToken({ metadata: { name: 'Afterwards' } });
    await (await find(page, 'Afterwards')).waitFor();
    await client.deleteToken(token_id);
  });

  test('Tries to break: renewing keeps the connection; a token that can’t be taken changes nothing.', async () => {
    const page = await visit();
    await enter(page, undefined, 60);
    const sockets = watched.sockets;
    const renew = form(page, 'A new token');
    const show = async (token: string) => {
      await renew.getByLabel('Access token').fill(token);
      await renew.getByRole('button', { name: 'Renew' }).click();
    };
    await who(page).click();
    await page.getByRole('button', { name: 'Renew' }).click();
    await show('nonsense');
    await renew.getByText('the token is not valid').waitFor();
    await show(issuer.token('mallory', 3600));
    await renew.getByText(/another subject/i).waitFor();
    const before = await who(page).textContent();
    await show(issuer.token('alice', 7200));
    await renew.waitFor({ state: 'detached' });
    expect(await who(page).textContent()).not.toBe(before);
    expect(watched.sockets).toBe(sockets);
  });

  test('Tries to break: another’s token after the first has expired shows nothing of what the first one saw.', async () => {
    const page = await visit();
    await enter(page, undefined, SOON_S);
    await form(page, 'Your token has expired').waitFor({ timeout: 2000 * SOON_S });
    await signIn(page, issuer.token('bob', 3600, { subscribe: ['system'] }), 'Your token has expired');
    await who(page).filter({ hasText: 'bob' }).waitFor();
    await page.getByText('Your token allows neither to read nor to follow').waitFor();
    expect(await page.evaluate(() => globalThis.ngosMonitor?.tokens)).toBe(0);
  });

  test.each(['light', 'dark'] as const)(
    'Tries to break: in the %s theme asking is no barrier.',
    async (colorScheme) => {
      const page = await visit({ colorScheme, reducedMotion: 'reduce' });
      await page.evaluate(axeSource);
      const barriers = async () => {
        const { violations } = await page.evaluate(() => globalThis.axe.run({ resultTypes: ['violations'] }));
        return violations
          .filter(({ impact }) => impact === 'serious' || impact === 'critical')
          .flatMap(({ id, nodes }) =>
            nodes.map(({ target, failureSummary }) => `${id} at ${target}: ${failureSummary}`),
          );
      };
      await form(page, 'This server asks for a token').waitFor();
      expect(await barriers()).toEqual([]);
      await signIn(page, 'wrong');
      await form(page, 'The token was refused').waitFor();
      expect(await barriers()).toEqual([]);
      await signIn(page, issuer.token('alice', 60, { subscribe: ['system'] }), 'The token was refused');
      await who(page).click();
      await page.getByRole('button', { name: 'Sign out' }).waitFor();
      expect(await barriers()).toEqual([]);
    },
  );

  test('Tries to break: on a screen of 320 pixels asking and who one is need no scrolling sideways.', async () => {
    const page = await visit({ viewport: { width: 320, height: 640 }, hasTouch: true, isMobile: true });
    const width = () => page.evaluate(() => document.documentElement.scrollWidth);
    const asked = form(page, 'This server asks for a token');
    await asked.waitFor();
    expect(await width()).toBe(320);
    const subject = 'somebody-with-a-name-that-is-rather-long@example.org';
    await signIn(page, issuer.token(subject, 60));
    await who(page).waitFor();
    await who(page).tap();
    const more = await page.getByRole('button', { name: 'Sign out' }).boundingBox();
    expect(more && more.x >= 0 && more.x + more.width <= 320).toBe(true);
    expect(await width()).toBe(320);
  });
});
