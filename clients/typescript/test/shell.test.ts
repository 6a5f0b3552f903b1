/** The shell: sockets and timers, without a network and without time. */

import { createWebSocket, type LifeEvents, type NeuroGraphWebSocket, type Options } from '@neurograph/client';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { FakeSocket, message } from './fakes.js';

let page: EventTarget & { visibilityState: string };
let world: EventTarget;

beforeEach(() => {
  vi.useFakeTimers();
  FakeSocket.all.length = 0;
  page = Object.assign(new EventTarget(), { visibilityState: 'visible' });
  world = new EventTarget();
  vi.stubGlobal('document', page);
  vi.stubGlobal('addEventListener', world.addEventListener.bind(world));
  vi.stubGlobal('removeEventListener', world.removeEventListener.bind(world));
});

afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

function make(options: Options = {}): NeuroGraphWebSocket {
  const WebSocketClass = FakeSocket as unknown as typeof WebSocket;
  return createWebSocket({
    url: 'ws://host/ws',
    clientId: 'me',
    WebSocket: WebSocketClass,
    random: () => 1,
    ...options,
  });
}

/** Let promises go on, and no time pass. */
const turn = () => vi.advanceTimersByTimeAsync(0);

async function connected(options: Options = {}, greeting: object = {}): Promise<NeuroGraphWebSocket> {
  const ws = make(options);
  void ws.connect();
  await turn();
  FakeSocket.last.greet(greeting);
  await turn();
  expect(ws.state).toBe('connected');
  return ws;
}

function watch<Name extends keyof LifeEvents>(ws: NeuroGraphWebSocket, name: Name): LifeEvents[Name][] {
  const told: LifeEvents[Name][] = [];
  ws.onEvent(name, (event) => told.push(event));
  return told;
}

