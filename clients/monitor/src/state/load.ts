// Brings the state that is there into the stores, so that nothing is missed or seen twice.
//
// Tokens: the topic is followed first, then `token.list` is read page by page. Each page tells the position that it is
// true at and each event its own; `Tokens` keeps what is newer. So the pages and the events may overlap in any order.
//
// Edges: no command lists them. While the log still holds the first event of `graph`, the log is the list: `graph` is
// followed since 0. Where it no longer does, or where that would be more events than REPLAY_MOST, the topic is followed
// from now on and each token is asked for its outgoing edges, by the same rule of positions.
//
// Where the token does not allow to follow a topic, what is read stays as it was then; where it does not allow to read,
// only what changes is shown.
//
// After a gap the same is done again over what is shown, which stays until something newer is known.
import { CommandError, type NeuroGraphWebSocket, NotFound } from '@neurograph/client';
import type { Edge, EdgeKey, Event, Neighbor, Token } from '../wire';
import type { Edges } from './edges';
import { type PauseFor, persist } from './persist';
import type { Tokens } from './tokens';

export const PAGE = 1000;
const REPLAY_MOST = 500_000;
const ASKED_AT_ONCE = 4;

export interface Loading {
  tokens: 'waiting' | 'reading' | 'done' | 'failed';
  edges: 'waiting' | 'replaying' | 'asking' | 'done' | 'failed';
  /** Where `edges` is 'replaying' or 'asking': how many of `of` are through. */
  through: number;
  of: number;
  /** More tokens are there than the page takes. */
  capped: boolean;
  /** What the token does not allow: to read, or to follow one of the two topics. What is left of it is done. */
  denied: readonly Denied[];
}

export type Denied = 'read' | 'tokens' | 'graph';

/** What of the client is needed. */
export type Wire = Pick<NeuroGraphWebSocket, 'subscribe' | 'listTokens' | 'getNeighbors'>;

export class Load {
  readonly loading: Loading = { tokens: 'waiting', edges: 'waiting', through: 0, of: 0, capped: false, denied: [] };
  private tokenRound = 0;
  private edgeRound = 0;
  /** The last event of the replay; until that is known, none ends it. */
  private replayEnd = Number.POSITIVE_INFINITY;
  private tokensRead: Promise<void> = Promise.resolve();

  constructor(
    private readonly wire: Wire,
    private readonly tokens: Tokens,
    private readonly edges: Edges,
    private readonly changed: () => void = () => {},
    private readonly pauseFor?: PauseFor,
  ) {}

  /** Something could not be read: `begin` may be tried again. */
  get failed(): boolean {
    return this.loading.tokens === 'failed' || this.loading.edges === 'failed';
  }

  /** Follow both topics and bring what is there. */
  async begin(): Promise<void> {
    this.loading.denied = [];
    // Nothing is here, or it was not followed for a while.
    this.tokens.doubt();
    this.edges.doubt();
    this.tokensRead = this.beginTokens();
    await Promise.all([this.tokensRead, this.beginEdges()]);
  }

  /** The topic has a hole: bring its state anew. */
  async anew(topic: string): Promise<void> {
    if (topic === 'tokens') {
      this.tokens.doubt();
      this.tokensRead = this.readTokens();
      await this.tokensRead;
    } else if (topic === 'graph') {
      this.edges.doubt();
      await this.askForEdges();
    }
  }

  /** An event of `tokens` or `graph`, in the order of the topic. */
  apply(event: Event): void {
    const seq = event.seq ?? 0;
    const { loading } = this;
    // Where reading failed, no older answer is under way: the next one will be newer than this.
    const remember = (what: string) => what !== 'done' && what !== 'failed';
    switch (event.type) {
      case 'token.created':
      case 'token.updated':
        this.tokens.put(event.payload as Token, seq);
        break;
      case 'token.deleted':
        this.tokens.remove((event.payload as Token).token_id, seq, remember(loading.tokens));
        break;
      case 'graph.connected':
        this.edges.put(event.payload as Edge, seq);
        break;
      case 'graph.disconnected':
        this.edges.remove(event.payload as EdgeKey, seq, remember(loading.edges));
        break;
    }
    if (event.topic === 'graph' && loading.edges === 'replaying') this.replayed(seq);
  }

  /** Edges that an answer of graph.neighbors at position `seq` tells. */
  neighbors(found: readonly Neighbor[], seq: number): void {
    for (const edge of found) this.edges.put(edge, seq);
  }

