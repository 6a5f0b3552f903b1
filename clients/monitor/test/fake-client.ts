// A client without a network: it says yes, and tells the page what a test wants it to hear.
import type { NeuroGraphWebSocket } from '@neurograph/client';
import type { Event, Token } from '../src/wire';

type Handler = (message: unknown) => void;

export class FakeClient {
  state = 'idle';
  tokens: Token[] = [];
  sent: [string, ...unknown[]][] = [];
  refuse: Error | null = null;
  private readonly messages = new Map<string, Handler>();
  private readonly life = new Map<string, Handler>();
  private readonly positions = new Map<string, { epoch: string; seq: number }>();

  get client(): NeuroGraphWebSocket {
    return this as unknown as NeuroGraphWebSocket;
  }

  on(type: string, handler: Handler) {
    this.messages.set(type, handler);
  }

  onEvent(name: string, handler: Handler) {
    this.life.set(name, handler);
  }

  tell(name: string, what: unknown) {
    if (name === 'state') this.state = what as string;
    this.life.get(name)?.(what);
  }

  event(topic: string, type: string, payload: object) {
    const seq = (this.positions.get(topic)?.seq ?? 0) + 1;
    this.positions.set(topic, { epoch: 'e', seq });
    const message: Event = { topic, type, seq, epoch: 'e', timestamp: Date.now(), payload };
    this.messages.get('*')?.(message);
  }

  async connect() {
    this.tell('state', 'connected');
    this.tell('connected', { server: { name: 'ngos', version: 'test' } });
  }

  async disconnect() {}
  async ping() {
    return 3;
  }
  position(topic: string) {
    return this.positions.get(topic) ?? null;
  }
  isFollowing() {
    return true;
  }
  async subscribe(topic: string) {
    return { topic, success: true, durable: true, epoch: 'e', seq: 0, recovered: true, replay: 0 };
  }
  async listTokens() {
    const position = { topic: 'tokens', epoch: 'e', seq: 0 };
    return { tokens: this.tokens, count: 0, offset: 0, total: null, next: null, position };
  }
  async getToken(id: string) {
    return this.tokens.find((token) => token.token_id === id) ?? null;
  }
  async getNeighbors(id: string) {
    return { token_id: id, neighbors: [], count: 0, position: { topic: 'graph', epoch: 'e', seq: 0 } };
  }
  async createToken(fields: unknown) {
    this.sent.push(['createToken', fields]);
    if (this.refuse) throw this.refuse;
    return { token_id: 'new' };
  }
  async deleteToken(id: string) {
    this.sent.push(['deleteToken', id]);
    return true;
  }
}