describe('connecting', () => {
  it('tries to open a socket before connect, or to lose the client id on its way', async () => {
    const ws = make();
    expect([ws.state, FakeSocket.all.length]).toEqual(['idle', 0]);
    const first = ws.connect();
    expect(ws.connect()).toBe(first);
    await turn();
    expect(FakeSocket.last.url).toBe('ws://host/ws?client_id=me');
    FakeSocket.last.greet();
    expect(await first).toMatchObject({ client_id: 'me' });
    expect(ws.getConnectionId()).toBe('00000000-0000-4000-8000-000000000001');
    expect(await ws.connect()).toBe(await first);
  });

  it('tries to wait for a greeting for ever', async () => {
    const ws = make({ connectTimeoutMs: 3_000 });
    const connecting = ws.connect({ retry: false });
    await turn();
    await vi.advanceTimersByTimeAsync(3_000);
    await expect(connecting).rejects.toMatchObject({ name: 'ConnectFailed', reason: 'no answer within 3000 ms' });
    expect(FakeSocket.last.closed).not.toBeNull();
    expect(ws.state).toBe('ended');
    expect(vi.getTimerCount()).toBe(0);
  });

  it('tries to give up before the first connection, or to try it without waits that double', async () => {
    const ws = make();
    const connecting = ws.connect();
    await turn();
    const waits = [];
    for (const wait of [500, 1_000, 2_000, 4_000, 8_000, 16_000, 20_000, 20_000]) {
      FakeSocket.last.break();
      const before = FakeSocket.all.length;
      await vi.advanceTimersByTimeAsync(wait - 1);
      const early = FakeSocket.all.length - before;
      await vi.advanceTimersByTimeAsync(1);
      waits.push([wait, early, FakeSocket.all.length - before]);
    }
    expect(waits).toEqual(waits.map(([wait]) => [wait, 0, 1]));
    expect(ws.state).toBe('connecting');
    FakeSocket.last.greet();
    await expect(connecting).resolves.toMatchObject({ client_id: 'me' });
  });

  it('tries to have a refusal retried that forbids it, or told as something else', async () => {
    for (const [status, code] of [
      [401, 4401],
      [403, 4403],
      [404, 1008],
    ] as const) {
      const ws = make();
      const connecting = ws.connect({ retry: true });
      await turn();
      FakeSocket.last.refuse(status);
      await expect(connecting).rejects.toMatchObject({ name: 'ConnectFailed', status });
      expect([ws.state, ws.error]).toMatchObject(['ended', { status }]);
      await expect(ws.ping()).rejects.toMatchObject({ name: 'ConnectionLost', code });
    }
  });

  it('tries to come back sooner than Retry-After has it, even when the page is shown', async () => {
    make().connect();
    await turn();
    FakeSocket.last.refuse(503, 7_000);
    world.dispatchEvent(new Event('online'));
    await vi.advanceTimersByTimeAsync(6_999);
    expect(FakeSocket.all.length).toBe(1);
    await vi.advanceTimersByTimeAsync(1);
    expect(FakeSocket.all.length).toBe(2);
  });

  it('tries to leave timers, sockets or listeners behind', async () => {
    const ws = await connected();
    const left = ws.disconnect();
    expect(FakeSocket.last.closed?.code).toBe(1000);
    await vi.advanceTimersByTimeAsync(999);
    await vi.advanceTimersByTimeAsync(1);
    await left;
    world.dispatchEvent(new Event('online'));
    await turn();
    expect([FakeSocket.all.length, vi.getTimerCount(), ws.state, ws.error]).toEqual([1, 0, 'ended', null]);
  });

  it('tries to connect with a token that is asked for after the program has left', async () => {
    let give: (token: string) => void = () => {};
    const ws = make({ token: () => new Promise((resolve) => (give = resolve)) });
    const connecting = ws.connect();
    await ws.disconnect();
    give('late');
    await expect(connecting).rejects.toMatchObject({ code: 1000 });
    expect(FakeSocket.all.length).toBe(0);
  });

  it('tries to connect for ever on a platform that has no WebSocket, or whose WebSocket does not take the address', async () => {
    const refusing = class {
      constructor() {
        throw new SyntaxError('no insecure sockets here');
      }
    };
    vi.doMock('#socket', () => ({ loadSocket: null }));
    vi.resetModules();
    const { createWebSocket: createAnew } = await import('@neurograph/client');
    vi.doUnmock('#socket');
    vi.stubGlobal('WebSocket', undefined);
    for (const [WebSocketClass, reason] of [
      [undefined, 'this platform has no WebSocket: give one as an option'],
      [refusing as unknown as typeof WebSocket, 'no insecure sockets here'],
    ] as const) {
      const ws = createAnew({ url: 'ws://host/ws', WebSocket: WebSocketClass });
      const connecting = ws.connect({ retry: true });
      await turn();
      await turn();
      await expect(connecting).rejects.toMatchObject({ name: 'ConnectFailed', reason });
      await expect(ws.ping()).rejects.toMatchObject({ name: 'ConnectionLost' });
      expect([ws.state, vi.getTimerCount()]).toEqual(['ended', 0]);
    }
  });

  it('tries to leave a socket or a timer of before behind, by connecting while an end, or a begin, is told', async () => {
    const ws = await connected({ reconnect: false });
    const before = FakeSocket.last;
    const off = ws.onEvent('state', (state) => {
      if (state === 'ended') void ws.connect();
    });
    before.say('garbage');
    expect(before.closed).toMatchObject({ code: 1000 });
    await turn();
    before.say('garbage');
    FakeSocket.last.greet();
    expect([ws.state, FakeSocket.all.length]).toEqual(['connected', 2]);
    off();
    void ws.disconnect();
    const once = ws.onEvent('state', () => {
      once();
      void ws.disconnect();
      void ws.connect();
    });
    void ws.connect();
    await turn();
    FakeSocket.last.greet();
    expect([ws.state, FakeSocket.all.length]).toEqual(['connected', 3]);
    await vi.advanceTimersByTimeAsync(10_000);
    expect(ws.state).toBe('connected');
    void ws.disconnect();
    await vi.advanceTimersByTimeAsync(1_000);
    expect(vi.getTimerCount()).toBe(0);
  });

  it('tries to reject who connects anew while the failure before is told', async () => {
    const ws = await connected({ reconnect: false });
    let anew: Promise<unknown> | undefined;
    ws.onEvent('failed', () => {
      anew ??= ws.connect();
    });
    FakeSocket.last.break();
    await turn();
    FakeSocket.last.greet();
    await expect(anew).resolves.toMatchObject({ client_id: 'me' });
    expect(ws.state).toBe('connected');
  });

  it('tries to end a client by a debug that throws', async () => {
    const reported = vi.spyOn(console, 'error').mockImplementation(() => {});
    const ws = await connected({
      debug: () => {
        throw new Error('mine');
      },
    });
    ws.send('x');
    FakeSocket.last.answer('error', { code: 'internal' });
    FakeSocket.last.break();
    await vi.advanceTimersByTimeAsync(500);
    FakeSocket.last.greet();
    expect(ws.state).toBe('connected');
    expect(reported).toHaveBeenCalledWith(new Error('mine'));
    reported.mockRestore();
  });

  it('tries to have a time that is too long for a timer end at once', async () => {
    const ws = await connected(
      { requestTimeoutMs: Number.POSITIVE_INFINITY, connectTimeoutMs: Number.POSITIVE_INFINITY },
      { heartbeat: { interval_ms: 3e9, timeout_ms: 3e9 } },
    );
    const waiting = ws.request('x');
    const longer = ws.request('y', {}, { timeoutMs: 2 ** 31 });
    await vi.advanceTimersByTimeAsync(3_600_000);
    expect(FakeSocket.last.types).toEqual(['x', 'y']);
    FakeSocket.last.answer();
    await longer;
    void ws.disconnect();
    await expect(waiting).rejects.toMatchObject({ code: 1000 });
  });

  it('tries to read a password in an error', async () => {
    const ws = make({ url: 'ws://me:secret@host/ws?key=secret' });
    void ws.connect();
    await turn();
    FakeSocket.last.break();
    expect(ws.error?.message).toBe("can't connect to ws://host/ws: no connection");
    void ws.disconnect();
  });
});

