// Pictures of the page: empty, the demo graph, 10,000 tokens, dark, and on a phone; and those of a server that asks for
// tokens: asking, refused, signed in, read-only, who may not follow, expired.
//
//     node bench/screenshots.mjs OUTDIR [open | asking]
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { launch, until } from './browser.mjs';
import { fill, stir } from './load.mjs';
import { makeIssuer, startServer } from './server.mjs';

const DESK = { viewport: { width: 1440, height: 900 } };
const PHONE = { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true };

const [out, only] = process.argv.slice(2);
if (!out) {
  console.error('usage: node bench/screenshots.mjs OUTDIR');
  process.exit(2);
}
await mkdir(out, { recursive: true });
const browser = await launch();
const servers = [];

/** Open the page and wait until all that is there is shown. */
async function open(server, options) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  page.on('pageerror', (error) => console.error(`page: ${error.message}`));
  await page.goto(server.url);
  if (server.asks) await page.getByLabel('Access token').waitFor();
  else await until(page, () => window.ngosMonitor?.loaded);
  return page;
}

/** Flashes, glides and the fine drawing need a moment. */
const settle = (page, ms = 3000) => page.evaluate((time) => new Promise((later) => setTimeout(later, time)), ms);

async function shoot(page, name) {
  await page.screenshot({ path: join(out, `${name}.png`) });
  console.log(`${name}.png`);
}

async function shootOpen() {
  const [small, large] = [await startServer(), await startServer()];
  servers.push(small, large);
  const light = await open(small, { ...DESK, colorScheme: 'light' });
  await settle(light, 1000);
  await shoot(light, 'empty');

  await light.getByRole('button', { name: 'Load a small demo graph' }).click();
  await until(light, () => window.ngosMonitor.edges === 120);
  await settle(light);
  await shoot(light, 'demo');
  await light.getByRole('tab', { name: 'Find' }).click();
  await light.getByLabel('Order').selectOption('most connected');
  await light.locator('.find tbody button').first().click();
  await settle(light, 1500);
  await shoot(light, 'token');
  await light.getByRole('tab', { name: 'New' }).click();
  await settle(light, 500);
  await shoot(light, 'new');

  const phone = await open(small, { ...PHONE, colorScheme: 'light' });
  await settle(phone);
  await shoot(phone, 'phone');
  await phone.getByRole('button', { name: 'Find', exact: true }).tap();
  await phone.locator('.find tbody button').first().tap();
  await settle(phone, 1500);
  await shoot(phone, 'phone-token');

  const filled = await fill(`${large.url.replace(/^http/, 'ws')}/ws`, 10_000, 20_000);
  const dark = await open(large, { ...DESK, colorScheme: 'dark' });
  await stir(filled, 200, 10);
  await shoot(dark, 'dark');
  await dark.close();
  const still = await open(large, { ...DESK, colorScheme: 'light' });
  await settle(still, 5000);
  await shoot(still, 'tokens-10000');
  await filled.ws.disconnect();
}

async function shootAsking() {
  const issuer = await makeIssuer();
  const server = { ...(await startServer({ flags: issuer.flags })), asks: true };
  servers.push(server, issuer);
  const all = ['--read', '--write', '--subscribe', '*', '--publish', '*'];
  const signIn = async (page, token) => {
    await page.getByLabel('Access token').fill(token);
    await page.getByRole('button', { name: 'Sign in' }).click();
  };
  const enter = async (page, token) => {
    await signIn(page, token);
    await page.locator('.who').waitFor();
    await until(page, () => window.ngosMonitor?.loaded);
  };
  const light = await open(server, { ...DESK, colorScheme: 'light' });
  await settle(light, 500);
  await shoot(light, 'asking');
  await signIn(light, 'not.a.token');
  await light.getByRole('heading', { name: 'The token was refused' }).waitFor();
  await settle(light, 500);
  await shoot(light, 'refused');
  await enter(light, issuer.token('alice', 3600, ...all));
  await light.getByRole('button', { name: 'Load a small demo graph' }).click();
  await until(light, () => window.ngosMonitor.edges === 120);
  await settle(light);
  await light.locator('.who summary').click();
  await settle(light, 500);
  await shoot(light, 'signed-in');
  await light.getByRole('button', { name: 'Renew' }).click();
  await settle(light, 500);
  await shoot(light, 'renew');

  const reader = await open(server, { ...DESK, colorScheme: 'light' });
  await enter(reader, issuer.token('reader', 3600, '--read', '--subscribe', 'tokens', '--subscribe', 'graph'));
  await reader.getByRole('tab', { name: 'New' }).click();
  await reader.getByRole('button', { name: 'Create token' }).click();
  await reader.getByRole('alert').waitFor();
  await settle(reader);
  await shoot(reader, 'read-only');
  const blind = await open(server, { ...DESK, colorScheme: 'dark' });
  await enter(blind, issuer.token('blind', 3600, '--read'));
  await settle(blind);
  await shoot(blind, 'follows-nothing');

  const phone = await open(server, { ...PHONE, colorScheme: 'light' });
  await settle(phone, 500);
  await shoot(phone, 'phone-asking');
  await enter(phone, issuer.token('somebody.with.a.long.name@example.org', 30, ...all));
  await settle(phone);
  await phone.locator('.who summary').tap();
  await settle(phone, 500);
  await shoot(phone, 'phone-signed-in');
  await phone.locator('.who summary').tap();
  await phone.getByRole('heading', { name: 'Your token has expired' }).waitFor();
  await settle(phone, 500);
  await shoot(phone, 'phone-expired');

  const dark = await open(server, { ...DESK, colorScheme: 'dark' });
  await enter(dark, issuer.token('alice', 12, ...all));
  await dark.getByRole('heading', { name: 'Your token has expired' }).waitFor();
  await settle(dark, 500);
  await shoot(dark, 'expired');
}

try {
  if (only !== 'asking') await shootOpen();
  if (only !== 'open') await shootAsking();
} finally {
  await browser.close();
  for (const server of servers) await server.end();
}
