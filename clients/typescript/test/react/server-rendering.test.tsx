import { version } from 'react';
import { renderToString } from 'react-dom/server';
import { expect, test, vi } from 'vitest';
import { useNeuroGraphWebSocket, useWebSocketMessage, useWebSocketSubscription } from '../../src/react/index.js';
import { FakeSocket } from './fake-socket.js';
import { openLedger } from './ledger.js';
import { TokenMonitor } from './token-monitor.jsx';

function Page({ url }: { url?: string }) {
  const { ws, state, isConnected, connectionId } = useNeuroGraphWebSocket(url, { token: 'tok_secret' });
  const { subscribed, gap } = useWebSocketSubscription(ws, 'tokens');
  useWebSocketMessage(ws, 'token.created', () => {});
  return <p>{[state, isConnected, connectionId, subscribed, gap].map(String).join(' ')}</p>;
}

test('Tries to break: the React that is tested is the one that the run says.', () => {
  expect(version.split('.')[0]).toBe(process.env.NGOS_REACT ?? '19');
});

test('Tries to break: on a server without WebSocket, window or timers to wait for, the hooks render and connect nothing.', () => {
  vi.stubGlobal('document', new EventTarget());
  vi.stubGlobal('WebSocket', undefined);
  vi.stubGlobal('addEventListener', () => expect.unreachable());
  vi.stubGlobal('removeEventListener', () => {});
  const ledger = openLedger();
  expect(renderToString(<Page url="ws://server.test/ws" />)).toBe('<p>idle false null false null</p>');
  expect(renderToString(<Page />)).toBe('<p>idle false null false null</p>');
  expect(renderToString(<TokenMonitor />)).toContain('🔴');
  expect([...ledger.timers, ...ledger.listeners]).toEqual([]);
  ledger.restore();
  vi.unstubAllGlobals();
});

test('Tries to break: even where there is a WebSocket, rendering on the server opens none.', () => {
  FakeSocket.reset();
  vi.stubGlobal('WebSocket', FakeSocket);
  renderToString(<Page url="ws://server.test/ws" />);
  expect(FakeSocket.made).toEqual([]);
  vi.unstubAllGlobals();
});
