/** RFC 6455 frames, read and written, for a client without extensions. No I/O. */

import { randomFillSync } from 'node:crypto';

/** The server broke the protocol; `code` is what to close with. */
export class FrameFault extends Error {
  readonly code: number;

  constructor(code: number, message: string) {
    super(message);
    this.code = code;
  }
}

/** What frames come to. `close` has code 1005 where the server named none. */
export interface FrameWatch {
  text(text: string): void;
  binary(bytes: Buffer): void;
  ping(payload: Buffer): void;
  close(code: number, reason: string): void;
}

/** The largest message: a page of 1000 tokens with 16 KiB of metadata each, and some. */
export const MESSAGE_BYTES = 32 * 1024 * 1024;
export const OPCODE = { CONTINUATION: 0, TEXT: 1, BINARY: 2, CLOSE: 8, PING: 9, PONG: 10 } as const;
/** What a part takes besides its bytes, about: counted as the least size, or tiny parts would take a hundred times the limit. */
const PART_BYTES = 64;
const NO_BYTES: Buffer = Buffer.alloc(0);

/** Reads what a server sends, cut anywhere. */
export class FrameReader {
  readonly #watch: FrameWatch;
  readonly #limitBytes: number;
  readonly #utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  #chunks: Buffer[] = [];
  #size = 0;
  /** With fewer bytes there is nothing to do: big frames are put together once, not with each chunk. */
  #wanted = 2;
  #opcode: number = OPCODE.CONTINUATION;
  #parts: Buffer[] = [];
  #partsBytes = 0;
  #closed = false;

  constructor(watch: FrameWatch, limitBytes: number = MESSAGE_BYTES) {
    this.#watch = watch;
    this.#limitBytes = limitBytes;
  }

  /** Take bytes and tell the watch of what is complete. After a Close nothing more is read. Throws FrameFault. */
  push(chunk: Buffer): void {
    this.#chunks.push(chunk);
    this.#size += chunk.length;
    while (!this.#closed && this.#size >= this.#wanted) {
      const buffer = this.#chunks.length === 1 && this.#chunks[0] ? this.#chunks[0] : Buffer.concat(this.#chunks);
      let at = 0;
      for (let took = this.#frame(buffer, at); took > 0 && !this.#closed; took = this.#frame(buffer, at)) at += took;
      const rest = buffer.subarray(at);
      this.#chunks = rest.length > 0 ? [rest] : [];
      this.#size = rest.length;
      if (at === 0) return;
    }
  }

  /** Read one frame; returns its length, or 0 where it is not whole yet. */
  #frame(buffer: Buffer, at: number): number {
    const there = buffer.length - at;
    this.#wanted = 2;
    if (there < 2) return 0;
    const first = buffer.readUInt8(at);
    const second = buffer.readUInt8(at + 1);
    const short = second & 0x7f;
    const head = short < 126 ? 2 : short === 126 ? 4 : 10;
    const opcode = first & 0x0f;
    const fin = first >= 0x80;
    if ((first & 0x70) !== 0) throw new FrameFault(1002, 'a reserved bit is set');
    if (second >= 0x80) throw new FrameFault(1002, 'a masked frame from a server');
    if (opcode > 10 || (opcode > 2 && opcode < 8)) throw new FrameFault(1002, `opcode ${opcode}`);
    if (opcode >= 8 && (!fin || short > 125)) throw new FrameFault(1002, 'a control frame in parts, or over 125 bytes');
    if (there < head) {
      this.#wanted = head;
      return 0;
    }
    const length =
      short < 126 ? short : short === 126 ? buffer.readUInt16BE(at + 2) : Number(buffer.readBigUInt64BE(at + 2));
    if (opcode < 8 && length + this.#partsBytes > this.#limitBytes) {
      throw new FrameFault(1009, `a message over ${this.#limitBytes} bytes`);
    }
    if (there < head + length) {
      this.#wanted = head + length;
      return 0;
    }
    const payload = buffer.subarray(at + head, at + head + length);
    if (opcode >= 8) this.#control(opcode, payload);
    else this.#part(opcode, fin, payload);
    return head + length;
  }

  #part(opcode: number, fin: boolean, payload: Buffer): void {
    const continued = this.#opcode !== OPCODE.CONTINUATION;
    if (continued !== (opcode === OPCODE.CONTINUATION)) throw new FrameFault(1002, 'fragments out of order');
    if (!continued) this.#opcode = opcode;
    if (!fin) {
      // A copy: a small part must not keep the big chunk that it came in.
      this.#parts.push(Buffer.from(payload));
      this.#partsBytes += Math.max(PART_BYTES, payload.length);
      return;
    }
    const whole = this.#parts.length === 0 ? payload : Buffer.concat([...this.#parts, payload]);
    const kind = this.#opcode;
    this.#opcode = OPCODE.CONTINUATION;
    this.#parts = [];
    this.#partsBytes = 0;
    if (kind === OPCODE.TEXT) this.#watch.text(this.#decode(whole));
    else this.#watch.binary(whole);
  }

  #control(opcode: number, payload: Buffer): void {
    if (opcode === OPCODE.PING) this.#watch.ping(payload);
    if (opcode !== OPCODE.CLOSE) return;
    if (payload.length === 1) throw new FrameFault(1002, 'half a close code');
    const code = payload.length === 0 ? 1005 : payload.readUInt16BE(0);
    if (payload.length > 0 && !isSendable(code)) throw new FrameFault(1002, `close code ${code}`);
    const reason = this.#decode(payload.subarray(2));
    this.#closed = true;
    this.#watch.close(code, reason);
  }

  #decode(bytes: Buffer): string {
    try {
      return this.#utf8.decode(bytes);
    } catch {
      throw new FrameFault(1007, 'not UTF-8');
    }
  }
}

/** One whole frame, masked as a client's must be. */
export function encodeFrame(opcode: number, payload: Buffer): Buffer {
  const length = payload.length;
  const head = length < 126 ? 2 : length < 65_536 ? 4 : 10;
  const frame = Buffer.allocUnsafe(head + 4 + length);
  frame.writeUInt8(0x80 | opcode, 0);
  if (head === 2) frame.writeUInt8(0x80 | length, 1);
  else if (head === 4) {
    frame.writeUInt8(0x80 | 126, 1);
    frame.writeUInt16BE(length, 2);
  } else {
    frame.writeUInt8(0x80 | 127, 1);
    frame.writeBigUInt64BE(BigInt(length), 2);
  }
  randomFillSync(frame, head, 4);
  for (let index = 0; index < length; index++) {
    frame[head + 4 + index] = (payload[index] ?? 0) ^ (frame[head + (index & 3)] ?? 0);
  }
  return frame;
}

/** A Close's payload. */
export function encodeClose(code: number | undefined, reason: string): Buffer {
  if (code === undefined || code === 1005) return NO_BYTES;
  const text = Buffer.from(reason);
  const payload = Buffer.alloc(2 + Math.min(text.length, 123));
  payload.writeUInt16BE(code, 0);
  text.copy(payload, 2);
  return payload;
}

/** Whether a code may stand in a Close frame (RFC 6455 section 7.4). */
function isSendable(code: number): boolean {
  return (code >= 1000 && code <= 1014 && ![1004, 1005, 1006].includes(code)) || (code >= 3000 && code <= 4999);
}
