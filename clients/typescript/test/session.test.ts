/** The client over a fake socket: handlers, subscriptions that share a topic, the queue, arguments that can't be. */

import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import {
  createWebSocket,
  GapError,
  type NeuroGraphWebSocket,
  type Options,
  QueueFull,
  RequestTimeout,
  RequestTooBig,
  SlowSubscriber,
} from '@neurograph/client';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { FakeServer, FakeSocket, message } from './fakes.js';

const clients: NeuroGraphWebSocket[] = [];
afterEach(() => {
  for (const ws of clients.splice(0)) void ws.disconnect();
  FakeSocket.all.length = 0;
});

async function connected(options: Options = {}, greeting: object = {}): Promise<NeuroGraphWebSocket> {
  const WebSocketClass = FakeSocket as unknown as typeof WebSocket;
  const ws = createWebSocket({ url: 'ws://host/ws', WebSocket: WebSocketClass, random: () => 0, ...options });
  clients.push(ws);
  const connecting = ws.connect();
  await vi.waitFor(() => FakeSocket.last);
  FakeSocket.last.greet(greeting);
  await connecting;
  return ws;
}

/** Break, and be greeted on the next connection. */
async function again(): Promise<FakeSocket> {
  const before = FakeSocket.all.length;
  FakeSocket.last.break();
  await vi.waitFor(() => expect(FakeSocket.all.length).toBe(before + 1));
  FakeSocket.last.greet();
  return FakeSocket.last;
}

const event = (topic: string, seq: number | null, fields: object = {}) =>
  FakeSocket.last.say(message({ type: 'x', topic, ...(seq === null ? {} : { seq, epoch: '0000000a' }), ...fields }));

function agree(fields: object = {}): void {
  const payload = { success: true, durable: true, epoch: '0000000a', seq: 0, recovered: false, replay: 0, ...fields };
  FakeSocket.last.answer('subscribed', { topic: FakeSocket.last.sent.at(-1)?.payload.topic, ...payload });
}

describe('handlers', () => {
  it('tries to break a client or other handlers by handlers that throw, come, or go while they are called', async () => {
    const reported = vi.spyOn(console, 'error').mockImplementation(() => {});
    const ws = await connected();
    const heard: string[] = [];
    const off = ws.on('x', () => {
      heard.push('first');
      off();
      gone();
      ws.on('x', () => heard.push('late'));
      throw new Error('mine');
    });
    const gone = ws.on('x', () => heard.push('gone'));
    ws.on('x', () => heard.push('other'));
    ws.on('*', (any) => heard.push(`* ${any.type}`));
    event('none', null); // of no topic that is followed
    FakeSocket.last.say(message({ type: 'x' }));
    expect(heard).toEqual(['first', 'other', '* x']);
    expect(reported).toHaveBeenCalledWith(new Error('mine'));
    FakeSocket.last.say(message({ type: 'x' }));
    expect(heard.slice(3)).toEqual(['other', 'late', '* x']);
  });

  it('tries to end a process by a handler whose promise rejects', async () => {
    const unhandled = vi.fn();
    process.on('unhandledRejection', unhandled);
    const reported = vi.spyOn(console, 'error').mockImplementation(() => {});
    const ws = await connected();
    ws.on('x', async () => {
      throw new Error('mine, later');
    });
    FakeSocket.last.say(message({ type: 'x' }));
    await new Promise((resolve) => setImmediate(resolve));
    process.off('unhandledRejection', unhandled);
    expect(unhandled).not.toHaveBeenCalled();
    expect(reported).toHaveBeenCalledWith(new Error('mine, later'));
    reported.mockRestore();
  });

  it('tries to be called twice for one event by naming it as all events are', async () => {
    const ws = await connected();
    const handler = vi.fn();
    ws.on('*', handler);
    FakeSocket.last.say(message({ type: '*' }));
    expect(handler).toHaveBeenCalledTimes(1);
  });

  it('tries to take a name for a property that all objects have', async () => {
    const ws = await connected();
    const heard: unknown[] = [];
    for (const name of ['__proto__', 'constructor', 'toString']) {
      ws.on(name, (any) => heard.push(any.type));
      FakeSocket.last.say(message({ type: name, reply_to: name }));
      FakeSocket.last.say(`{"id":"1","type":"${name}","timestamp":1,"payload":{"__proto__":{"polluted":true}}}`);
    }
    expect(heard.length).toBe(6);
    expect(({} as Record<string, unknown>).polluted).toBeUndefined();
  });

  it('tries to call a handler that is off, or once where it was registered twice', async () => {
    const ws = await connected();
    const handler = vi.fn();
    ws.on('x', handler);
    ws.on('x', handler);
    FakeSocket.last.say(message({ type: 'x' }));
    ws.off('x', handler);
    FakeSocket.last.say(message({ type: 'x' }));
    ws.off('x', handler);
    ws.off('x', handler);
    FakeSocket.last.say(message({ type: 'x' }));
    expect(handler).toHaveBeenCalledTimes(3);
    expect(() => ws.on('x', null as never)).toThrow(TypeError);
  });

  it('tries to disconnect, and to connect again, from within', async () => {
    const ws = await connected();
    ws.on('x', () => void ws.disconnect());
    const once = ws.onEvent('state', (state) => {
      once();
      if (state === 'ended') void ws.connect();
    });
    FakeSocket.last.say(message({ type: 'x' }));
    await vi.waitFor(() => expect(FakeSocket.all.length).toBe(2));
    FakeSocket.last.greet();
    expect(ws.state).toBe('connected');
  });
});

