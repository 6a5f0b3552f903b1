// All that the page knows, outside React: the connection, the stores, and a summary of them that changes slowly.
import { CommandError, type MessageEnvelope, type NeuroGraphWebSocket } from '@neurograph/client';
import type { Event } from '../wire';
import { Edges } from './edges';
import { Keeper } from './keeper';
import { type Denied, isForbidden, Load, type Loading } from './load';
import { Rate } from './rates';
import { type Chapter, Story } from './story';
import { Stream } from './stream';
import { Tokens } from './tokens';

const SUMMARY_MS = 250;
const PING_MS = 5000;
const TOPICS_MOST = 12;
const DENIABLE: readonly Denied[] = ['read', 'tokens', 'graph'];
export const OWN_TOPICS = ['tokens', 'graph', 'experience', 'system'] as const;

export interface TopicSummary {
  name: string;
  /** Null: ephemeral, or not known yet. */
  seq: number | null;
  epoch: string | null;
  perSecond: number;
  series: number[];
  /** The token does not allow to follow it. */
  denied: boolean;
}

/** Who the server takes this page for, and until when. */
export interface Identity {
  subject: string;
  expiresAtMs: number;
}

/** Why the page asks for a token; 'renew': it was asked to. */
export type Asking = 'first' | 'refused' | 'expired' | 'renew';

export interface Summary {
  state: NeuroGraphWebSocket['state'];
  /** When the next attempt is, by `performance.now()`, which nobody sets; null: none is planned. */
  nextAtMs: number | null;
  roundTripMs: number | null;
  /** Null: no token is asked for. */
  asking: Asking | null;
  /** A token was given, and the server has not answered yet. */
  signing: boolean;
  /** Null: nobody knows, or nobody has to say. */
  identity: Identity | null;
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
  private asking: Asking | null = null;
  private signing = false;
  private identity: Identity | null = null;
  /** Whose page this is: what is shown is for nobody else. */
  private subject: string | null = null;
  private readonly denied = new Set<string>();
  private server = '';
  private began = false;
  private timer: ReturnType<typeof setTimeout> | null = null;
  private sinking: ReturnType<typeof setTimeout> | null = null;
  private pings: ReturnType<typeof setInterval> | null = null;

  /** `anew` makes the page anew: somebody else is to look at it. */
  constructor(
    readonly ws: NeuroGraphWebSocket,
    private readonly keeper = new Keeper(null),
    private readonly anew: () => void = () => {},
  ) {
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

  /** Be whose token this is. Renewed, the connection goes on; or this rejects, and all stays as it was. */
  async signIn(token: string): Promise<void> {
    if (this.asking === 'renew') {
      await this.ws.authenticate(token);
      this.keeper.show(token);
      this.keeper.keep();
      return;
    }
    this.keeper.show(token);
    this.signing = true;
    this.tell();
    this.connect();
  }

  /** Forget who this is, and what was shown. */
  signOut(): void {
    this.keeper.clear();
    this.anew();
  }

  /** Ask for a token that takes the place of the one that is there; or no longer. */
  askToRenew(ask: boolean): void {
    if (ask) this.asking ??= 'renew';
    else if (this.asking === 'renew') this.asking = null;
    this.tell();
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
    this.denied.delete(topic);
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
      const resumes = this.began && !this.load.failed;
      if (!resumes) this.begin();
      void this.ping(resumes);
      this.tell();
    });
    ws.onEvent('disconnected', ({ code, reason, nextMs }) => {
      this.nextAtMs = nextMs === null ? null : performance.now() + nextMs;
      this.roundTripMs = null;
      if (code === 4401) {
        // Unless there is another token by now, the end follows.
        if (nextMs === null) this.ended4401();
        this.tell();
        return;
      }
      if (nextMs === null) this.story.ended(Date.now(), reason || `code ${code}`);
      else this.story.lost(Date.now(), code, reason);
      this.tell();
    });
    ws.on('authenticated', ({ payload }) => this.authenticated(payload));
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
    this.denied.clear();
    this.load.begin().catch((error: unknown) => this.refused(error));
    const others = [...this.rates.keys()].filter((topic) => topic !== 'tokens' && topic !== 'graph');
    for (const topic of others) {
      this.ws.subscribe(topic).catch((error: unknown) => {
        if (isForbidden(error)) this.denied.add(topic);
        this.refused(error);
      });
    }
  }

  private authenticated({ subject, expires_at: until }: MessageEnvelope<'authenticated'>['payload']): void {
    this.asking = null;
    this.signing = false;
    if (until !== null) {
      this.keeper.keep();
      if (this.subject !== null && this.subject !== subject) {
        this.anew();
        return;
      }
      this.subject = subject;
      this.identity = { subject, expiresAtMs: Date.parse(until) };
    }
    // The new token may allow what the last one did not.
    if (this.denied.size > 0 || this.load.loading.denied.length > 0) this.begin();
    this.tell();
  }

  /** The server did not, or no longer, take the token, and there is no other. */
  private ended4401(): void {
    const had = this.keeper.token !== null;
    this.asking = this.identity !== null ? 'expired' : had ? 'refused' : 'first';
    this.signing = false;
    this.identity = null;
    this.keeper.clear();
    // Whoever was shown something before comes back to it.
    if (this.subject === null) this.story.asked(Date.now(), had);
    else this.story.ended(Date.now(), this.asking === 'expired' ? 'the token has expired' : 'the token was refused');
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
    if (isUnauthenticated(error) && this.asking === null) {
      this.asking = 'first';
      this.story.asked(Date.now(), false);
      // It would end in a few seconds by itself.
      void this.ws.disconnect();
    }
    this.tell();
  }

  /** `resumes`: see what became of the topics, which were asked for before: answers come in the order of the commands. */
  private async ping(resumes = false): Promise<void> {
    if (this.ws.state !== 'connected' || (document.visibilityState === 'hidden' && !resumes)) return;
    try {
      this.roundTripMs = await this.ws.ping();
      if (resumes) this.lookAtTopics();
    } catch (error) {
      this.roundTripMs = null;
      if (resumes) this.refused(error);
    }
    this.touch();
  }

  /** A topic that was followed and is no longer, though the server has answered, is one that it did not let go on. */
  private lookAtTopics(): void {
    for (const topic of this.rates.keys()) {
      if (this.ws.isFollowing(topic)) this.denied.delete(topic);
      else this.denied.add(topic);
    }
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
    const denied = (name: string) => this.denied.has(name) || this.load.loading.denied.some((what) => what === name);
    return {
      state: this.ws.state,
      nextAtMs: this.nextAtMs,
      roundTripMs: this.roundTripMs,
      asking: this.asking,
      signing: this.signing,
      identity: this.identity,
      server: this.server,
      chapters: this.story.chapters,
      topics: [...this.rates].map(([name, rate]) => {
        const { seq, epoch } = this.ws.position(name) ?? { seq: null, epoch: null };
        return { name, seq, epoch, perSecond: rate.perSecond(now), series: rate.series(now), denied: denied(name) };
      }),
      tokens: this.tokens.count,
      edges: this.edges.count,
      evicted: this.tokens.evicted,
      refusedEdges: this.edges.refused,
      loading: { ...this.load.loading, denied: DENIABLE.filter(denied) },
      events: this.stream.total,
      tokensRevision: this.tokens.revision,
      edgesRevision: this.edges.revision,
    };
  }
}

function isUnauthenticated(error: unknown): boolean {
  return error instanceof CommandError && error.code === 'unauthenticated';
}
