// @vitest-environment happy-dom
import { act, cleanup, render } from '@testing-library/react';
import { StrictMode, useState } from 'react';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { createWebSocket, NeuroGraphWebSocket } from '../../src/index.js';
import { useWebSocketMessage } from '../../src/react/index.js';
import { FakeSocket } from './fake-socket.js';
import { countHandlers } from './ledger.js';

let handlers: ReturnType<typeof countHandlers>;

beforeEach(() => {
  FakeSocket.reset();
  handlers = countHandlers(NeuroGraphWebSocket.prototype);
});

afterEach(() => {
  cleanup();
  handlers.restore();
});

/** A client of its own, connected to a socket of its own. */
async function connected(): Promise<{ ws: NeuroGraphWebSocket; socket: FakeSocket }> {
  const nth = FakeSocket.made.length;
  const ws = createWebSocket({
    url: 'ws://server.test/ws',
    WebSocket: FakeSocket as unknown as typeof WebSocket,
    random: () => 0,
  });
  const connecting = ws.connect();
  await vi.waitFor(() => expect(FakeSocket.made.length).toBe(nth + 1));
  FakeSocket.last.greet();
  await connecting;
  return { ws, socket: FakeSocket.last };
}

interface Listens {
  ws: NeuroGraphWebSocket | null;
  type?: string;
  heard: (type: string) => void;
}

function Listener({ ws, type = 'news', heard }: Listens) {
  useWebSocketMessage(ws, type, (message) => heard(message.type));
  return null;
}

function Same({ ws, heard }: Listens) {
  useWebSocketMessage(ws, 'news', heard as () => void);
  return null;
}

/** Adds one to what `Counter` shows. */
let raise = () => {};

function Counter({ ws, seen }: { ws: NeuroGraphWebSocket; seen: number[] }) {
  const [count, setCount] = useState(0);
  raise = () => setCount((before) => before + 1);
  useWebSocketMessage(ws, 'news', () => seen.push(count));
  return null;
}

test('Tries to break: a handler sees the state of the last render, through one registration.', async () => {
  const { ws, socket } = await connected();
  const seen: number[] = [];
  render(<Counter ws={ws} seen={seen} />);
  const { added } = handlers;
  for (let n = 0; n < 300; n += 1) act(raise);
  socket.say('news', {});
  expect(seen).toEqual([300]);
  expect(handlers.added).toBe(added);
});

test('Tries to break: when the client is another one, the handler moves: the old one is heard no more.', async () => {
  const [a, b] = [await connected(), await connected()];
  const heard = vi.fn();
  const page = render(<Listener ws={a.ws} heard={heard} />);
  page.rerender(<Listener ws={b.ws} heard={heard} />);
  a.socket.say('news', {});
  expect(heard).not.toHaveBeenCalled();
  b.socket.say('news', {});
  expect(heard).toHaveBeenCalledTimes(1);
  page.rerender(<Listener ws={null} heard={heard} />);
  b.socket.say('news', {});
  expect(heard).toHaveBeenCalledTimes(1);
  expect(handlers.open).toBe(0);
});

test('Tries to break: another type is another registration, and * hears all.', async () => {
  const { ws, socket } = await connected();
  const heard = vi.fn();
  const page = render(<Listener ws={ws} type="a" heard={heard} />);
  socket.say('a', {});
  page.rerender(<Listener ws={ws} type="b" heard={heard} />);
  socket.say('a', {});
  socket.say('b', {});
  page.rerender(<Listener ws={ws} type="*" heard={heard} />);
  socket.say('c', {});
  expect(heard.mock.calls.flat()).toEqual(['a', 'b', 'c']);
});

test('Tries to break: components that give the very same handler are all called, and leave one by one.', async () => {
  const { ws, socket } = await connected();
  const heard = vi.fn();
  const both = (count: number) =>
    Array.from({ length: count }, (_, n) => <Same key={String(n)} ws={ws} heard={heard} />);
  const page = render(<StrictMode>{both(2)}</StrictMode>);
  socket.say('news', {});
  expect(heard).toHaveBeenCalledTimes(2);
  page.rerender(<StrictMode>{both(1)}</StrictMode>);
  socket.say('news', {});
  expect(heard).toHaveBeenCalledTimes(3);
  page.unmount();
  socket.say('news', {});
  expect(heard).toHaveBeenCalledTimes(3);
  expect(handlers.open).toBe(0);
});

test('Tries to break: a handler that unmounts its component, or throws, takes no other handler along.', async () => {
  const { ws, socket } = await connected();
  const reported = vi.fn();
  vi.stubGlobal('reportError', reported);
  const errors = vi.spyOn(console, 'error').mockImplementation(reported);
  const heard = vi.fn();
  const first = render(<Listener ws={ws} heard={() => first.unmount()} />);
  render(
    <Listener
      ws={ws}
      heard={() => {
        throw new Error('a defect of the user');
      }}
    />,
  );
  render(<Listener ws={ws} heard={heard} />);
  act(() => socket.say('news', {}));
  act(() => socket.say('news', {}));
  expect(heard).toHaveBeenCalledTimes(2);
  expect(reported).toHaveBeenCalled();
  expect(handlers.open).toBe(2);
  vi.unstubAllGlobals();
  errors.mockRestore();
});
