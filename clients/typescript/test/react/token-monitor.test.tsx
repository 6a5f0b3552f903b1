// @vitest-environment happy-dom
import { act, cleanup, render, screen, waitFor } from '@testing-library/react';
import { StrictMode } from 'react';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from 'vitest';
import { createWebSocket, NeuroGraphWebSocket } from '../../src/index.js';
import { countHandlers, openLedger } from './ledger.js';
import { type Reachable, startReachable } from './reachable.js';
import { TokenMonitor } from './token-monitor.jsx';

let server: Reachable;
let writer: NeuroGraphWebSocket;
let sockets: WebSocket[];

beforeAll(async () => {
  server = await startReachable();
  writer = createWebSocket(server.ws);
  await writer.connect();
});

beforeEach(() => {
  sockets = [];
  const Real = WebSocket;
  vi.stubGlobal(
    'WebSocket',
    // The program names its server itself; it is led to the one that there is.
    class extends Real {
      constructor(url: string | URL) {
        super(String(url).replace('ws://localhost:8000/ws', server.ws));
        sockets.push(this);
      }
    },
  );
  vi.spyOn(console, 'log').mockImplementation(() => {});
});

afterEach(() => {
  cleanup();
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
});

afterAll(async () => {
  await writer?.disconnect();
  await server?.stop();
});

const followers = async () => (await server.stats()).topics.tokens ?? 0;

test.each([
  ['plainly', (page: React.ReactNode) => page],
  ['under StrictMode', (page: React.ReactNode) => <StrictMode>{page}</StrictMode>],
])(
  "Tries to break: the user's TokenMonitor, mounted %s, follows, refreshes and leaves nothing behind.",
  async (name, around) => {
    const handlers = countHandlers(NeuroGraphWebSocket.prototype);
    const ledger = openLedger();
    const page = render(around(<TokenMonitor />));
    expect(page.container.textContent).toContain('🔴');
    await screen.findByText('Token Monitor 🟢');
    await waitFor(async () => expect(await followers()).toBe(1));

    await writer.createToken({ type: name, weight: 0.25 });
    await screen.findByText(`${name} - 0.25`);
    const sent = vi.spyOn(sockets[0] as WebSocket, 'send');
    for (let n = 0; n < 300; n += 1) page.rerender(around(<TokenMonitor />));
    expect(sent).not.toHaveBeenCalled();
    expect([sockets.length, await followers()]).toEqual([1, 1]);

    await act(async () => screen.getByText('Refresh').click());
    await waitFor(() => expect(sent).toHaveBeenCalledTimes(1));
    page.unmount();
    await waitFor(async () => expect(await server.stats()).toMatchObject({ active_connections: 1, topics: {} }));
    await waitFor(() => expect([...ledger.timers, ...ledger.listeners]).toEqual([]));
    expect([handlers.open, sockets.length]).toEqual([0, 1]);
    handlers.restore();
    ledger.restore();
  },
);

test('Tries to break: twenty TokenMonitors that come and go are so many connections, and then none.', async () => {
  const many = (count: number) => (
    <StrictMode>
      {Array.from({ length: count }, (_, n) => (
        <TokenMonitor key={String(n)} />
      ))}
    </StrictMode>
  );
  const page = render(many(20));
  await waitFor(async () => expect(await followers()).toBe(20), { timeout: 5000 });
  page.rerender(many(3));
  await waitFor(async () => expect((await server.stats()).active_connections).toBe(4));
  expect(await followers()).toBe(3);
  page.unmount();
  await waitFor(async () => expect((await server.stats()).active_connections).toBe(1));
  expect(sockets.length).toBe(20);
});