describe('one topic, shared', () => {
  it('tries to dispatch an event twice where many hold its topic, and after the last has released', async () => {
    const ws = await connected();
    const handler = vi.fn();
    ws.on('x', handler);
    const releases = [ws.hold('tokens'), ws.hold('tokens')];
    void ws.subscribe('tokens');
    const events = ws.events('tokens');
    agree();
    event('tokens', 1);
    event('tokens', 1);
    expect(handler).toHaveBeenCalledTimes(1);
    for (const release of [...releases, ...releases]) release();
    event('tokens', 2);
    expect([handler.mock.calls.length, ws.position('tokens')]).toEqual([2, { epoch: '0000000a', seq: 2 }]);
    await ws.unsubscribe('tokens');
    event('tokens', 3); // for the iterator alone
    expect(handler).toHaveBeenCalledTimes(2);
    await events.return();
    expect(FakeSocket.last.types).toEqual(['subscribe', 'unsubscribe']);
  });

  it('tries to keep from handlers what comes for iterators, where nobody else follows', async () => {
    const ws = await connected();
    const heard: unknown[] = [];
    ws.on('x', ({ seq }) => heard.push(seq));
    ws.events('tokens');
    agree();
    event('tokens', 1);
    event('tokens', 1);
    expect(heard).toEqual([1]);
  });

  it('tries to dispatch events after a gap that was not told, or to go back without since', async () => {
    const ws = await connected();
    const heard: unknown[] = [];
    ws.on('x', ({ seq }) => heard.push(seq));
    ws.onEvent('gap', ({ seq, now }) => heard.push(`gap ${seq} ${now?.seq}`));
    ws.hold('tokens');
    agree({ seq: 4 });
    event('tokens', 5);
    event('tokens', 8);
    event('tokens', 9);
    await again();
    expect(FakeSocket.last.sent).toMatchObject([{ payload: { since: 9, epoch: '0000000a' } }]);
    agree({ seq: 20 });
    event('tokens', 21);
    expect(heard).toEqual([5, 'gap 5 8', 8, 9, 'gap 9 20', 21]);
    void ws.subscribe('tokens', { since: 19, epoch: '0000000a' });
    agree({ seq: 21, recovered: true, replay: 2 });
    event('tokens', 20);
    expect(heard.slice(6)).toEqual([20]);
  });

  it('tries to end what is held when the client ends, and to start it anew elsewhere than where it was', async () => {
    const ws = await connected();
    ws.hold('tokens');
    agree();
    event('tokens', 1);
    const events = ws.events('tokens');
    await ws.disconnect();
    await expect(events.next()).rejects.toMatchObject({ code: 1000 });
    void ws.connect();
    await vi.waitFor(() => expect(FakeSocket.all.length).toBe(2));
    FakeSocket.last.greet();
    expect(FakeSocket.last.sent).toMatchObject([{ type: 'subscribe', payload: { since: 1, epoch: '0000000a' } }]);
  });

  it('tries to follow what was refused without a word, or to have it asked for again and again', async () => {
    const ws = await connected();
    const asked = ws.subscribe('secret');
    ws.hold('secret');
    const refuse = () =>
      FakeSocket.last.answer('error', { code: 'forbidden', message: 'no', retryable: false, details: {} });
    refuse();
    await expect(asked).rejects.toMatchObject({ code: 'forbidden' });
    expect(FakeSocket.last.types).toEqual(['subscribe']);
    await again(); // who holds it has another try
    expect(FakeSocket.last.types).toEqual(['subscribe']);
  });

  it('tries to resume on a server that can not subscribe now, without trying another connection', async () => {
    const ws = await connected();
    ws.hold('tokens');
    agree();
    await again();
    const details = { retry_after_ms: 50 };
    const told: unknown[] = [];
    ws.onEvent('disconnected', ({ code, nextMs }) => told.push([code, nextMs]));
    FakeSocket.last.answer('error', { code: 'unavailable', message: 'no', retryable: true, details });
    expect(told).toEqual([[1013, 50]]);
  });

  it('tries to have send and request of subscribe forgotten after a break', async () => {
    const ws = await connected();
    ws.send('subscribe', { topic: 'tokens' });
    agree();
    await again();
    expect(FakeSocket.last.types).toEqual(['subscribe']);
    const reply = ws.request('subscribe', { topic: 'graph' });
    agree({ seq: 7 });
    expect(await reply).toMatchObject({ type: 'subscribed', payload: { topic: 'graph', seq: 7 } });
    await again();
    expect(FakeSocket.last.sent.map((command) => command.payload.topic)).toEqual(['tokens', 'graph']);
    const left = ws.request('unsubscribe', { topic: 'tokens' });
    expect(FakeSocket.last.types.at(-1)).toBe('unsubscribe');
    FakeSocket.last.answer('unsubscribed');
    expect(await left).toMatchObject({ type: 'unsubscribed', payload: { topic: 'tokens', success: true } });
  });

  it('tries to have a subscription that is there already, with and without a signal, answered by a fault', async () => {
    const ws = await connected();
    void ws.subscribe('tokens');
    agree({ seq: 3 });
    expect(await ws.subscribe('tokens')).toMatchObject({ topic: 'tokens', seq: 3 });
    expect(await ws.request('subscribe', { topic: 'tokens' })).toMatchObject({ payload: { seq: 3 } });
    expect(FakeSocket.last.types).toEqual(['subscribe']);
  });

  it('tries to match a reply of subscribe or unsubscribe by the id that send returned, in vain or twice', async () => {
    const ws = await connected();
    const heard: unknown[] = [];
    for (const type of ['subscribed', 'unsubscribed', 'error']) {
      ws.on(type, ({ reply_to }) => heard.push([type, reply_to]));
    }
    const turn = () => new Promise((resolve) => setImmediate(resolve));
    const first = ws.send('subscribe', { topic: 'tokens' });
    expect(FakeSocket.last.sent.at(-1)?.id).toBe(first);
    const second = ws.send('subscribe', { topic: 'tokens' }); // nothing is sent for it
    expect(heard).toEqual([]);
    agree();
    await turn();
    const third = ws.send('subscribe', { topic: 'tokens' });
    await turn();
    const left = ws.send('unsubscribe', { topic: 'tokens' });
    expect(FakeSocket.last.sent.at(-1)?.id).toBe(left);
    FakeSocket.last.answer('unsubscribed');
    const nothing = ws.send('unsubscribe', { topic: 'tokens' });
    await turn();
    FakeSocket.last.break();
    const waiting = ws.send('subscribe', { topic: 'secret' });
    const besides = ws.send('subscribe', { topic: 'secret' });
    await vi.waitFor(() => expect(FakeSocket.all.length).toBe(2));
    FakeSocket.last.greet();
    FakeSocket.last.answer('error', { code: 'forbidden', message: 'no', retryable: false });
    await turn();
    const expected = [
      ['subscribed', first],
      ['subscribed', second],
      ['subscribed', third],
      ['unsubscribed', left],
      ['unsubscribed', nothing],
      ['error', waiting],
      ['error', besides],
    ];
    expect(heard.sort()).toEqual(expected.sort());
    heard.length = 0;
    void ws.subscribe('tokens');
    agree();
    const followed = ws.send('subscribe', { topic: 'tokens' });
    await again();
    agree();
    expect(heard.filter((told) => (told as string[])[1] === followed)).toHaveLength(1); // not again on the next connection
  });

  it('tries to have a subscription of send dropped without a word because a break took long', async () => {
    const ws = await connected({ requestTimeoutMs: 1 });
    FakeSocket.last.break();
    ws.send('subscribe', { topic: 'tokens' });
    await expect(ws.request('x')).rejects.toBeInstanceOf(RequestTimeout);
    await vi.waitFor(() => expect(FakeSocket.all.length).toBe(2));
    FakeSocket.last.greet();
    expect(FakeSocket.last.types).toEqual(['subscribe']);
    expect(() => ws.send('subscribe', { topic: 'no topic' })).toThrow(TypeError);
    await ws.disconnect();
    expect(() => ws.send('subscribe', { topic: 'tokens' })).toThrow('closed by this client');
  });

  it('tries to wait for ever for an unsubscribed, or longer for a subscribed than it was asked to', async () => {
    const ws = await connected({ requestTimeoutMs: 1 });
    void ws.subscribe('tokens');
    agree();
    await expect(ws.unsubscribe('tokens')).rejects.toMatchObject({ command: 'unsubscribe', timeoutMs: 1 });
    const asked = ws.request('subscribe', { topic: 'graph' }, { timeoutMs: 2 });
    await expect(asked).rejects.toMatchObject({ command: 'subscribe', timeoutMs: 2 });
  });

  it('tries to follow a topic after its subscription has timed out', async () => {
    const ws = await connected({ requestTimeoutMs: 1 });
    await expect(ws.subscribe('tokens')).rejects.toBeInstanceOf(RequestTimeout);
    agree();
    await vi.waitFor(() => expect(FakeSocket.last.types).toEqual(['subscribe', 'unsubscribe']));
  });
});

