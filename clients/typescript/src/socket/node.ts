/**
 * A WebSocket for Node 20, which has none: the part of the interface that this client uses, over `node:http(s)`.
 *
 * It knows more than the platforms' own: `refusal` says why there came to be no connection, with the HTTP status. No
 * extensions, no subprotocols, no redirects.
 */

import { createHash, randomBytes } from 'node:crypto';
import { type ClientRequest, request as httpRequest, type IncomingMessage } from 'node:http';
import { request as httpsRequest } from 'node:https';
import type { Duplex } from 'node:stream';
import { encodeClose, encodeFrame, FrameFault, FrameReader, OPCODE } from './frames.js';
import type { Refusal, Socket, SocketClass } from './socket.js';

/** RFC 6455 section 1.3. */
const GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';
/** So long the server has to end the connection once both have said goodbye, and to answer ours. */
const CLOSE_MS = 2_000;
const REASON_CHARACTERS = 200;

class OwnSocket implements Socket {
  binaryType = 'arraybuffer';
  onopen: (() => void) | null = null;
  onmessage: ((event: { data: unknown }) => void) | null = null;
  onclose: ((event: { code: number; reason: string }) => void) | null = null;
  onerror: ((event: unknown) => void) | null = null;
  refusal: Refusal | null = null;
  readonly #request: ClientRequest;
  readonly #key = randomBytes(16).toString('base64');
  #stream: Duplex | null = null;
  #sentClose = false;
  #over = false;
  #lost: { code: number; reason: string } = { code: 1006, reason: '' };
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(url: string) {
    const target = new URL(url);
    const secure = target.protocol === 'wss:';
    target.protocol = secure ? 'https:' : 'http:';
    const headers = {
      Connection: 'Upgrade',
      Upgrade: 'websocket',
      'Sec-WebSocket-Version': '13',
      'Sec-WebSocket-Key': this.#key,
    };
    // An agent would keep the connection for others.
    this.#request = (secure ? httpsRequest : httpRequest)(target, { headers, agent: false });
    this.#request.on('upgrade', (response, stream, head) => this.#upgraded(response, stream, head));
    this.#request.on('response', (response) => this.#refused(response));
    this.#request.on('error', (error) => this.#fail(unreachable(error)));
    this.#request.end();
  }

  /** Bytes that the network has not taken yet. */
  get bufferedAmount(): number {
    return this.#stream?.writableLength ?? 0;
  }

  send(text: string): void {
    this.#write(OPCODE.TEXT, Buffer.from(text));
  }

  close(code?: number, reason = ''): void {
    if (code !== undefined && code !== 1000 && (code < 3000 || code > 4999)) throw new RangeError(`close code ${code}`);
    if (this.#stream === null) {
      this.#request.destroy();
      this.#end();
      return;
    }
    this.#sayClose(code, reason);
  }

  #upgraded(response: IncomingMessage, stream: Duplex, head: Buffer): void {
    const { headers } = response;
    const accept = createHash('sha1')
      .update(this.#key + GUID)
      .digest('base64');
    const fits =
      headers['sec-websocket-accept'] === accept &&
      headers.upgrade?.toLowerCase() === 'websocket' &&
      headers['sec-websocket-extensions'] === undefined &&
      headers['sec-websocket-protocol'] === undefined;
    if (!fits || this.#over) {
      stream.on('error', () => {});
      stream.destroy();
      this.#fail('what it answered is no handshake: not a WebSocket server?');
      return;
    }
    this.#stream = stream;
    if ('setNoDelay' in stream && typeof stream.setNoDelay === 'function') stream.setNoDelay(true);
    const reader = new FrameReader({
      text: (data) => this.onmessage?.({ data }),
      binary: (bytes) => this.onmessage?.({ data: new Uint8Array(bytes).buffer }),
      // Not every Ping needs a Pong (RFC 6455 section 5.5.3): to a server that reads none, they would pile up.
      ping: (payload) => {
        if (!stream.writableNeedDrain) this.#write(OPCODE.PONG, payload);
      },
      close: (code, reason) => {
        this.#lost = { code, reason };
        this.#sayClose(code, '');
      },
    });
    const read = (chunk: Buffer) => {
      try {
        reader.push(chunk);
      } catch (error) {
        if (!(error instanceof FrameFault)) throw error;
        // Nothing after the fault has a meaning.
        stream.off('data', read).resume();
        this.#lost = { code: error.code, reason: error.message };
        this.#sayClose(error.code, error.message);
        stream.end();
        this.#end();
      }
    };
    stream.on('error', () => {}); // 'close' follows
    stream.on('end', () => stream.end());
    stream.on('close', () => {
      clearTimeout(this.#timer);
      this.#end();
    });
    stream.on('data', read);
    this.onopen?.();
    if (head.length > 0) read(head);
  }

  #write(opcode: number, payload: Buffer): void {
    const stream = this.#stream;
    if (stream?.writable && !this.#sentClose) stream.write(encodeFrame(opcode, payload));
  }

  /** Send Close, once; then the server is to end the connection, or we do. */
  #sayClose(code: number | undefined, reason: string): void {
    if (this.#sentClose) return;
    this.#write(OPCODE.CLOSE, encodeClose(code, reason));
    this.#sentClose = true;
    this.#timer = setTimeout(() => this.#stream?.destroy(), CLOSE_MS);
  }

  #refused(response: IncomingMessage): void {
    const status = response.statusCode ?? 0;
    const after = response.headers['retry-after'];
    // Seconds only: the other form, a date, is of use to those who trust two clocks.
    const retryAfterMs = after !== undefined && /^\d{1,9}$/.test(after) ? Number(after) * 1000 : null;
    let body = '';
    const told = () => {
      const text = body.trim();
      const line = text.length <= REASON_CHARACTERS && /^[\x20-\x7e]+$/.test(text) ? `: ${text}` : '';
      const reason = `${status} ${response.statusMessage ?? ''}`.trim() + line;
      this.refusal = { reason, status, retryAfterMs };
      this.#request.destroy();
      this.#end();
    };
    response.setEncoding('utf8');
    response.on('data', (text: string) => {
      body += text;
      if (body.length > REASON_CHARACTERS) told();
    });
    response.on('error', () => {});
    response.on('close', told);
  }

  #fail(reason: string): void {
    if (this.#stream !== null || this.#over) return;
    this.refusal = { reason, status: null, retryAfterMs: null };
    this.onerror?.({ type: 'error', message: reason });
    this.#request.destroy();
    this.#end();
  }

  #end(): void {
    if (this.#over) return;
    this.#over = true;
    // Never within a call of the program's: it may be closing.
    queueMicrotask(() => this.onclose?.(this.#lost));
  }
}

function unreachable(error: NodeJS.ErrnoException): string {
  // Of several addresses Node gives one error, and the reasons in it.
  const causes = error instanceof AggregateError ? (error.errors as NodeJS.ErrnoException[]) : [error];
  if (causes.some((cause) => cause.code === 'ECONNREFUSED')) return 'connection refused: is the server running?';
  if (causes.some((cause) => cause.code === 'ECONNRESET')) return 'it hung up before it answered';
  return causes[0]?.message || error.code || 'unreachable';
}

/** The class as the rest of the client sees it. */
export const NodeSocket: SocketClass = OwnSocket;