describe('coming back', () => {
  it('tries to wait for a clock that was set back, when the page is shown', async () => {
    const ws = await connected();
    FakeSocket.last.break();
    vi.setSystemTime(Date.now() - 3_600_000);
    page.dispatchEvent(new Event('visibilitychange'));
    await turn();
    FakeSocket.last.greet();
    expect(ws.state).toBe('connected');
  });

  it('tries to wait out the backoff though the page is shown, thawed or online again', async () => {
    const ws = await connected();
    for (const [target, name] of [
      [page, 'visibilitychange'],
      [page, 'resume'],
      [world, 'pageshow'],
      [world, 'online'],
    ] as const) {
      const before = FakeSocket.all.length;
      FakeSocket.last.break();
      expect(ws.state).toBe('reconnecting');
      target.dispatchEvent(new Event(name));
      await turn();
      expect([name, FakeSocket.all.length]).toEqual([name, before + 1]);
      FakeSocket.last.greet();
    }
    FakeSocket.last.break();
    page.visibilityState = 'hidden';
    page.dispatchEvent(new Event('visibilitychange'));
    await turn();
    expect(ws.state).toBe('reconnecting');
  });

  it('tries to reset the waits by connections that proved nothing', async () => {
    const ws = await connected();
    const told = watch(ws, 'disconnected');
    for (let n = 0; n < 3; n++) {
      FakeSocket.last.break();
      await vi.advanceTimersByTimeAsync(told.at(-1)?.nextMs ?? 0);
      FakeSocket.last.greet();
    }
    await vi.advanceTimersByTimeAsync(5_000);
    FakeSocket.last.break();
    expect(told.map((event) => event.nextMs)).toEqual([500, 1_000, 2_000, 500]);
  });

  it('tries to come back after 4429 without a pause, and after 1012 before the time that was named', async () => {
    const ws = await connected({ random: () => 0 });
    const told = watch(ws, 'disconnected');
    FakeSocket.last.say(message({ type: 'system.draining', topic: 'system', payload: { reconnect_after_ms: 3_000 } }));
    FakeSocket.last.break(1012);
    page.dispatchEvent(new Event('visibilitychange'));
    await vi.advanceTimersByTimeAsync(2_999);
    expect(FakeSocket.all.length).toBe(1);
    await vi.advanceTimersByTimeAsync(1);
    FakeSocket.last.greet();
    FakeSocket.last.break(4429);
    FakeSocket.last.break(4429); // a socket that is over says nothing more
    expect(told).toEqual([
      { code: 1012, reason: '', nextMs: 3_000 },
      { code: 4429, reason: '', nextMs: 1_000 },
    ]);
  });

  it('tries to have a wish of hours obeyed', async () => {
    const ws = await connected({ random: () => 0 });
    const told = watch(ws, 'disconnected');
    FakeSocket.last.say(message({ type: 'system.draining', topic: 'system', payload: { reconnect_after_ms: 1e9 } }));
    FakeSocket.last.break(1012);
    expect(told[0]?.nextMs).toBe(300_000);
  });

  it('tries to send commands before who we are and what we follow, or in another order', async () => {
    const ws = await connected({ token: 'secret' });
    expect(FakeSocket.last.types).toEqual(['authenticate']);
    FakeSocket.last.answer('authenticated');
    ws.hold('tokens');
    ws.send('one');
    ws.send('two');
    const before = FakeSocket.last.sent;
    FakeSocket.last.break();
    ws.send('three');
    await vi.advanceTimersByTimeAsync(500);
    FakeSocket.last.greet();
    expect(FakeSocket.last.types).toEqual(['authenticate', 'subscribe', 'one', 'two', 'three']);
    expect(FakeSocket.last.sent.slice(2, 4)).toEqual(before.slice(2, 4));
  });
});