describe('iterators', () => {
  it('tries to have a buffer that is larger than 32 bits, or that can not be, wait for ever', async () => {
    const ws = await connected();
    for (const bufferEvents of [Number.MAX_SAFE_INTEGER, 2 ** 32, Number.POSITIVE_INFINITY]) {
      const events = ws.events('tokens', { bufferEvents });
      agree();
      event('tokens', 1);
      expect(await events.next()).toMatchObject({ value: { seq: 1 } });
      await events.return();
      FakeSocket.last.answer('unsubscribed');
    }
    for (const wrong of [{ bufferEvents: Number.NaN }, { bufferBytes: Number.NaN }, { bufferBytes: -1 }]) {
      expect(() => ws.events('tokens', wrong)).toThrow(RangeError);
    }
    expect(() => createWebSocket({ url: 'ws://h/', queueBytes: Number.NaN })).toThrow(RangeError);
  });

  it('tries to lose ephemeral events without a word, or to hold up others', async () => {
    const ws = await connected();
    const handler = vi.fn();
    ws.on('x', handler);
    ws.hold('chat');
    const events = ws.events('chat', { bufferEvents: 2 });
    agree({ durable: false, epoch: null, seq: null });
    for (let n = 0; n < 4; n++) event('chat', null);
    expect(handler).toHaveBeenCalledTimes(4);
    await events.next();
    await events.next();
    await expect(events.next()).rejects.toBeInstanceOf(SlowSubscriber);
    expect(await events.next()).toEqual({ done: true, value: undefined });
  });

  it('tries to leave a wait behind when the iterator is closed or its signal aborts', async () => {
    const ws = await connected();
    const end = new AbortController();
    const events = ws.events('tokens', { signal: end.signal });
    agree();
    const waits = [events.next(), events.next()];
    end.abort();
    expect(await Promise.all(waits)).toEqual([
      { done: true, value: undefined },
      { done: true, value: undefined },
    ]);
    expect(FakeSocket.last.types).toEqual(['subscribe', 'unsubscribe']);
    const late = ws.events('tokens', { signal: end.signal });
    expect(await late.next()).toEqual({ done: true, value: undefined });
    expect(FakeSocket.last.types.length).toBe(2);
  });

  it('tries to pass over a topic that is not durable any more', async () => {
    const ws = await connected();
    const gaps: unknown[] = [];
    ws.onEvent('gap', (gap) => gaps.push(gap));
    const events = ws.events('tokens');
    agree({ seq: 3 });
    await again();
    agree({ durable: false, epoch: null, seq: null });
    await expect(events.next()).rejects.toBeInstanceOf(GapError);
    expect(gaps).toEqual([{ topic: 'tokens', seq: 3, epoch: '0000000a', now: null }]);
  });
});

