// @vitest-environment happy-dom
import { act, cleanup, render, waitFor } from '@testing-library/react';
import { Component, type ReactNode, StrictMode } from 'react';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { createWebSocket, NeuroGraphWebSocket } from '../../src/index.js';
import { type Subscription, useWebSocketSubscription } from '../../src/react/index.js';
import { FakeSocket } from './fake-socket.js';
import { countHandlers } from './ledger.js';

let handlers: ReturnType<typeof countHandlers>;
let ws: NeuroGraphWebSocket;
let rendered: Subscription[];

beforeEach(async () => {
  FakeSocket.reset();
  rendered = [];
  handlers = countHandlers(NeuroGraphWebSocket.prototype);
  ws = createWebSocket({
    url: 'ws://server.test/ws',
    WebSocket: FakeSocket as unknown as typeof WebSocket,
    random: () => 0,
  });
});

afterEach(async () => {
  cleanup();
  await ws.disconnect();
  handlers.restore();
});

async function connect(): Promise<FakeSocket> {
  const connecting = ws.connect();
  await waitFor(() => expect(FakeSocket.made.length).toBe(1));
  await act(async () => FakeSocket.last.greet());
  await connecting;
  return FakeSocket.last;
}

function Follows({ topic = 'tokens', enabled = true }: { topic?: string; enabled?: boolean }) {
  rendered.push(useWebSocketSubscription(ws, topic, enabled));
  return null;
}

const last = () => rendered.at(-1) as Subscription;
const many = (count: number) => Array.from({ length: count }, (_, n) => <Follows key={String(n)} />);
const settle = () => act(async () => {});

test('Tries to break: ten components on one topic subscribe once, and the last that leaves unsubscribes.', async () => {
  const socket = await connect();
  const page = render(<StrictMode>{many(10)}</StrictMode>);
  await waitFor(() => expect(socket.sentOf('subscribe')).toBe(1));
  await act(async () => socket.confirm('tokens'));
  for (const count of [9, 5, 1]) {
    page.rerender(<StrictMode>{many(count)}</StrictMode>);
    await settle();
  }
  expect([socket.sentOf('subscribe'), socket.sentOf('unsubscribe')]).toEqual([1, 0]);
  expect(last().subscribed).toBe(true);
  page.unmount();
  await waitFor(() => expect(socket.sentOf('unsubscribe')).toBe(1));
  expect([socket.sentOf('subscribe'), handlers.open]).toEqual([1, 0]);
});

test('Tries to break: a component that takes the place of another one leaves no moment without the topic.', async () => {
  const socket = await connect();
  const page = render(<Follows key="a" />);
  await waitFor(() => expect(socket.sentOf('subscribe')).toBe(1));
  await act(async () => socket.confirm('tokens'));
  for (let n = 0; n < 100; n += 1) page.rerender(<Follows key={String(n)} />);
  await settle();
  expect([socket.sentOf('subscribe'), socket.sentOf('unsubscribe')]).toEqual([1, 0]);
  expect(last().subscribed).toBe(true);
});

test('Tries to break: `subscribed` is what the server said on this connection, not what was asked.', async () => {
  render(<Follows />);
  expect(last().subscribed).toBe(false);
  const first = await connect();
  await waitFor(() => expect(first.sentOf('subscribe')).toBe(1));
  expect(last().subscribed).toBe(false);
  await act(async () => first.confirm('tokens'));
  expect(last().subscribed).toBe(true);

  await act(async () => first.end(1006));
  expect(last().subscribed).toBe(false);
  await waitFor(() => expect(FakeSocket.made.length).toBe(2));
  const second = FakeSocket.last;
  await act(async () => second.greet());
  await waitFor(() => expect(second.sentOf('subscribe')).toBe(1));
  await act(async () => second.confirm('tokens', { recovered: true }));
  expect(last().subscribed).toBe(true);
});

test('Tries to break: who comes later to a topic that is followed knows at once that it is.', async () => {
  const socket = await connect();
  render(<Follows />);
  await waitFor(() => expect(socket.sentOf('subscribe')).toBe(1));
  await act(async () => socket.confirm('tokens'));
  rendered = [];
  render(<Follows />);
  expect(last().subscribed).toBe(true);
  expect(socket.sentOf('subscribe')).toBe(1);
});

