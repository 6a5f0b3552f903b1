// Pictures of the page: empty, the demo graph, 10,000 tokens, dark, and on a phone.
//
//     node bench/screenshots.mjs OUTDIR
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { launch, until } from './browser.mjs';
import { fill, stir } from './load.mjs';
import { startServer } from './server.mjs';

const DESK = { viewport: { width: 1440, height: 900 } };
const PHONE = { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true };

const out = process.argv[2];
if (!out) {
  console.error('usage: node bench/screenshots.mjs OUTDIR');
  process.exit(2);
}
await mkdir(out, { recursive: true });
const browser = await launch();
const servers = [await startServer(), await startServer()];
const [small, large] = servers;

/** Open the page and wait until all that is there is shown. */
async function open(server, options) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  page.on('pageerror', (error) => console.error(`page: ${error.message}`));
  await page.goto(server.url);
  await until(page, () => window.ngosMonitor?.loaded);
  return page;
}

/** Flashes, glides and the fine drawing need a moment. */
const settle = (page, ms = 3000) => page.evaluate((time) => new Promise((later) => setTimeout(later, time)), ms);

async function shoot(page, name) {
  await page.screenshot({ path: join(out, `${name}.png`) });
  console.log(`${name}.png`);
}

try {
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
} finally {
  await browser.close();
  for (const server of servers) await server.end();
}