describe('commands', () => {
  it('tries to have more on the wire than in_flight, or to have one that is not answered block for ever', async () => {
    const limits = { message_bytes: 65_536, subscriptions: 128, in_flight: 2 };
    const ws = await connected({ requestTimeoutMs: 5 }, { limits });
    const first = ws.request('one');
    ws.send('two');
    ws.send('three');
    expect(FakeSocket.last.types).toEqual(['one', 'two']);
    await expect(first).rejects.toBeInstanceOf(RequestTimeout);
    expect(FakeSocket.last.types).toEqual(['one', 'two', 'three']);
  });

  it('tries to queue more bytes than the bound, or to send what was refused', async () => {
    const ws = await connected({ queueBytes: 300 });
    FakeSocket.last.break();
    const big = { text: 'ä'.repeat(60) };
    ws.send('a', big);
    expect(() => ws.send('b', big)).toThrow(QueueFull);
    await expect(ws.request('c', big)).rejects.toMatchObject({ name: 'QueueFull', limitBytes: 300 });
    await vi.waitFor(() => expect(FakeSocket.all.length).toBe(2));
    FakeSocket.last.greet();
    FakeSocket.last.answer();
    ws.send('d', big);
    expect(FakeSocket.last.types).toEqual(['a', 'd']);
  });

  it('tries to send what the server would end the connection for, counted in bytes of UTF-8', async () => {
    const limits = { message_bytes: 200, subscriptions: 128, in_flight: 9 };
    const ws = await connected({}, { limits });
    const envelope = new TextEncoder().encode(JSON.stringify({ id: 'i', type: 't', payload: { text: '' } })).length;
    const room = 200 - envelope;
    for (const [letter, size] of [
      ['a', 1],
      ['ä', 2],
      ['€', 3],
      ['🟢', 4],
    ] as const) {
      const fits = letter.repeat(Math.floor(room / size));
      const [reply] = [ws.request('t', { text: fits }, { id: 'i' })];
      FakeSocket.last.answer();
      await reply;
      await expect(ws.request('t', { text: fits + letter }, { id: 'i' })).rejects.toBeInstanceOf(RequestTooBig);
    }
  });

  it('tries to hear a reply that comes after its time, or to be harmed by replies to nobody', async () => {
    const ws = await connected({ requestTimeoutMs: 1 });
    await expect(ws.request('late')).rejects.toMatchObject({ command: 'late', timeoutMs: 1 });
    FakeSocket.last.answer();
    FakeSocket.last.answer('error', { code: 'internal' });
    expect(ws.state).toBe('connected');
  });

  it('tries to have what was answered kept for as long as something waits', async () => {
    setFlagsFromString('--expose_gc');
    const collect = runInNewContext('gc') as () => void;
    const limits = { message_bytes: 65_536, subscriptions: 128, in_flight: 1 };
    const ws = await connected({}, { limits });
    const asked: WeakRef<Promise<unknown>>[] = [];
    for (let n = 0; n < 3_000; n++) {
      asked.push(new WeakRef(ws.request('x')));
      if (n > 1) FakeSocket.last.answer(); // one is on the wire, others wait for it
    }
    await new Promise((resolve) => setImmediate(resolve));
    collect();
    expect(asked.filter((promise) => promise.deref() !== undefined).length).toBeLessThan(1_500);
  });

  it('tries to stop waiting by a signal, or to use an id twice at once', async () => {
    const ws = await connected();
    const stop = new AbortController();
    const waiting = ws.request('x', {}, { id: 'one', signal: stop.signal });
    await expect(ws.request('x', {}, { id: 'one' })).rejects.toBeInstanceOf(TypeError);
    stop.abort(new Error('enough'));
    await expect(waiting).rejects.toThrow('enough');
    await expect(ws.request('x', {}, { signal: stop.signal })).rejects.toThrow('enough');
    expect(FakeSocket.last.types).toEqual(['x']);
  });

  it('tries to pass arguments that can not be', async () => {
    const ws = await connected();
    const circle: Record<string, unknown> = {};
    circle.self = circle;
    await expect(ws.request('x', circle)).rejects.toBeInstanceOf(TypeError);
    await expect(ws.request('x', { big: 1n })).rejects.toBeInstanceOf(TypeError);
    await expect(ws.request('x', null as never)).rejects.toBeInstanceOf(TypeError);
    await expect(ws.request('subscribe', null as never)).rejects.toBeInstanceOf(TypeError);
    await expect(ws.request('authenticate', 'token' as never)).rejects.toBeInstanceOf(TypeError);
    await expect(ws.request('x', {}, { id: 'i'.repeat(129) })).rejects.toBeInstanceOf(TypeError);
    await expect(ws.subscribe('no topic')).rejects.toBeInstanceOf(TypeError);
    await expect(ws.subscribe('t', { since: -1 })).rejects.toBeInstanceOf(RangeError);
    expect(() => ws.events('t', { since: 1, epoch: 'no' })).toThrow(RangeError);
    expect(() => createWebSocket({ url: 'ws://h/', clientId: 'no client' })).toThrow(TypeError);
    for (const url of ['ftp://h/', 'nothing', undefined]) expect(() => createWebSocket({ url })).toThrow(TypeError);
    expect(createWebSocket('https://h/ws').url).toMatch(/^wss:\/\/h\/ws\?client_id=client_[0-9a-f]{16}$/);
    expect(FakeSocket.last.sent).toEqual([]);
  });

  it('tries to be somebody else than the URL says', () => {
    const named = createWebSocket('ws://h/ws?client_id=my_client');
    expect([named.clientId, named.url]).toEqual(['my_client', 'ws://h/ws?client_id=my_client']);
    expect(createWebSocket({ url: 'ws://h/ws?client_id=my_client', clientId: 'me' }).clientId).toBe('me');
    expect(createWebSocket('ws://h/ws?client_id=').clientId).toMatch(/^client_[0-9a-f]{16}$/);
    expect(() => createWebSocket('ws://h/ws?client_id=no+client')).toThrow(TypeError);
  });

  it('tries to end a process by promises that nobody looks at', async () => {
    const unhandled = vi.fn();
    process.on('unhandledRejection', unhandled);
    const ws = await connected();
    void ws.createToken();
    void ws.ping();
    void ws.subscribe('t');
    void ws.events('t').next();
    void ws.request('x');
    await ws.disconnect();
    void ws.createToken();
    void ws.subscribe('t');
    void ws.connect({ retry: false });
    await ws.disconnect();
    await new Promise((resolve) => setImmediate(resolve));
    process.off('unhandledRejection', unhandled);
    expect(unhandled).not.toHaveBeenCalled();
  });
});

describe('the fake server', () => {
  it('tries to do a command twice, or to replay what is not in the log', () => {
    const server = new FakeServer();
    const peer = server.connect();
    const command = JSON.stringify({ id: '1', type: 'do', payload: {} });
    peer.receive(command);
    peer.receive(command);
    expect(server.effects).toEqual(['1']);
    for (let n = 0; n < 3; n++) server.publish('t');
    server.prune('t', 1);
    const ask = (since: number) => {
      peer.toClient.length = 0;
      peer.receive(JSON.stringify({ id: `s${since}`, type: 'subscribe', payload: { topic: 't', since } }));
      return peer.toClient.map((text) => JSON.parse(text));
    };
    expect(ask(0)).toMatchObject([{ payload: { recovered: false, replay: 0, seq: 3 } }]);
    expect(ask(1)).toMatchObject([{ payload: { recovered: true, replay: 2 } }, { seq: 2 }, { seq: 3 }]);
  });
});
