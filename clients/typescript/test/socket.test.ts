/** This package's own WebSocket for Node 20: frames without I/O, hostile servers, and another implementation. */

import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createServer, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import { encodeFrame, FrameFault, FrameReader, OPCODE } from '../src/socket/frames.js';
import { NodeSocket } from '../src/socket/node.js';
import { dice } from './fakes.js';

const ROOT = fileURLToPath(new URL('../../..', import.meta.url));

/** A frame as servers send them, or as they must not. */
function frame(opcode: number, payload: Buffer | string = '', { fin = true, rsv = 0, masked = false } = {}): Buffer {
  const bytes = Buffer.from(payload);
  const head = [(fin ? 0x80 : 0) | (rsv << 4) | opcode];
  const mask = masked ? 0x80 : 0;
  if (bytes.length < 126) head.push(mask | bytes.length);
  else if (bytes.length < 65_536) head.push(mask | 126, bytes.length >> 8, bytes.length & 0xff);
  else
    head.push(
      mask | 127,
      0,
      0,
      0,
      0,
      bytes.length >>> 24,
      (bytes.length >> 16) & 0xff,
      (bytes.length >> 8) & 0xff,
      bytes.length & 0xff,
    );
  return Buffer.concat([Buffer.from(head), bytes]);
}

function close(code: number, reason = ''): Buffer {
  return frame(OPCODE.CLOSE, Buffer.concat([Buffer.from([code >> 8, code & 0xff]), Buffer.from(reason)]));
}

/** Everything that a reader makes of some bytes, cut as told. */
function read(chunks: readonly Buffer[], limitBytes?: number): { seen: string[]; fault: number | null } {
  const seen: string[] = [];
  const reader = new FrameReader(
    {
      text: (text) => seen.push(`text ${text}`),
      binary: (bytes) => seen.push(`binary ${bytes.toString('hex')}`),
      ping: (payload) => seen.push(`ping ${payload}`),
      close: (code, reason) => seen.push(`close ${code} ${reason}`),
    },
    limitBytes,
  );
  try {
    for (const chunk of chunks) reader.push(chunk);
  } catch (error) {
    if (!(error instanceof FrameFault)) throw error;
    return { seen, fault: error.code };
  }
  return { seen, fault: null };
}

describe('frames', () => {
  it('tries to read something else where the bytes are cut at other places', () => {
    const long = 'ü🟢\u2028'.repeat(20_000);
    const bytes = Buffer.concat([
      frame(OPCODE.TEXT, 'a'),
      frame(OPCODE.TEXT, Buffer.from('🟢').subarray(0, 2), { fin: false }),
      frame(OPCODE.PING, 'between'),
      frame(OPCODE.CONTINUATION, Buffer.from('🟢').subarray(2), { fin: false }),
      frame(OPCODE.CONTINUATION),
      frame(OPCODE.PONG, 'ignored'),
      frame(OPCODE.BINARY, Buffer.from([1, 2])),
      frame(OPCODE.TEXT, 'x'.repeat(300)),
      frame(OPCODE.TEXT, long),
      close(1012, 'later'),
      frame(OPCODE.TEXT, 'after the end'),
    ]);
    const expected = {
      seen: [
        'text a',
        'ping between',
        'text 🟢',
        'binary 0102',
        `text ${'x'.repeat(300)}`,
        `text ${long}`,
        'close 1012 later',
      ],
      fault: null,
    };
    for (let seed = 1; seed <= 30; seed++) {
      const random = dice(seed);
      const chunks = [];
      for (let at = 0; at < bytes.length; ) {
        const size = random() < 0.5 ? 1 + Math.floor(random() * 4) : 1 + Math.floor(random() * 30_000);
        chunks.push(bytes.subarray(at, at + size));
        at += size;
      }
      expect(read(chunks)).toEqual(expected);
    }
  });

  it('tries to have what RFC 6455 forbids read as something', () => {
    const wrong: [string, Buffer, number][] = [
      ['a reserved bit', frame(OPCODE.TEXT, 'x', { rsv: 4 }), 1002],
      ['a masked frame', frame(OPCODE.TEXT, 'x', { masked: true }), 1002],
      ['an opcode that is none', frame(3), 1002],
      ['a control opcode that is none', frame(11), 1002],
      ['a ping in parts', frame(OPCODE.PING, 'x', { fin: false }), 1002],
      ['a long ping', frame(OPCODE.PING, 'x'.repeat(126)), 1002],
      ['a part of nothing', frame(OPCODE.CONTINUATION), 1002],
      ['a message in a message', Buffer.concat([frame(OPCODE.TEXT, '', { fin: false }), frame(OPCODE.TEXT)]), 1002],
      ['half a code', frame(OPCODE.CLOSE, 'x'), 1002],
      ['a code that is none', close(1005), 1002],
      ['a code that is too small', close(999), 1002],
      ['a code that is too big', close(5000), 1002],
      ['a reason that is not UTF-8', close(1000, '').fill(0x81, 1, 2), 1002],
      ['text that is not UTF-8', frame(OPCODE.TEXT, Buffer.from([0xc3, 0x28])), 1007],
      ['half a surrogate pair', frame(OPCODE.TEXT, Buffer.from([0xed, 0xa0, 0x80])), 1007],
      ['a message over the limit', frame(OPCODE.TEXT, 'x'.repeat(101)), 1009],
      ['a message of 2^63 bytes', Buffer.from([0x81, 127, 128, 0, 0, 0, 0, 0, 0, 0]), 1009],
    ];
    for (const [what, bytes, code] of wrong) expect([what, read([bytes], 100).fault]).toEqual([what, code]);
    const parts = Array.from({ length: 200 }, (_, n) =>
      frame(n === 0 ? OPCODE.TEXT : OPCODE.CONTINUATION, '', { fin: false }),
    );
    expect(read(parts, 100).fault).toBe(1009); // empty parts without end
    const tiny = parts.map((_, n) => frame(n === 0 ? OPCODE.TEXT : OPCODE.CONTINUATION, 'x', { fin: false }));
    expect(read(tiny, 10_000).fault).toBe(1009); // each takes more than what is in it
  });

  it('tries to send a frame that is not masked, or of another length', () => {
    for (const length of [0, 125, 126, 65_535, 65_536]) {
      const payload = Buffer.alloc(length, 'x');
      const bytes = encodeFrame(OPCODE.TEXT, payload);
      const head = length < 126 ? 2 : length < 65_536 ? 4 : 10;
      const mask = bytes.subarray(head, head + 4);
      expect((bytes[1] ?? 0) & 0x80).toBe(0x80);
      const unmasked = bytes.subarray(head + 4).map((byte, index) => byte ^ (mask[index % 4] ?? 0));
      expect(Buffer.compare(Buffer.from(unmasked), payload)).toBe(0);
    }
  });
});

