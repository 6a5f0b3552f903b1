// Stands in for @neurograph/client until it is there.
/* biome-ignore-all lint: temporary */
export interface Space { x: number[]; y: number[]; z: number[] }
export interface Token { token_id: string; type: string; weight: number; flags: number; version: number; created_at: string; updated_at: string; coordinates: Space; metadata: Record<string, unknown> }
export interface EdgeKey { connection_id: string; source_id: string; target_id: string; type: string }
export interface Edge extends EdgeKey { weight: number; bidirectional: boolean; metadata: Record<string, unknown>; created_at: string }
export interface Neighbor extends Edge { neighbor_id: string }
export interface Envelope { id: string; type: string; timestamp: number; payload: any; reply_to?: string; topic?: string; seq?: number; epoch?: string; sender_id?: string }
export interface EventEnvelope extends Envelope { topic: string }
export class NgosError extends Error {}
export class CommandError extends NgosError {
  constructor(readonly code: string, message: string, readonly retryable: boolean, readonly details: any, readonly reply: Envelope) { super(message); }
}
type Handler = (message: any) => void;
export class NeuroGraphWebSocket {
  state: 'idle' | 'connecting' | 'connected' | 'reconnecting' | 'ended' = 'idle';
  error: NgosError | null = null;
  readonly clientId = `page_${Math.random().toString(16).slice(2)}`;
  private ws: WebSocket | null = null;
  private handlers = new Map<string, Set<Handler>>();
  private life = new Map<string, Set<Handler>>();
  private pending = new Map<string, { text: string; done: (m: Envelope) => void; fail: (e: Error) => void }>();
  private topics = new Map<string, { epoch: string; seq: number } | null>();
  private n = 0; private tries = 0; private greeted: ((v: any) => void) | null = null; private closing = false;
  constructor(readonly options: { url?: string; token?: any }) {}
  private emit(map: Map<string, Set<Handler>>, name: string, value: any) { for (const h of [...(map.get(name) ?? [])]) { try { h(value); } catch (e) { reportError(e); } } }
  private become(state: NeuroGraphWebSocket['state']) { this.state = state; this.emit(this.life, 'state', state); }
  connect(): Promise<any> { this.closing = false; this.become('connecting'); this.open(); return new Promise((r) => { this.greeted = r; }); }
  async disconnect() { this.closing = true; this.ws?.close(1000); this.become('ended'); }
  private open() {
    const url = this.options.url ?? `${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/ws`;
    const ws = new WebSocket(`${url}?client_id=${this.clientId}`); this.ws = ws;
    ws.onmessage = ({ data }) => this.receive(JSON.parse(data));
    ws.onclose = (e) => {
      if (this.closing) return;
      const ms = Math.random() * Math.min(20000, 500 * 2 ** this.tries++);
      this.become('reconnecting'); this.emit(this.life, 'disconnected', { code: e.code, reason: e.reason, nextMs: ms });
      setTimeout(() => this.open(), ms);
    };
  }
  private receive(m: Envelope) {
    if (m.type === 'connection.established') {
      this.tries = 0; this.become('connected'); this.emit(this.life, 'connected', m.payload); this.greeted?.(m.payload);
      for (const [topic, at] of this.topics) this.request('subscribe', { topic, ...(at ? { since: at.seq, epoch: at.epoch } : {}) }).then((r) => this.subscribed(topic, at, r.payload));
      for (const [, p] of this.pending) if (!p.text.includes('"subscribe"')) this.ws!.send(p.text);
    }
    if (m.topic && m.seq !== undefined && this.topics.has(m.topic)) this.topics.set(m.topic, { epoch: m.epoch!, seq: m.seq });
    if (m.reply_to) { const p = this.pending.get(m.reply_to); if (p) { this.pending.delete(m.reply_to); if (m.type === 'error') p.fail(new CommandError(m.payload.code, m.payload.message, m.payload.retryable, m.payload.details, m)); else p.done(m); } }
    this.emit(this.handlers, m.type, m); this.emit(this.handlers, '*', m);
  }
  private subscribed(topic: string, at: any, r: any) {
    if (r.durable && !(r.recovered && r.replay)) this.topics.set(topic, { epoch: r.epoch, seq: r.seq });
    if (at) { if (r.recovered) this.emit(this.life, 'resumed', { topic, replay: r.replay }); else if (r.durable) this.emit(this.life, 'gap', { topic, ...at, now: { epoch: r.epoch, seq: r.seq } }); }
  }
  request(type: string, payload: any = {}): Promise<Envelope> {
    const id = `m${++this.n}`; const text = JSON.stringify({ id, type, payload });
    return new Promise((done, fail) => { this.pending.set(id, { text, done, fail }); if (this.ws?.readyState === 1) this.ws.send(text); });
  }
  on(type: string, h: Handler) { const s = this.handlers.get(type) ?? new Set(); s.add(h); this.handlers.set(type, s); return () => s.delete(h); }
  onEvent(name: string, h: Handler) { const s = this.life.get(name) ?? new Set(); s.add(h); this.life.set(name, s); return () => s.delete(h); }
  async subscribe(topic: string, options: { since?: number; epoch?: string } = {}): Promise<any> {
    if (!this.topics.has(topic)) this.topics.set(topic, null);
    const r = (await this.request('subscribe', { topic, ...options })).payload;
    this.subscribed(topic, null, r); return r;
  }
  async unsubscribe(topic: string) { this.topics.delete(topic); await this.request('unsubscribe', { topic }); }
  position(topic: string) { return this.topics.get(topic) ?? null; }
  async ping() { const t = performance.now(); await this.request('ping'); return performance.now() - t; }
}
export function createWebSocket(o: { url?: string; token?: any }) { return new NeuroGraphWebSocket(o); }