test('Tries to break: a topic that the program itself subscribed to is known to be, and survives the hook.', async () => {
  const socket = await connect();
  const subscribing = ws.subscribe('tokens');
  await waitFor(() => expect(socket.sentOf('subscribe')).toBe(1));
  await act(async () => socket.confirm('tokens'));
  await subscribing;
  const page = render(<Follows />);
  await settle();
  expect(socket.sentOf('subscribe')).toBe(1);
  expect(last().subscribed).toBe(true);
  page.unmount();
  await settle();
  expect(socket.sentOf('unsubscribe')).toBe(0);
});

test('Tries to break: disabled, nothing is followed; enabled or for another topic, that one is.', async () => {
  const socket = await connect();
  const page = render(<Follows enabled={false} />);
  await settle();
  expect(socket.sent).toEqual([]);
  page.rerender(<Follows />);
  await waitFor(() => expect(socket.sentOf('subscribe')).toBe(1));
  await act(async () => socket.confirm('tokens'));
  page.rerender(<Follows topic="graph" />);
  expect(last().subscribed).toBe(false);
  await waitFor(() => expect(socket.sentOf('unsubscribe')).toBe(1));
  await waitFor(() => expect(socket.sentOf('subscribe')).toBe(2));
  await act(async () => socket.confirm('graph'));
  expect(last().subscribed).toBe(true);
  page.rerender(<Follows topic="graph" enabled={false} />);
  expect(last().subscribed).toBe(false);
  await waitFor(() => expect(socket.sentOf('unsubscribe')).toBe(2));
});

test('Tries to break: three hundred renders send nothing.', async () => {
  const socket = await connect();
  const page = render(<Follows />);
  await waitFor(() => expect(socket.sentOf('subscribe')).toBe(1));
  await act(async () => socket.confirm('tokens'));
  const [sent, added] = [socket.sent.length, handlers.added];
  for (let n = 0; n < 300; n += 1) page.rerender(<Follows />);
  await settle();
  expect([socket.sent.length, handlers.added]).toEqual([sent, added]);
});

test('Tries to break: a hole in the log is told, once, to those who followed, and not after a change of topic.', async () => {
  const first = await connect();
  const page = render(<Follows />);
  await waitFor(() => expect(first.sentOf('subscribe')).toBe(1));
  await act(async () => first.confirm('tokens', { seq: 7 }));
  await act(async () => first.end(1006));
  await waitFor(() => expect(FakeSocket.made.length).toBe(2));
  const second = FakeSocket.last;
  await act(async () => second.greet());
  await waitFor(() => expect(second.sent.at(-1)).toMatchObject({ type: 'subscribe', payload: { since: 7 } }));
  await act(async () => second.confirm('tokens', { epoch: '00000002', seq: 3 }));
  await waitFor(() =>
    expect(last().gap).toMatchObject({ topic: 'tokens', seq: 7, now: { epoch: '00000002', seq: 3 } }),
  );
  const gap = last().gap;
  page.rerender(<Follows />);
  expect(last().gap).toBe(gap);
  page.rerender(<Follows topic="graph" />);
  expect(last().gap).toBe(null);
  page.rerender(<Follows />);
  await settle();
  expect(last().gap).toBe(null);
});

class Boundary extends Component<{ children: ReactNode }, { error: Error | null }> {
  override state = { error: null as Error | null };
  static getDerivedStateFromError(error: Error) {
    return { error };
  }
  override render() {
    return this.state.error?.message ?? this.props.children;
  }
}

test('Tries to break: a topic that can not be is told to the boundary above, and leaves no handler behind.', () => {
  const reported = vi.spyOn(console, 'error').mockImplementation(() => {});
  const page = render(
    <Boundary>
      <Follows topic="no topic" />
    </Boundary>,
  );
  expect(page.container.textContent).toContain('no topic');
  expect(handlers.open).toBe(0);
  reported.mockRestore();
});
