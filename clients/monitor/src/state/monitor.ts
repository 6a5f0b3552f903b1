// All that the page knows, outside React: the connection, the stores, and a summary of them that changes slowly.
import { CommandError, type NeuroGraphWebSocket } from '@neurograph/client';
import type { Event } from '../wire';
import { Edges } from './edges';
import { Load, type Loading } from './load';
import { Rate } from './rates';
import { type Chapter, Story } from './story';
import { Stream } from './stream';
import { Tokens } from './tokens';

const SUMMARY_MS = 250;
const PING_MS = 5000;
const TOPICS_MOST = 12;
export const OWN_TOPICS = ['tokens', 'graph', 'experience', 'system'] as const;

export interface TopicSummary {
  name: string;
  /** Null: ephemeral, or not known yet. */
  seq: number | null;
  epoch: string | null;
  perSecond: number;
  series: number[];
}

export interface Summary {
  state: NeuroGraphWebSocket['state'];
  /** When the next attempt is, by `performance.now()`, which nobody sets; null: none is planned. */
  nextAtMs: number | null;
  roundTripMs: number | null;
  needsToken: boolean;
  server: string;
  chapters: readonly Chapter[];
  topics: TopicSummary[];
  tokens: number;
  edges: number;
  evicted: number;
  refusedEdges: number;
  loading: Loading;
  events: number;
  tokensRevision: number;
  edgesRevision: number;
}

export class Monitor {
  readonly tokens: Tokens;
  readonly edges: Edges;
  readonly stream = new Stream();
  readonly load: Load;
  private readonly story = new Story();
  private readonly rates = new Map<string, Rate>();
  private readonly listeners = new Set<() => void>();
  private summary: Summary;
  private nextAtMs: number | null = null;
  private roundTripMs: number | null = null;
  private needsToken = false;
  private server = '';
  private began = false;
  private timer: ReturnType<typeof setTimeout> | null = null;
  private sinking: ReturnType<typeof setTimeout> | null = null;
  private pings: ReturnType<typeof setInterval> | null = null;

  constructor(readonly ws: NeuroGraphWebSocket) {
    this.tokens = new Tokens();
    this.edges = new Edges(this.tokens);
    this.load = new Load(this.ws, this.tokens, this.edges, this.touch);
    for (const topic of OWN_TOPICS) this.rates.set(topic, new Rate());
    this.summary = this.summarize();
    this.listenToConnection();
  }

  open(): void {
    this.connect();
    this.pings = setInterval(() => void this.ping(), PING_MS);
  }

  /** Connect, for the first time or again after an end. */
  connect(): void {
    this.ws.connect().catch((error: unknown) => this.refused(error));
  }

  close(): void {
    if (this.pings) clearInterval(this.pings);
    if (this.timer) clearTimeout(this.timer);
    if (this.sinking) clearTimeout(this.sinking);
    void this.ws.disconnect();
  }

  readonly subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };

  /** The same object until something changed; made anew at most every SUMMARY_MS. */
  readonly snapshot = (): Summary => this.summary;

  /** Follow a custom topic too. */
  async follow(topic: string): Promise<void> {
    if (this.rates.has(topic)) return;
    if (this.rates.size >= TOPICS_MOST) throw new RangeError(`at most ${TOPICS_MOST} topics are followed`);
    await this.ws.subscribe(topic);
    this.rates.set(topic, new Rate());
    this.touch();
  }

  async leave(topic: string): Promise<void> {
    this.rates.delete(topic);
    this.touch();
    await this.ws.unsubscribe(topic);
  }

  private listenToConnection(): void {
    const { ws } = this;
    ws.on('*', (message) => {
      if (message.topic !== undefined) this.receive(message as Event);
    });
    ws.onEvent('state', () => this.tell());
    ws.onEvent('connected', (greeting) => {
      this.server = `${greeting.server.name} ${greeting.server.version}`;
      this.nextAtMs = null;
      this.story.connected(Date.now(), this.server);
      if (!this.began || this.load.failed) this.begin();
      void this.ping();
      this.tell();
    });
    ws.onEvent('disconnected', ({ code, reason, nextMs }) => {
      this.nextAtMs = nextMs === null ? null : performance.now() + nextMs;
      this.roundTripMs = null;
      if (code === 4401) this.needsToken = true;
      if (nextMs === null) this.story.ended(Date.now(), reason || `code ${code}`);
      else this.story.lost(Date.now(), code, reason);
      this.tell();
    });
    ws.onEvent('resumed', ({ topic, replay }) => {
      this.story.resumed(topic, replay);
      this.tell();
    });
    ws.onEvent('gap', ({ topic }) => {
      // Asking for a log's beginning that is no longer there is no break.
      if (topic !== 'graph' || this.load.loading.edges !== 'replaying') this.story.gap(Date.now(), topic);
      this.load.anew(topic).catch((error: unknown) => this.refused(error));
      this.tell();
    });
  }

  private begin(): void {
    this.began = true;
    this.load.begin().catch((error: unknown) => this.refused(error));
    for (const topic of ['experience', 'system'])
      this.ws.subscribe(topic).catch((error: unknown) => this.refused(error));
  }

  private receive(event: Event): void {
    this.rates.get(event.topic)?.add(performance.now());
    this.stream.add(event);
    if (event.topic === 'tokens' || event.topic === 'graph') this.load.apply(event);
    if (event.type === 'system.draining' && event.topic === 'system') {
      this.story.draining(Date.now());
      this.tell();
    }
    this.touch();
  }

  private refused(error: unknown): void {
    if (error instanceof CommandError && error.code === 'unauthenticated') this.needsToken = true;
    this.tell();
  }

  private async ping(): Promise<void> {
    if (this.ws.state !== 'connected' || document.visibilityState === 'hidden') return;
    try {
      this.roundTripMs = await this.ws.ping();
    } catch {
      this.roundTripMs = null;
    }
    this.touch();
  }

  /** Something that may wait a little changed. */
  private readonly touch = (): void => {
    this.timer ??= setTimeout(this.tell, SUMMARY_MS);
  };

  private readonly tell = (): void => {
    if (this.timer) clearTimeout(this.timer);
    this.timer = null;
    this.summary = this.summarize();
    for (const listener of this.listeners) listener();
    // Rates sink back to zero without events: look again until they have.
    if (this.sinking) clearTimeout(this.sinking);
    const busy = this.summary.topics.some((topic) => topic.perSecond > 0 || topic.series.some((count) => count > 0));
    this.sinking = busy ? setTimeout(this.tell, 1000) : null;
  };

  private summarize(): Summary {
    const now = performance.now();
    return {
      state: this.ws.state,
      nextAtMs: this.nextAtMs,
      roundTripMs: this.roundTripMs,
      needsToken: this.needsToken,
      server: this.server,
      chapters: this.story.chapters,
      topics: [...this.rates].map(([name, rate]) => {
        const { seq, epoch } = this.ws.position(name) ?? { seq: null, epoch: null };
        return { name, seq, epoch, perSecond: rate.perSecond(now), series: rate.series(now) };
      }),
      tokens: this.tokens.count,
      edges: this.edges.count,
      evicted: this.tokens.evicted,
      refusedEdges: this.edges.refused,
      loading: { ...this.load.loading },
      events: this.stream.total,
      tokensRevision: this.tokens.revision,
      edgesRevision: this.edges.revision,
    };
  }
}
