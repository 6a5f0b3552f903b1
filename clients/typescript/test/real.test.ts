/** Against a real server over real sockets. */

import {
  CommandError,
  ConnectFailed,
  ConnectionLost,
  createWebSocket,
  type EventEnvelope,
  GapError,
  type NeuroGraphWebSocket,
  NotFound,
  type Options,
  RequestTooBig,
} from '@neurograph/client';
import { afterEach, describe, expect, inject, it, onTestFinished } from 'vitest';
import { TestServer } from './server.js';

const open: NeuroGraphWebSocket[] = [];
afterEach(() => Promise.all(open.splice(0).map((ws) => ws.disconnect())));

async function connected(options: Options = {}): Promise<NeuroGraphWebSocket> {
  const ws = createWebSocket({ url: inject('serverUrl'), random: () => 0, ...options });
  open.push(ws);
  await ws.connect();
  return ws;
}

/** Some name that no other test uses. */
const unique = () => `t${crypto.randomUUID().replaceAll('-', '').slice(0, 16)}`;

async function take<Item>(items: AsyncIterable<Item>, count: number): Promise<Item[]> {
  const taken: Item[] = [];
  for await (const item of items) if (taken.push(item) === count) break;
  return taken;
}

describe('commands', () => {
  it('tries to wait in vain for an answer to half a character, which JSON.stringify writes and no reader takes', async () => {
    const ws = await connected();
    const refused = ws.request('publish', { topic: unique(), type: 'x', payload: { x: '\ud800' } });
    await expect(refused).rejects.toMatchObject({ code: 'invalid_json' });
  });

  it('tries to find a typed method whose answer is not what the server stored', async () => {
    const ws = await connected();
    const a = await ws.createToken({
      type: 'a',
      coord_x: [1, 2],
      weight: 0.5,
      flags: 2 ** 32 - 1,
      metadata: { ü: '🟢\u2028' },
    });
    expect(a.coordinates.x).toEqual([1, 2, 0, 0, 0, 0, 0, 0]);
    expect(await ws.getToken(a.token_id)).toEqual(a);
    const b = await ws.createToken();
    const changed = await ws.updateToken(b.token_id, { weight: 3, if_version: 1 });
    expect(changed).toMatchObject({ weight: 3, version: 2 });
    const listed = await ws.listTokens({ limit: 2, full: true });
    expect(listed.tokens).toEqual([changed, a]);
    const edge = await ws.connectTokens(a.token_id, b.token_id, { type: 'leads' });
    expect((await ws.getNeighbors(a.token_id)).neighbors).toEqual([{ ...edge, neighbor_id: b.token_id }]);
    expect(await ws.getDegree(a.token_id)).toMatchObject({ outgoing: 1, total: 1 });
    expect(await ws.findPath(a.token_id, b.token_id)).toMatchObject({ path: [a.token_id, b.token_id], length: 1 });
    expect(await ws.disconnectTokens({ connection_id: edge.connection_id })).toMatchObject({ type: 'leads' });
    expect(await ws.disconnectTokens({ connection_id: edge.connection_id })).toBeNull();
    const step = await ws.recordExperience('step', { trajectory_id: unique(), state_after: [1, null, 'x'] });
    expect(step).toMatchObject({ sequence_number: 1, state_after: [1, null, 'x'] });
    expect((await ws.listExperiences({ limit: 1 })).events).toEqual([step]);
    expect(await ws.publish(unique(), 'hello', {})).toMatchObject({ durable: false, seq: null });
    expect(await ws.deleteToken(a.token_id)).toBe(true);
    expect(await ws.deleteToken(a.token_id)).toBe(false);
    expect(await ws.getToken(a.token_id)).toBeNull();
    expect(await ws.ping()).toBeLessThan(5_000);
  });

  it('tries to get an error past its class', async () => {
    const ws = await connected();
    const gone = crypto.randomUUID();
    await expect(ws.updateToken(gone, { weight: 1 })).rejects.toMatchObject({ name: 'NotFound', tokenId: gone });
    await expect(ws.getNeighbors(gone)).rejects.toBeInstanceOf(NotFound);
    await expect(ws.createToken({ flags: -1 })).rejects.toMatchObject({
      code: 'invalid_payload',
      retryable: false,
      details: { errors: [{ path: 'payload.flags' }] },
    });
    await expect(ws.publish('tokens', 'x')).rejects.toMatchObject({ code: 'forbidden' });
    await expect(ws.request('no.such', {})).rejects.toBeInstanceOf(CommandError);
    await expect(ws.createToken({ metadata: { big: 'x'.repeat(70_000) } })).rejects.toBeInstanceOf(RequestTooBig);
    await expect(ws.request('ping', [] as never)).rejects.toBeInstanceOf(TypeError);
    expect(ws.isConnected()).toBe(true);
  });

  it('tries to mix up the replies of a thousand commands that do not wait for each other', async () => {
    const ws = await connected();
    const replies = await Promise.all(
      Array.from({ length: 1_000 }, (_, index) => ws.createToken({ type: `n${index}` })),
    );
    expect(replies.map((token) => token.type)).toEqual(replies.map((_, index) => `n${index}`));
  });

  it('tries to make a command with the same id take effect twice', async () => {
    const ws = await connected();
    const id = unique();
    const first = await ws.request('token.create', {}, { id });
    const second = await ws.request('token.create', {}, { id });
    expect(second).toMatchObject({ payload: first.payload, replayed: true });
    await expect(ws.request('token.create', { weight: 2 }, { id })).rejects.toMatchObject({ code: 'conflict' });
  });
});

