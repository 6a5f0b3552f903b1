/** The page in a test's words: what a person does on it, found by role and name as they would find it. */

import type { Locator, Page } from 'playwright-core';
import type { Measure } from '../../src/measure';

declare global {
  var ngosMonitor: Measure | undefined;
}

export const PARTS = ['Token', 'Find', 'New'] as const;

/** Go to the page, and wait until it shows all that is there. */
export async function visit(page: Page, http: string): Promise<void> {
  await page.goto(http);
  await page.waitForFunction(() => globalThis.ngosMonitor?.loaded && globalThis.ngosMonitor.state === 'connected');
}

export async function openPart(page: Page, part: (typeof PARTS)[number]): Promise<void> {
  await page.getByRole('tab', { name: part, exact: true }).click();
}

export interface Fields {
  type?: string;
  weight?: string;
  metadata?: string;
}

/** Fill what is given into the form that is open. */
export async function fill(page: Page, { type, weight, metadata }: Fields): Promise<void> {
  const form = page.locator('form.token-form');
  if (type !== undefined) await form.getByLabel('Type').fill(type);
  if (weight !== undefined) await form.getByLabel('Weight').fill(weight);
  if (metadata !== undefined) await form.getByLabel('Metadata').fill(metadata);
}

/** Create a token by the form, and wait until the page shows it. */
export async function createNamed(page: Page, name: string, fields: Fields = {}): Promise<void> {
  await openPart(page, 'New');
  await fill(page, { metadata: JSON.stringify({ name }), ...fields });
  await page.getByRole('button', { name: 'Create token' }).click();
  await page.getByRole('heading', { name, exact: true }).waitFor();
}

/** The row of a token under Find, which is filtered by its name. */
export async function find(page: Page, name: string): Promise<Locator> {
  await openPart(page, 'Find');
  await page.getByLabel('Find tokens by name, type or id').fill(name);
  return page.getByRole('row').filter({ has: page.getByRole('button', { name, exact: true }) });
}

/** Select a token under Find. */
export async function select(page: Page, name: string): Promise<void> {
  const row = await find(page, name);
  await row.getByRole('button').click();
}

/** One line of what is said of the token that is selected. */
export function face(page: Page, term: string): Locator {
  return page
    .locator('.face > div')
    .filter({ has: page.getByText(term, { exact: true }) })
    .locator('dd');
}