describe('tokens', () => {
  it('tries to show an old token, or to go on with one that was refused', async () => {
    const tokens = ['first', 'second', 'second'];
    const ws = await connected({ token: async () => tokens.shift() ?? '' });
    FakeSocket.last.break(4401);
    await vi.advanceTimersByTimeAsync(500);
    FakeSocket.last.greet();
    expect(FakeSocket.last.sent[0]).toMatchObject({ type: 'authenticate', payload: { token: 'second' } });
    FakeSocket.last.answer('error', { code: 'unauthenticated', message: 'no', retryable: false });
    expect(ws.state).toBe('reconnecting');
    await vi.advanceTimersByTimeAsync(1_000);
    expect([ws.state, ws.error, FakeSocket.all.length]).toMatchObject(['ended', { code: 4401 }, 2]);
  });

  it('tries to be stuck with a token that authenticate was accepted with, and that has expired', async () => {
    const tokens = ['first', 'second'];
    const ws = await connected({ token: () => tokens.shift() });
    FakeSocket.last.answer('authenticated');
    void ws.authenticate('accepted');
    FakeSocket.last.answer('authenticated');
    FakeSocket.last.break(1012);
    await vi.advanceTimersByTimeAsync(500);
    FakeSocket.last.greet();
    expect(FakeSocket.last.sent[0]).toMatchObject({ type: 'authenticate', payload: { token: 'accepted' } });
    FakeSocket.last.break(4401);
    await vi.advanceTimersByTimeAsync(1_000);
    FakeSocket.last.greet();
    expect(FakeSocket.last.sent[0]).toMatchObject({ type: 'authenticate', payload: { token: 'second' } });
  });

  it('tries to come back sooner than the server has it, which had no room for this subject', async () => {
    const ws = await connected({ token: 'secret', random: () => 0 });
    const told = watch(ws, 'disconnected');
    const details = { retry_after_ms: 7000 };
    FakeSocket.last.answer('error', { code: 'rate_limited', message: 'no', retryable: true, details });
    expect(told).toMatchObject([{ code: 1013, nextMs: 7000 }]);
  });

  it('tries to come back after 4401 with the only token there is', async () => {
    const ws = await connected({ token: 'only' });
    const told = watch(ws, 'disconnected');
    FakeSocket.last.break(4401, 'expired');
    expect(told).toEqual([{ code: 4401, reason: 'expired', nextMs: null }]);
    expect(ws.state).toBe('ended');
  });

  it('tries to read a token, or the query, in the debug lines', async () => {
    const lines: string[] = [];
    const ws = await connected({ url: 'ws://host/ws?key=secret', token: 'secret', debug: (line) => lines.push(line) });
    FakeSocket.last.break();
    void ws.authenticate('secret');
    await vi.advanceTimersByTimeAsync(60_000);
    expect(lines.length).toBeGreaterThan(3);
    expect(lines.join()).not.toContain('secret');
  });

  it('tries to fail for good where the token can not be had for a while', async () => {
    let fail = true;
    const ws = make({
      token: () => {
        if (fail) throw new Error('the token service is away');
        return 'token';
      },
    });
    const connecting = ws.connect();
    await turn();
    expect(ws.error).toMatchObject({ name: 'ConnectFailed', reason: 'the token service is away' });
    fail = false;
    await vi.advanceTimersByTimeAsync(500);
    FakeSocket.last.greet();
    await connecting;
  });
});

