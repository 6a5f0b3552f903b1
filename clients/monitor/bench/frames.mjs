// Frame times of the page with 10,000 tokens and 20,000 edges while 200 events a second come, without a GPU.
//
//     node bench/frames.mjs [URL]        URL: of a server that is running and empty; else one is started
import { launch, until } from './browser.mjs';
import { fill, stir } from './load.mjs';
import { startServer } from './server.mjs';

const TOKENS = Number(process.env.TOKENS ?? 10_000);
const EDGES = Number(process.env.EDGES ?? 20_000);
const PER_SECOND = Number(process.env.PER_SECOND ?? 200);
const SECONDS = Number(process.env.SECONDS ?? 20);

const server = process.argv[2] ? { url: process.argv[2], end: async () => {} } : await startServer();
const socket = `${server.url.replace(/^http/, 'ws').replace(/\/$/, '')}/ws`;
const filled = await fill(socket, TOKENS, EDGES);
const browser = await launch();
try {
  const page = await browser.newPage({ viewport: { width: 1440, height: 900 }, colorScheme: 'dark' });
  page.on('pageerror', (error) => console.error(`page: ${error.message}`));
  const opened = performance.now();
  await page.goto(server.url);
  await until(page, () => window.ngosMonitor?.loaded);
  const loadedMs = performance.now() - opened;
  await page.evaluate(() => new Promise((later) => setTimeout(later, 2000)));
  await page.evaluate(() => {
    window.long = [];
    new PerformanceObserver((list) => {
      for (const entry of list.getEntries()) window.long.push(entry.duration);
    }).observe({ entryTypes: ['longtask'] });
    window.ticks = [];
    let last = performance.now();
    const tick = (now) => {
      window.ticks.push(now - last);
      last = now;
      requestAnimationFrame(tick);
    };
    requestAnimationFrame(tick);
  });
  const before = await page.evaluate(() => window.ngosMonitor.events);
  const sent = await stir(filled, PER_SECOND, SECONDS);
  const seen = await page.evaluate(() => ({
    ticks: window.ticks.slice(2),
    long: window.long,
    frames: window.ngosMonitor.frames(),
    events: window.ngosMonitor.events,
    tokens: window.ngosMonitor.tokens,
    edges: window.ngosMonitor.edges,
  }));
  console.log(`${seen.tokens} tokens, ${seen.edges} edges, read in ${Math.round(loadedMs)} ms`);
  console.log(`${sent} changes in ${SECONDS} s; ${seen.events - before} events seen`);
  console.log(`frame times, ms   ${line(seen.ticks)}   (${(seen.ticks.length / SECONDS).toFixed(1)} frames/s)`);
  console.log(`as the page tells ${line(seen.frames)}`);
  console.log(`long tasks        ${seen.long.length}, longest ${Math.round(Math.max(0, ...seen.long))} ms`);
  if (process.env.SHOT) await page.screenshot({ path: process.env.SHOT });
} finally {
  await browser.close();
  await filled.ws.disconnect();
  await server.end();
}

function line(times) {
  const sorted = [...times].sort((a, b) => a - b);
  const at = (share) => (sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0).toFixed(1);
  return `median ${at(0.5)}  p95 ${at(0.95)}  p99 ${at(0.99)}  max ${at(1)}`;
}