describe('subscriptions', () => {
  it('tries to get an event before its reply, twice, or out of order', async () => {
    const ws = await connected();
    const heard: string[] = [];
    await ws.subscribe('tokens');
    ws.hold('tokens');
    const events = ws.events('tokens');
    ws.on('token.created', (message) => heard.push(`${message.topic ?? 'reply'} ${message.payload.type}`));
    const [x, y] = [unique(), unique()];
    await Promise.all([ws.createToken({ type: x }), ws.createToken({ type: y })]);
    const seen = await take(events, 2);
    expect(seen.map((event) => 'type' in event.payload && event.payload.type)).toEqual([x, y]);
    expect(heard.filter((line) => line.endsWith(x))).toEqual([`reply ${x}`, `tokens ${x}`]);
    expect(heard.filter((line) => line.endsWith(y))).toEqual([`reply ${y}`, `tokens ${y}`]);
  });

  it('tries to lose what happens between a list and a subscription since its position', async () => {
    const ws = await connected();
    const { position } = await ws.listTokens();
    const created = await ws.createToken();
    const events = ws.events('tokens', { since: position.seq, epoch: position.epoch });
    expect(await events.opened()).toMatchObject({ recovered: true, seq: position.seq });
    const [event] = await take(events, 1);
    expect(event).toMatchObject({ type: 'token.created', seq: position.seq + 1, payload: created });
  });

  it('tries to hear of a topic after unsubscribe, and to miss it after another subscribe', async () => {
    const ws = await connected();
    const topic = unique();
    const heard: unknown[] = [];
    ws.on('n', (message) => heard.push(message.payload.n));
    const next = () => new Promise((resolve) => ws.on('n', resolve));
    const first = next();
    await ws.subscribe(topic);
    await ws.publish(topic, 'n', { n: 1 });
    await first;
    expect(heard).toEqual([1]);
    await ws.unsubscribe(topic);
    await ws.publish(topic, 'n', { n: 2 });
    const second = next();
    await ws.subscribe(topic);
    await ws.publish(topic, 'n', { n: 3 });
    await second;
    expect(heard).toEqual([1, 3]);
  });

  it('tries to have a gap passed over in silence', async () => {
    const ws = await connected();
    const { epoch } = await ws.subscribe('graph');
    const gaps: unknown[] = [];
    ws.onEvent('gap', (gap) => gaps.push(gap));
    const wrong = epoch === 'ffffffff' ? '00000000' : 'ffffffff';
    const events = ws.events('graph', { since: 3, epoch: wrong });
    await expect(events.next()).rejects.toBeInstanceOf(GapError);
    expect(gaps).toEqual([{ topic: 'graph', seq: 3, epoch: wrong, now: { epoch, seq: expect.any(Number) } }]);
    expect(await events.next()).toEqual({ done: true, value: undefined });
  });

  it('tries to lose events by reading them more slowly than they come', async () => {
    const ws = await connected();
    const events = ws.events('tokens', { bufferEvents: 8 });
    const { seq } = await events.opened();
    await Promise.all(Array.from({ length: 200 }, () => ws.createToken()));
    const seen = await take(events, 200);
    expect(seen.map((event) => event.seq)).toEqual(seen.map((_, index) => (seq ?? 0) + 1 + index));
  });
});

describe('the connection', () => {
  it('tries to be refused without a status', async () => {
    const ws = createWebSocket(inject('serverUrl').replace('/ws', '/nothing'));
    await expect(ws.connect()).rejects.toMatchObject({ name: 'ConnectFailed', status: 404 });
    expect(ws.state).toBe('ended');
    expect(ws.error).toBeInstanceOf(ConnectFailed);
  });

  it('tries to hang on a server that is not there', async () => {
    const ws = createWebSocket('ws://127.0.0.1:9/ws');
    await expect(ws.connect({ retry: false })).rejects.toMatchObject({ name: 'ConnectFailed', status: null });
  });

  it('tries to keep requests waiting after disconnect', async () => {
    const ws = await connected();
    const waiting = ws.createToken();
    await ws.disconnect();
    await expect(waiting).rejects.toMatchObject({ name: 'ConnectionLost', code: 1000 });
    await expect(ws.ping()).rejects.toBeInstanceOf(ConnectionLost);
    expect(await ws.connect()).toMatchObject({ client_id: ws.clientId });
  });

  it('tries to lose or repeat anything while the server is killed and comes back', async () => {
    const server = await TestServer.start();
    onTestFinished(() => server.stop());
    const ws = await connected({ url: server.url });
    const resumed: string[] = [];
    ws.onEvent('resumed', ({ topic }) => resumed.push(topic));
    const handled: number[] = [];
    ws.on('token.created', (message) => {
      if (message.seq !== undefined) handled.push(message.seq);
    });
    await ws.subscribe('tokens');
    const events = ws.events('tokens');
    const replies = Array.from({ length: 100 }, (_, index) => ws.createToken({ type: `a${index}` }));
    await replies[20];
    await server.kill();
    replies.push(...Array.from({ length: 100 }, (_, index) => ws.createToken({ type: `b${index}` })));
    await server.restart();
    const tokens = await Promise.all(replies);
    const seen: EventEnvelope<'tokens'>[] = await take(events, 200);
    expect(seen.map((event) => event.seq)).toEqual(seen.map((_, index) => index + 1));
    expect(new Set(seen.map((event) => event.payload.token_id))).toEqual(
      new Set(tokens.map((token) => token.token_id)),
    );
    expect(handled).toEqual(seen.map((_, index) => index + 1));
    expect(resumed).toEqual(['tokens']);
  });
});