describe('signs of life', () => {
  const terms = { heartbeat: { interval_ms: 1_000, timeout_ms: 200 } };

  it('tries to keep a connection that is silent', async () => {
    const ws = await connected({}, terms);
    const told = watch(ws, 'disconnected');
    await vi.advanceTimersByTimeAsync(1_000);
    expect(FakeSocket.last.types).toEqual(['ping']);
    await vi.advanceTimersByTimeAsync(200);
    expect(told).toMatchObject([{ code: 4408, nextMs: 500 }]);
    expect(FakeSocket.last.closed?.code).toBe(4408);
    await vi.advanceTimersByTimeAsync(500);
    FakeSocket.last.greet();
    expect(FakeSocket.last.types).toEqual([]); // the probe was for that connection alone
  });

  it('tries to probe, or to end, a connection that says something', async () => {
    const ws = await connected({}, terms);
    for (let n = 0; n < 20; n++) {
      await vi.advanceTimersByTimeAsync(900);
      FakeSocket.last.say(message({ type: 'x' }));
    }
    expect(FakeSocket.last.sent).toEqual([]);
    await vi.advanceTimersByTimeAsync(1_100);
    expect(FakeSocket.last.types).toEqual(['ping']);
    FakeSocket.last.answer('pong');
    await vi.advanceTimersByTimeAsync(900);
    expect(ws.state).toBe('connected');
  });

  it('tries to end a connection by timers that are late, as in a page that slept', async () => {
    const ws = await connected({}, terms);
    await vi.advanceTimersByTimeAsync(1_000);
    vi.setSystemTime(Date.now() + 3_600_000); // asleep
    await vi.advanceTimersByTimeAsync(200);
    expect([ws.state, FakeSocket.last.types]).toEqual(['connected', ['ping', 'ping']]);
    await vi.advanceTimersByTimeAsync(200);
    expect(ws.state).toBe('reconnecting');
  });

  it('tries to keep a dead connection for as long as the clock was set back', async () => {
    const ws = await connected({}, terms);
    vi.setSystemTime(Date.now() - 3_600_000);
    await vi.advanceTimersByTimeAsync(1_000);
    expect(FakeSocket.last.types).toEqual(['ping']);
    await vi.advanceTimersByTimeAsync(200);
    expect([ws.state, ws.error]).toMatchObject(['reconnecting', { code: 4408 }]);
  });

  it('tries to trust a connection for an interval more when the page comes back', async () => {
    await connected({}, terms);
    page.dispatchEvent(new Event('visibilitychange'));
    world.dispatchEvent(new Event('offline'));
    expect(FakeSocket.last.types).toEqual(['ping']);
  });
});