const servers: { close(): void }[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) server.close();
});

const HANDSHAKE = 'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n';

/** A server of one behaviour, which gets the accept value that is right. `allowHalfOpen`: it answers no end with its. */
async function serve(act: (socket: Socket, accept: string) => void, allowHalfOpen = false): Promise<string> {
  const sockets = new Set<Socket>();
  const server = createServer({ allowHalfOpen }, (socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    socket.once('data', (head) => {
      const key = /sec-websocket-key: (.+)\r\n/i.exec(head.toString())?.[1] ?? '';
      act(socket, createHash('sha1').update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64'));
    });
  });
  servers.push({
    close() {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  return `ws://127.0.0.1:${typeof address === 'object' && address !== null ? address.port : 0}/ws`;
}

/** Open, and tell all that happens until it is closed. */
function open(url: string) {
  const socket = new NodeSocket(url);
  const messages: unknown[] = [];
  socket.onmessage = ({ data }) => messages.push(data);
  const closed = new Promise<{ code: number; reason: string }>((resolve) => {
    socket.onclose = ({ code, reason }) => resolve({ code, reason });
  });
  return { socket, messages, closed };
}

describe('hostile servers', () => {
  it('try to be taken for a WebSocket server, or to refuse without a status', async () => {
    const answers: [string, object][] = [
      [`${HANDSHAKE}Sec-WebSocket-Accept: d3Jvbmc=\r\n\r\n`, { status: null }],
      [`${HANDSHAKE}Sec-WebSocket-Accept: RIGHT\r\nSec-WebSocket-Extensions: x\r\n\r\n`, { status: null }],
      [`${HANDSHAKE}Sec-WebSocket-Accept: RIGHT\r\nSec-WebSocket-Protocol: x\r\n\r\n`, { status: null }],
      [
        `HTTP/1.1 101 X\r\nUpgrade: other\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: RIGHT\r\n\r\n`,
        { status: null },
      ],
      ['SSH-2.0-OpenSSH\r\n', { status: null }],
      ['', { status: null, reason: 'it hung up before it answered' }],
      [`HTTP/1.1 200 OK\r\nX: ${'x'.repeat(100_000)}\r\n\r\n`, { status: null }],
      ['HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi', { status: 200, reason: '200 OK: hi' }],
      ['HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n', { status: 401, reason: '401 Unauthorized' }],
      ['HTTP/1.1 503 Full\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n', { status: 503, retryAfterMs: 7_000 }],
      ['HTTP/1.1 503 Full\r\nRetry-After: soon\r\nContent-Length: 0\r\n\r\n', { status: 503, retryAfterMs: null }],
      [`HTTP/1.1 500 X\r\n\r\n${'endless'.repeat(1_000)}`, { status: 500, reason: '500 X' }],
      ['HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n', { status: 302 }],
    ];
    for (const [answer, refusal] of answers) {
      const url = await serve((socket, accept) => {
        socket.write(answer.replace('RIGHT', accept));
        if (!answer.startsWith('HTTP/1.1 500')) socket.end();
      });
      const { socket, closed } = open(url);
      expect([answer.slice(0, 99), await closed]).toEqual([answer.slice(0, 99), { code: 1006, reason: '' }]);
      expect(socket.refusal).toMatchObject(refusal);
    }
  });

  it('try to go on after a fault, or to leave the connection half closed', async () => {
    for (const [bytes, code] of [
      [frame(OPCODE.TEXT, Buffer.from([0xff])), 1007],
      [frame(3), 1002],
      [close(1012, 'later'), 1012],
      [frame(OPCODE.CLOSE), 1005],
    ] as const) {
      let heard = Buffer.alloc(0);
      const ended = deferred();
      const url = await serve((socket, accept) => {
        socket.write(`${HANDSHAKE}Sec-WebSocket-Accept: ${accept}\r\n\r\n`);
        socket.write(Buffer.concat([frame(OPCODE.TEXT, 'first'), bytes, frame(OPCODE.TEXT, 'after')]));
        socket.on('data', (chunk) => {
          heard = Buffer.concat([heard, chunk]);
          socket.end();
        });
        socket.on('close', () => ended.resolve());
      });
      const { messages, closed } = open(url);
      expect(await closed).toMatchObject({ code });
      expect(messages).toEqual(['first']);
      await ended.promise;
      expect(heard[0]).toBe(0x88); // a Close, and nothing else before it
    }
  });

  it('try to have a client wait for their goodbye, or keep the connection, after a fault', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    onTestFinished(() => void vi.useRealTimers());
    const gone = deferred();
    const url = await serve((socket, accept) => {
      socket.write(`${HANDSHAKE}Sec-WebSocket-Accept: ${accept}\r\n\r\n`);
      socket.write(frame(3));
      // Who never ends learns by writing that nobody is there.
      const more = setInterval(() => socket.write(frame(OPCODE.TEXT, 'more')), 10);
      socket.on('close', () => {
        clearInterval(more);
        gone.resolve();
      });
    }, true);
    expect(await open(url).closed).toMatchObject({ code: 1002 });
    await vi.advanceTimersByTimeAsync(2_000);
    await gone.promise;
  });

  it('try to keep a client that wants to leave', async () => {
    const url = await serve((socket, accept) => {
      socket.write(`${HANDSHAKE}Sec-WebSocket-Accept: ${accept}\r\n\r\n`);
      socket.write(frame(OPCODE.TEXT, 'hello'));
    });
    const { socket, closed } = open(url);
    socket.onmessage = () => socket.close(1000, 'bye');
    expect(await closed).toEqual({ code: 1006, reason: '' });
    expect(() => socket.close(1002)).toThrow(RangeError);
    const silent = open(await serve(() => {}));
    silent.socket.close();
    expect(await silent.closed).toMatchObject({ code: 1006 });
  });

  it('try to have Pongs pile up that they do not read', async () => {
    const url = await serve((socket, accept) => {
      socket.pause();
      socket.write(`${HANDSHAKE}Sec-WebSocket-Accept: ${accept}\r\n\r\n`);
      const pings = Buffer.concat(Array.from({ length: 200_000 }, () => frame(OPCODE.PING, 'x'.repeat(125))));
      socket.write(Buffer.concat([pings, frame(OPCODE.TEXT, 'done')]));
    });
    const { socket } = open(url);
    await new Promise<void>((resolve) => {
      socket.onmessage = () => resolve();
    });
    expect(Reflect.get(socket, 'bufferedAmount')).toBeLessThan(1_000_000);
    socket.close();
  });

  it('try to be there where nothing listens', async () => {
    const { socket, closed } = open('ws://127.0.0.1:1/');
    await closed;
    expect(socket.refusal).toEqual({
      reason: 'connection refused: is the server running?',
      status: null,
      retryAfterMs: null,
    });
  });
});

function deferred() {
  let resolve: () => void = () => {};
  const promise = new Promise<void>((fulfill) => {
    resolve = fulfill;
  });
  return { promise, resolve };
}

const ECHO = `
import asyncio, websockets
async def echo(ws):
    await ws.ping()
    async for message in ws:
        if message == "parts":
            await ws.send(["par", "ts"])
        elif message == "bye":
            await ws.close(4000, "good-bye")
            break
        else:
            await ws.send(message)
async def main():
    async with websockets.serve(echo, "127.0.0.1", 0, max_size=None, compression=None) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.get_running_loop().create_future()
asyncio.run(main())
`;

it('tries to find a difference to another implementation of the protocol', async () => {
  const child = spawn(`${ROOT}/.venv/bin/python`, ['-c', ECHO], { stdio: ['ignore', 'pipe', 'inherit'] });
  onTestFinished(() => void child.kill());
  const port = await new Promise((resolve) => createInterface({ input: child.stdout }).once('line', resolve));
  const { socket, messages, closed } = open(`ws://127.0.0.1:${port}/`);
  const texts = [
    '',
    'a',
    'ü🟢\u2028',
    'x'.repeat(125),
    'x'.repeat(126),
    'x'.repeat(65_536),
    'y'.repeat(3_000_000),
    'parts',
  ];
  await new Promise<void>((resolve) => {
    Object.assign(socket, { onopen: resolve });
  });
  for (const text of texts) socket.send(text);
  socket.send('bye');
  expect(await closed).toEqual({ code: 4000, reason: 'good-bye' });
  expect(messages).toEqual(texts);
});
