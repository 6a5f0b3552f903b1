// The tokens that the page holds, in slots of typed arrays. A slot is what the picture and the edges point to.
//
// Each token carries the log position that its state is true at (its stamp). A page of `token.list` and an event may
// come in any order: what has the higher stamp wins, so a page never undoes an event, nor an event a page.
import { LEVEL_COUNT, type Token } from '../wire';

export const FLOATS_PER_TOKEN = LEVEL_COUNT * 3;
const FIRST_SLOTS = 1024;

export interface TokenFace {
  id: string;
  type: string;
  label: string;
  version: number;
  createdAt: string;
  updatedAt: string;
}

export type TokenListener = (slot: number, what: 'added' | 'changed' | 'removed', id: string) => void;

export class Tokens {
  /** x, y, z of level 0, then of level 1 …, per slot. */
  coordinates = new Float32Array(FIRST_SLOTS * FLOATS_PER_TOKEN);
  weights = new Float64Array(FIRST_SLOTS);
  flags = new Uint32Array(FIRST_SLOTS);
  /** A face per slot in use; null: the slot is free. */
  readonly faces: (TokenFace | null)[] = [];
  count = 0;
  /** Tokens that had to leave because more than `limit` came. */
  evicted = 0;
  /** Grows with each change. */
  revision = 0;
  private stamps = new Float64Array(FIRST_SLOTS);
  private readonly slots = new Map<string, number>();
  private readonly free: number[] = [];
  private readonly gone = new Map<string, number>();
  /** How many tokens share a short form of their ids. */
  private readonly shorts = new Map<string, number>();
  private queue: string[] = [];
  private queueHead = 0;
  private readonly listeners = new Set<TokenListener>();

  constructor(readonly limit = 50_000) {}

  listen(listener: TokenListener): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  slotOf(id: string): number {
    return this.slots.get(id) ?? -1;
  }

  /** What people call a token, or a short form of its id; all of it, where the short form is that of others too. */
  nameOf(id: string): string {
    const label = this.faces[this.slotOf(id)]?.label;
    if (label) return label;
    const short = shortId(id);
    return (this.shorts.get(short) ?? 0) > 1 ? id : short;
  }

  /** How many slots there are, free ones included. */
  get slotCount(): number {
    return this.faces.length;
  }

  /** Take over a state that is true at `stamp`. False: what is here is as new. */
  put(token: Token, stamp: number): boolean {
    if ((this.gone.get(token.token_id) ?? -1) >= stamp) return false;
    const known = this.slots.get(token.token_id);
    if (known !== undefined && (this.stamps[known] ?? 0) >= stamp) return false;
    this.gone.delete(token.token_id);
    const slot = known ?? this.take(token.token_id);
    this.stamps[slot] = stamp;
    this.faces[slot] = {
      id: token.token_id,
      type: token.type,
      label: labelOf(token),
      version: token.version,
      createdAt: token.created_at,
      updatedAt: token.updated_at,
    };
    this.weights[slot] = token.weight;
    this.flags[slot] = token.flags;
    const base = slot * FLOATS_PER_TOKEN;
    const { x, y, z } = token.coordinates;
    for (let level = 0; level < LEVEL_COUNT; level++) {
      this.coordinates[base + level * 3] = drawable(x[level]);
      this.coordinates[base + level * 3 + 1] = drawable(y[level]);
      this.coordinates[base + level * 3 + 2] = drawable(z[level]);
    }
    this.tell(slot, known === undefined ? 'added' : 'changed', token.token_id);
    if (known === undefined) this.makeRoom();
    return true;
  }

  /** Take over that a token is gone as of `stamp`. `remember`: a page that is older may still come. */
  remove(id: string, stamp: number, remember: boolean): boolean {
    if (remember) this.gone.set(id, stamp);
    const slot = this.slots.get(id);
    if (slot === undefined || (this.stamps[slot] ?? 0) > stamp) return false;
    this.drop(id, slot);
    return true;
  }

  /** All that is here may be out of date: the next page or event wins. `settle` ends that. */
  doubt(): void {
    this.stamps.fill(-1);
    this.gone.clear();
  }

  /** All pages are here: what none of them had is gone, and deletions need not be remembered. */
  settle(): void {
    for (const [id, slot] of [...this.slots]) if (this.stamps[slot] === -1) this.drop(id, slot);
    this.gone.clear();
    const created = (id: string) => this.faces[this.slotOf(id)]?.createdAt ?? '';
    this.queue = [...this.slots.keys()].sort((a, b) => (created(a) < created(b) ? -1 : 1));
    this.queueHead = 0;
  }

  private take(id: string): number {
    const slot = this.free.pop() ?? this.faces.push(null) - 1;
    if (slot >= this.weights.length) this.grow();
    this.slots.set(id, slot);
    this.countShort(id, 1);
    this.queue.push(id);
    this.count++;
    return slot;
  }

  private drop(id: string, slot: number): void {
    this.slots.delete(id);
    this.countShort(id, -1);
    this.faces[slot] = null;
    this.weights[slot] = 0;
    this.free.push(slot);
    this.count--;
    this.tell(slot, 'removed', id);
  }

  private countShort(id: string, by: 1 | -1): void {
    const short = shortId(id);
    const many = (this.shorts.get(short) ?? 0) + by;
    if (many > 0) this.shorts.set(short, many);
    else this.shorts.delete(short);
  }

  private makeRoom(): void {
    while (this.count > this.limit && this.queueHead < this.queue.length) {
      const oldest = this.queue[this.queueHead++] as string;
      const slot = this.slots.get(oldest);
      if (slot === undefined) continue;
      this.drop(oldest, slot);
      this.evicted++;
    }
    if (this.queueHead > this.limit || this.queue.length > 2 * this.limit) {
      this.queue = this.queue.slice(this.queueHead).filter((id) => this.slots.has(id));
      this.queueHead = 0;
    }
  }

  private grow(): void {
    const size = this.weights.length * 2;
    this.coordinates = grown(this.coordinates, new Float32Array(size * FLOATS_PER_TOKEN));
    this.weights = grown(this.weights, new Float64Array(size));
    this.flags = grown(this.flags, new Uint32Array(size));
    this.stamps = grown(this.stamps, new Float64Array(size));
  }

  private tell(slot: number, what: 'added' | 'changed' | 'removed', id: string): void {
    this.revision++;
    for (const listener of this.listeners) listener(slot, what, id);
  }
}

/** Beyond this the floats of a GPU, and differences between them, are no numbers any more. */
const FARTHEST = 1e30;

function drawable(coordinate = 0): number {
  return Math.min(FARTHEST, Math.max(-FARTHEST, coordinate));
}

/** The part of an id that tells neighbours in time apart: the server's ids count there, and end in what is the server's. */
export function shortId(id: unknown): string {
  return typeof id === 'string' ? `…${id.slice(20, 23)}${id.slice(24, 28)}` : '';
}

/** What people call it: a name in its metadata, or nothing. */
export function labelOf(token: Pick<Token, 'metadata'>): string {
  for (const key of ['name', 'label', 'title']) {
    const value = token.metadata[key];
    if (typeof value === 'string' && value !== '') return plain(value.slice(0, 60));
  }
  return '';
}

/** A text without what would turn the text around it, or is half a character. */
export function plain(text: string): string {
  return text.replace(/[\t\r\n]+/g, ' ').replace(/[\p{Cc}\p{Surrogate}\u202a-\u202e\u2066-\u2069]/gu, '\ufffd');
}

function grown<T extends Float32Array | Float64Array | Uint32Array>(from: T, to: T): T {
  to.set(from);
  return to;
}
