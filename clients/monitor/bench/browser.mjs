// Chromium without a GPU: what is drawn is drawn by the processor.
import { chromium } from 'playwright-core';

export function launch() {
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: ['--no-sandbox', '--use-angle=swiftshader', '--enable-unsafe-swiftshader', '--ignore-gpu-blocklist'],
  });
}

/** Wait until `probe` (a function of the page) says so. By evaluate: waitForFunction needs an eval that the policy forbids. */
export async function until(page, probe, arg, timeoutMs = 60_000) {
  const end = Date.now() + timeoutMs;
  while (!(await page.evaluate(probe, arg))) {
    if (Date.now() > end) throw new Error(`not in time: ${probe}`);
    await new Promise((later) => setTimeout(later, 100));
  }
}
