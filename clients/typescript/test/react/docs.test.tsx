// @vitest-environment happy-dom
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { act, cleanup, render, screen, waitFor } from '@testing-library/react';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { createWebSocket } from '../../src/index.js';
import { Tokens } from './example.js';
import { type Reachable, startReachable } from './reachable.js';

let server: Reachable;

beforeAll(async () => {
  server = await startReachable();
});
afterEach(cleanup);
afterAll(() => server?.stop());

test('Tries to break: the example of the documentation is the one that is run here.', () => {
  const page = readFileSync(join(import.meta.dirname, '../../docs/react.md'), 'utf8');
  const example = readFileSync(join(import.meta.dirname, 'example.tsx'), 'utf8');
  expect(page).toContain(`\`\`\`tsx\n${example}\`\`\``);
});

test('Tries to break: the example lists what there was, creates, and follows what others change.', async () => {
  const other = createWebSocket(server.ws);
  await other.connect();
  const early = await other.createToken({ type: 'early' });
  render(<Tokens url={server.ws} />);
  await screen.findByText('early');
  await act(async () => screen.getByText('Create').click());
  await screen.findByText('demo');
  await waitFor(() => expect(screen.getByRole('status').textContent).toBe('2 tokens'));
  await other.updateToken(early.token_id, { type: 'renamed' });
  await screen.findByText('renamed');
  await other.deleteToken(early.token_id);
  await waitFor(() => expect(screen.queryByText('renamed')).toBe(null));
  await other.disconnect();
});

test('Tries to break: events that come while the list is on its way are neither lost nor undone by it.', async () => {
  const other = createWebSocket(server.ws);
  await other.connect();
  let writing = true;
  const written = (async () => {
    while (writing) {
      const { token_id } = await other.createToken({ type: 'brief' });
      await other.deleteToken(token_id);
    }
  })();
  for (let n = 0; n < 5; n += 1) {
    const { unmount } = render(<Tokens url={server.ws} />);
    await screen.findByText('brief');
    unmount();
  }
  render(<Tokens url={server.ws} />);
  await screen.findByText('brief');
  writing = false;
  await written;
  await waitFor(() => expect(screen.queryByText('brief')).toBe(null));
  const { count } = await other.listTokens({ limit: 100 });
  expect(screen.queryAllByRole('listitem').length).toBe(count);
  await other.disconnect();
});