  private async beginTokens(): Promise<void> {
    try {
      await this.again(() => this.wire.subscribe('tokens'));
    } catch (error) {
      if (!this.isDenied('tokens', error)) {
        this.loading.tokens = 'failed';
        throw error;
      }
    }
    await this.readTokens();
  }

  private async readTokens(): Promise<void> {
    const round = ++this.tokenRound;
    this.loading.tokens = 'reading';
    this.loading.capped = false;
    let after: string | null = null;
    let read = 0;
    try {
      do {
        const where: { after?: string } = after === null ? {} : { after };
        const page = await this.again(() => this.wire.listTokens({ limit: PAGE, full: true, ...where }));
        if (round !== this.tokenRound) return;
        for (const token of page.tokens as Token[]) this.tokens.put(token, page.position.seq);
        read += page.tokens.length;
        after = page.next;
        this.changed();
      } while (after !== null && read < this.tokens.limit);
    } catch (error) {
      if (round !== this.tokenRound || !this.isDenied('read', error)) {
        if (round === this.tokenRound) this.loading.tokens = 'failed';
        throw error;
      }
    }
    this.loading.capped = after !== null;
    this.tokens.settle();
    this.loading.tokens = 'done';
    this.changed();
  }

  private async beginEdges(): Promise<void> {
    const round = this.edgeRound;
    // Of an earlier round.
    this.replayEnd = Number.POSITIVE_INFINITY;
    this.loading.through = this.loading.of = 0;
    this.loading.edges = 'replaying';
    try {
      const all = await this.again(() => this.wire.subscribe('graph', { since: 0 }));
      if (round !== this.edgeRound) return;
      if (all.recovered && all.replay <= REPLAY_MOST) {
        this.replayEnd = this.loading.of = all.replay;
        this.replayed(this.loading.through);
        return;
      }
      if (all.recovered) {
        const since = { since: all.replay, ...(all.epoch ? { epoch: all.epoch } : {}) };
        await this.again(() => this.wire.subscribe('graph', since));
      }
    } catch (error) {
      if (!this.isDenied('graph', error)) {
        this.loading.edges = 'failed';
        throw error;
      }
    }
    await this.askForEdges();
  }

  private replayed(seq: number): void {
    this.loading.through = Math.max(this.loading.through, seq);
    if (seq < this.replayEnd) return;
    this.edges.settle();
    this.loading.edges = 'done';
    this.changed();
  }

  private async askForEdges(): Promise<void> {
    const round = ++this.edgeRound;
    this.loading.edges = 'asking';
    this.loading.through = this.loading.of = 0;
    await this.tokensRead;
    if (round !== this.edgeRound) return;
    const ids = this.tokens.faces.flatMap((face) => (face ? [face.id] : []));
    this.loading.of = ids.length;
    const ask = async () => {
      for (let id = ids.pop(); id !== undefined && round === this.edgeRound; id = ids.pop()) {
        await this.askAbout(id);
        this.loading.through++;
        this.changed();
      }
    };
    try {
      await Promise.all(Array.from({ length: ASKED_AT_ONCE }, ask));
    } catch (error) {
      if (round !== this.edgeRound || !this.isDenied('read', error)) {
        if (round === this.edgeRound) this.loading.edges = 'failed';
        throw error;
      }
    }
    if (round !== this.edgeRound) return;
    this.edges.settle();
    this.loading.edges = 'done';
    this.changed();
  }

  private async askAbout(id: string): Promise<void> {
    for (let offset = 0; ; offset += PAGE) {
      try {
        const page = { direction: 'outgoing', limit: PAGE, offset } as const;
        const { neighbors, position } = await this.again(() => this.wire.getNeighbors(id, page));
        this.neighbors(neighbors, position.seq);
        if (neighbors.length < PAGE) return;
      } catch (error) {
        // Deleted meanwhile, and its edges with it.
        if (error instanceof NotFound) return;
        throw error;
      }
    }
  }

  /** Whether the token does not allow it, which is noted. */
  private isDenied(what: Denied, error: unknown): boolean {
    if (!isForbidden(error)) return false;
    if (!this.loading.denied.includes(what)) this.loading.denied = [...this.loading.denied, what];
    return true;
  }

  private again<Answer>(act: () => Promise<Answer>): Promise<Answer> {
    return persist(act, this.pauseFor);
  }
}

/** Whether the server said that the token does not allow it. */
export function isForbidden(error: unknown): boolean {
  return error instanceof CommandError && error.code === 'forbidden';
}
