// @vitest-environment happy-dom
import { act, cleanup, render, waitFor } from '@testing-library/react';
import { type ReactNode, StrictMode, Suspense } from 'react';
import { renderToString } from 'react-dom/server';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { NeuroGraphWebSocket } from '../../src/index.js';
import { type Connection, type ConnectionOptions, useNeuroGraphWebSocket } from '../../src/react/index.js';
import { FakeSocket } from './fake-socket.js';
import { countHandlers, openLedger } from './ledger.js';

const URL = 'ws://server.test/ws';

/** What the probe rendered, latest last. */
let rendered: Connection[];
let handlers: ReturnType<typeof countHandlers>;

function Probe({ url = URL, ...options }: ConnectionOptions & { url?: string }) {
  const connection = useNeuroGraphWebSocket(url, { random: () => 0, ...options });
  rendered.push(connection);
  return <p>{[connection.state, connection.connectionId, connection.error?.name].join(' ')}</p>;
}

const never = new Promise(() => {});

function Waits(): ReactNode {
  throw never; // how React 18 is told to wait; 19 knows it too
}

const last = () => rendered.at(-1) as Connection;

beforeEach(() => {
  rendered = [];
  FakeSocket.reset();
  vi.stubGlobal('WebSocket', FakeSocket);
  handlers = countHandlers(NeuroGraphWebSocket.prototype);
});

afterEach(() => {
  cleanup();
  handlers.restore();
  vi.unstubAllGlobals();
});

/** Wait for the socket, which may be opened a moment after `connect`. */
async function socket(nth = 1): Promise<FakeSocket> {
  await waitFor(() => expect(FakeSocket.made.length).toBeGreaterThanOrEqual(nth));
  return FakeSocket.made[nth - 1] as FakeSocket;
}

async function greet(nth = 1): Promise<FakeSocket> {
  const made = await socket(nth);
  await act(async () => made.greet());
  return made;
}

test('Tries to break: what the hook says of the connection follows it, from mount to break and back.', async () => {
  render(<Probe />);
  expect(last().isConnected).toBe(false);
  const first = await greet();
  expect(last()).toMatchObject({ isConnected: true, state: 'connected', error: null });
  expect(last().connectionId).toBe('00000000-0000-7000-8000-000000000000');

  await act(async () => first.end(1006));
  expect(last().isConnected).toBe(false);
  await greet(2);
  await waitFor(() => expect(last().isConnected).toBe(true));
  expect(last().connectionId).toBe('00000000-0000-7000-8000-000000000001');
});

test('Tries to break: a server that is not there yet is the error state, before there ever was a connection.', async () => {
  render(<Probe />);
  const first = await socket();
  await act(async () => first.end(1006));
  expect(last()).toMatchObject({ state: 'connecting', error: { name: 'ConnectFailed' } });
  await greet(2);
  await waitFor(() => expect(last()).toMatchObject({ state: 'connected', error: null }));
});

test('Tries to break: StrictMode mounts twice and gets one socket, not two, and not one that was closed.', async () => {
  const disconnect = vi.spyOn(NeuroGraphWebSocket.prototype, 'disconnect');
  const { unmount } = render(
    <StrictMode>
      <Probe />
    </StrictMode>,
  );
  await greet();
  await waitFor(() => expect(last().isConnected).toBe(true));
  expect([FakeSocket.made.length, disconnect.mock.calls]).toEqual([1, []]);
  unmount();
  await waitFor(() => expect(FakeSocket.live).toEqual([]));
  disconnect.mockRestore();
});

test('Tries to break: hundreds of renders with new option objects make no client, socket or handler.', async () => {
  const page = render(<Probe debug={false} />);
  await greet();
  const [before, added] = [last(), handlers.added];
  for (let n = 0; n < 300; n += 1) page.rerender(<Probe debug={false} token={undefined} />);
  const { ws, connect, listTokens, subscribe } = last();
  expect({ ws, connect, listTokens, subscribe }).toEqual({
    ws: before.ws,
    connect: before.connect,
    listTokens: before.listTokens,
    subscribe: before.subscribe,
  });
  expect(last().ws).toBe(before.ws);
  expect(last().listTokens).toBe(before.listTokens);
  expect(handlers.added).toBe(added);
  expect(FakeSocket.made.length).toBe(1);
});

test.each([
  ['url', { url: 'ws://other.test/ws' }],
  ['clientId', { clientId: 'b' }],
  ['token', { token: 'other' }],
])('Tries to break: another %s makes another client, and the first one leaves.', async (_, change) => {
  const page = render(<Probe clientId="a" token="secret" />);
  const first = await socket();
  const before = last().ws;
  page.rerender(<Probe clientId="a" token="secret" {...change} />);
  expect(last().ws).not.toBe(before);
  await socket(2);
  await waitFor(() => expect(first.readyState).toBe(FakeSocket.CLOSED));
  expect(FakeSocket.live.length).toBe(1);
});