describe('nonsense', () => {
  it('tries to end a program by a server that takes next to nothing', async () => {
    const limits = { message_bytes: 100, subscriptions: 0, in_flight: 0 };
    const ws = await connected({}, { limits, heartbeat: { interval_ms: 1_000, timeout_ms: 200 } });
    const topic = 't'.repeat(100);
    await expect(ws.subscribe(topic)).rejects.toMatchObject({ name: 'RequestTooBig' });
    const events = ws.events(topic);
    await expect(events.next()).rejects.toMatchObject({ name: 'RequestTooBig' });
    expect(() => ws.hold(topic)).not.toThrow();
    expect(ws.state).toBe('connected');
    FakeSocket.last.break();
    await vi.advanceTimersByTimeAsync(500);
    FakeSocket.last.greet({
      limits: { ...limits, message_bytes: 10 },
      heartbeat: { interval_ms: 1_000, timeout_ms: 200 },
    });
    expect(ws.state).toBe('connected');
    await vi.advanceTimersByTimeAsync(1_200);
    expect(ws.state).toBe('reconnecting'); // there is no ping of ten bytes

    const named = make({ token: 'long'.repeat(99) });
    const told: unknown[] = [];
    named.onEvent('connected', () => told.push('connected'));
    named.onEvent('disconnected', ({ code, nextMs }) => told.push([code, nextMs]));
    void named.connect();
    await turn();
    FakeSocket.last.greet({ limits });
    expect(FakeSocket.last.sent).toEqual([]);
    expect([named.state, told]).toEqual(['ended', ['connected', [4401, null]]]);
  });

  it('tries to hide events behind a replay that is no number', async () => {
    const ws = await connected();
    ws.hold('tokens');
    const payload = '{"topic":"tokens","durable":true,"epoch":"0000000a","seq":1,"recovered":true,"replay":1e999}';
    FakeSocket.last.say(
      `{"id":"1","type":"subscribed","timestamp":1,"reply_to":"${FakeSocket.last.sent[0]?.id}","payload":${payload}}`,
    );
    expect([ws.state, ws.error]).toMatchObject(['ended', { code: 1002 }]);
  });

  it('tries to go on with a server that does not speak the protocol', async () => {
    const others = ['garbage', '[1]', 'null', '{}', new ArrayBuffer(1), message({ type: 'x', topic: 3 as never })];
    for (const data of others) {
      const ws = await connected();
      const waiting = ws.request('x.do');
      const told = watch(ws, 'disconnected');
      FakeSocket.last.say(data);
      await expect(waiting).rejects.toMatchObject({ name: 'ConnectionLost', code: 1002 });
      expect(told).toMatchObject([{ code: 1002, nextMs: null }]);
      expect([ws.state, FakeSocket.last.closed?.code]).toEqual(['ended', 4002]);
    }
  });

  it('tries to be greeted by another protocol, or by something else', async () => {
    for (const data of [message({ type: 'hello' }), message({ type: 'connection.established' }), 'x']) {
      const ws = make();
      const connecting = ws.connect();
      await turn();
      FakeSocket.last.say(data);
      await expect(connecting).rejects.toMatchObject({ name: 'ConnectFailed', lost: { code: 1002 } });
      expect([ws.state, FakeSocket.last.closed?.code]).toEqual(['ended', 4002]);
    }
  });
});
