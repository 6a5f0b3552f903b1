/** A WebSocket whose other end is the test: it opens, speaks and breaks when told to, and counts what was made. */

type Listener = (event: unknown) => void;

export class FakeSocket {
  static readonly CONNECTING = 0;
  static readonly OPEN = 1;
  static readonly CLOSING = 2;
  static readonly CLOSED = 3;
  /** All that were made since `reset`, in order. */
  static made: FakeSocket[] = [];

  static reset(): void {
    FakeSocket.made = [];
  }

  static get last(): FakeSocket {
    const last = FakeSocket.made.at(-1);
    if (!last) throw new Error('no socket was made');
    return last;
  }

  /** Those that neither end has closed. */
  static get live(): FakeSocket[] {
    return FakeSocket.made.filter((socket) => socket.readyState < FakeSocket.CLOSING);
  }

  readonly CONNECTING = 0;
  readonly OPEN = 1;
  readonly CLOSING = 2;
  readonly CLOSED = 3;
  readyState = 0;
  bufferedAmount = 0;
  binaryType = 'blob';
  protocol = '';
  extensions = '';
  onopen: Listener | null = null;
  onmessage: Listener | null = null;
  onerror: Listener | null = null;
  onclose: Listener | null = null;
  /** Messages of the client, parsed. */
  readonly sent: { id?: string; type: string; payload: Record<string, unknown> }[] = [];
  private readonly listeners = new Map<string, Set<Listener>>();
  private count = 0;

  constructor(readonly url: string) {
    FakeSocket.made.push(this);
  }

  addEventListener(type: string, listener: Listener): void {
    this.listeners.set(type, (this.listeners.get(type) ?? new Set()).add(listener));
  }

  removeEventListener(type: string, listener: Listener): void {
    this.listeners.get(type)?.delete(listener);
  }

  send(text: string): void {
    this.sent.push(JSON.parse(text));
  }

  /** The closing handshake of the client; this server agrees at once. */
  close(code = 1005, reason = ''): void {
    if (this.readyState >= FakeSocket.CLOSING) return;
    this.readyState = FakeSocket.CLOSING;
    queueMicrotask(() => this.end(code, reason, true));
  }

  /** The server accepts, and greets. */
  greet(): void {
    this.readyState = FakeSocket.OPEN;
    this.emit('open', {});
    this.say('connection.established', {
      connection_id: `00000000-0000-7000-8000-${String(FakeSocket.made.indexOf(this)).padStart(12, '0')}`,
      client_id: new URL(this.url).searchParams.get('client_id') ?? 'client_0000000000000000',
      timestamp: Date.now(),
      server: { name: 'ngos', version: '0', protocol: 1 },
      heartbeat: { interval_ms: 25_000, timeout_ms: 10_000 },
      limits: { message_bytes: 65_536, subscriptions: 128, in_flight: 256 },
    });
  }

  /** A message of the server. */
  say(type: string, payload: object, envelope: object = {}): void {
    this.count += 1;
    const message = { id: `srv_${this.count}`, type, payload, timestamp: Date.now(), ...envelope };
    this.emit('message', { data: JSON.stringify(message) });
  }

  /** Answer the latest command of `command` with `type`. */
  reply(command: string, type: string, payload: object): void {
    const asked = this.sent.findLast((message) => message.type === command);
    if (!asked) throw new Error(`no ${command} was sent`);
    this.say(type, payload, { reply_to: asked.id });
  }

  /** Confirm the latest `subscribe`. */
  confirm(topic: string, more: object = {}): void {
    const fields = { topic, success: true, durable: true, epoch: '00000001', seq: 0, recovered: false, replay: 0 };
    this.reply('subscribe', 'subscribed', { ...fields, ...more });
  }

  /** The connection ends, by the server or the network. */
  end(code: number, reason = '', wasClean = code !== 1006): void {
    if (this.readyState === FakeSocket.CLOSED) return;
    this.readyState = FakeSocket.CLOSED;
    if (!wasClean) this.emit('error', {});
    this.emit('close', { code, reason, wasClean });
  }

  /** How many commands of `type` came. */
  sentOf(type: string): number {
    return this.sent.filter((message) => message.type === type).length;
  }

  private emit(type: string, fields: object): void {
    const event = { type, target: this, ...fields };
    const property = this[`on${type}` as 'onopen'];
    property?.(event);
    for (const listener of [...(this.listeners.get(type) ?? [])]) listener(event);
  }
}