test('Tries to break: a token function that is new in each render is the same client, and the latest is asked.', async () => {
  const stale = vi.fn(() => 'stale');
  const fresh = vi.fn(() => 'fresh');
  const page = render(<Probe token={stale} autoConnect={false} />);
  const before = last().ws;
  page.rerender(<Probe token={fresh} autoConnect={false} />);
  expect(last().ws).toBe(before);
  await act(async () => void last().connect());
  const made = await greet();
  await waitFor(() => expect(made.sent[0]).toMatchObject({ type: 'authenticate', payload: { token: 'fresh' } }));
  expect(stale).not.toHaveBeenCalled();
});

test('Tries to break: unmounted while it connects, it leaves no socket, timer, listener or handler.', async () => {
  const ledger = openLedger();
  const { unmount } = render(<Probe />);
  await socket();
  unmount();
  await waitFor(() => expect(FakeSocket.live).toEqual([]));
  await waitFor(() => expect([...ledger.timers, ...ledger.listeners]).toEqual([]));
  expect(handlers.open).toBe(0);
  ledger.restore();
});

test('Tries to break: unmounted between two attempts, it does not come back.', async () => {
  const ledger = openLedger();
  const { unmount } = render(<Probe random={() => 0.999} />);
  await act(async () => (await socket()).end(1006));
  unmount();
  await waitFor(() => expect([...ledger.timers, ...ledger.listeners]).toEqual([]));
  expect(FakeSocket.live).toEqual([]);
  ledger.restore();
});

test('Tries to break: mounted and unmounted a hundred times, it leaves nothing behind.', async () => {
  const ledger = openLedger();
  for (let n = 0; n < 100; n += 1) render(<Probe />).unmount();
  await waitFor(() => expect(FakeSocket.live).toEqual([]));
  await waitFor(() => expect([...ledger.timers, ...ledger.listeners]).toEqual([]));
  expect(handlers.open).toBe(0);
  ledger.restore();
});

test('Tries to break: a refusal that forbids coming back is the error state, and no exception.', async () => {
  const unhandled = vi.fn();
  process.on('unhandledRejection', unhandled);
  const { container } = render(<Probe />);
  const made = await greet();
  await act(async () => made.end(4403, 'not allowed'));
  await waitFor(() => expect(last().state).toBe('ended'));
  expect(last().error).toMatchObject({ name: 'ConnectionLost', code: 4403 });
  expect(container.textContent).toContain('ended');
  await act(async () => void last().listTokens());
  await new Promise(setImmediate);
  expect(unhandled).not.toHaveBeenCalled();
  process.off('unhandledRejection', unhandled);
});

test('Tries to break: a list that is asked for and never awaited may fail without an unhandled rejection.', async () => {
  const unhandled = vi.fn();
  process.on('unhandledRejection', unhandled);
  const { unmount } = render(<Probe />);
  await greet();
  await act(async () => void last().listTokens());
  unmount();
  await waitFor(() => expect(FakeSocket.live).toEqual([]));
  await new Promise(setImmediate);
  expect(unhandled).not.toHaveBeenCalled();
  process.off('unhandledRejection', unhandled);
});

test('Tries to break: without autoConnect nothing is opened until somebody connects, and unmounting ends it.', async () => {
  const page = render(<Probe autoConnect={false} />);
  page.rerender(<Probe autoConnect={false} />);
  await new Promise(setImmediate);
  expect([FakeSocket.made.length, last().state]).toEqual([0, 'idle']);
  await act(async () => void last().connect());
  await greet();
  expect(last().isConnected).toBe(true);
  page.unmount();
  await waitFor(() => expect(FakeSocket.live).toEqual([]));
});

test('Tries to break: a page that was rendered on a server is taken over as it is, and then connects, once.', async () => {
  const container = document.body.appendChild(document.createElement('div'));
  container.innerHTML = renderToString(<Probe />);
  const errors = vi.spyOn(console, 'error');
  render(<Probe />, { container, hydrate: true });
  await greet();
  await waitFor(() => expect(container.textContent).toContain('connected'));
  expect([FakeSocket.made.length, errors.mock.calls]).toEqual([1, []]);
  errors.mockRestore();
  container.remove();
});

test('Tries to break: a render that React never commits connects nothing.', async () => {
  const page = render(
    <Suspense fallback="waiting">
      <Probe />
      <Waits />
    </Suspense>,
  );
  await act(async () => {});
  expect(page.container.textContent).toBe('waiting');
  expect(rendered.length).toBeGreaterThan(0);
  expect([FakeSocket.made.length, handlers.open]).toEqual([0, 0]);
});

test('Tries to break: a token reaches neither the page nor the address.', async () => {
  const secret = 'tok_0123456789';
  render(<Probe token={secret} />);
  const made = await greet();
  expect(document.documentElement.outerHTML).not.toContain(secret);
  expect(made.url).not.toContain(secret);
  await act(async () => made.end(4401, 'expired'));
  expect(document.documentElement.outerHTML).not.toContain(secret);
  expect(String(last().error)).not.toContain(secret);
});
