// The edges that the page holds, in slots of one element index: two token slots each. An edge whose end is not here
// keeps its place as a line without length, and becomes one when that token comes.
import type { Edge, EdgeKey } from '../wire';
import type { Tokens } from './tokens';

const FIRST_SLOTS = 1024;
/** Removals that are remembered for the answers about single tokens that may be under way at any time. */
const REMEMBERED = 1000;

export interface EdgeFace {
  id: string;
  source: string;
  target: string;
  type: string;
  weight: number;
  bidirectional: boolean;
}

export class Edges {
  /** Slots of source and target, per edge; twice the same where it can't be drawn. */
  ends = new Uint32Array(FIRST_SLOTS * 2);
  readonly faces: (EdgeFace | null)[] = [];
  count = 0;
  /** Edges that were not taken because there are `limit` already. */
  refused = 0;
  revision = 0;
  private readonly slots = new Map<string, number>();
  private readonly stamps = new Map<string, number>();
  private readonly byToken = new Map<string, Set<number>>();
  private readonly free: number[] = [];
  private readonly gone = new Map<string, number>();

  constructor(
    private readonly tokens: Tokens,
    readonly limit = 200_000,
  ) {
    tokens.listen((_slot, what, id) => {
      if (what === 'changed') return;
      for (const edge of this.byToken.get(id) ?? []) this.point(edge);
    });
  }

  get slotCount(): number {
    return this.faces.length;
  }

  /** Take over an edge that is there as of `stamp`. False: what is known is as new. */
  put(edge: Edge, stamp: number): boolean {
    const id = edge.connection_id;
    if ((this.gone.get(id) ?? -1) >= stamp) return false;
    this.gone.delete(id);
    const known = this.slots.get(id);
    if (known !== undefined) {
      this.stamps.set(id, Math.max(this.stamps.get(id) ?? -1, stamp));
      return false;
    }
    if (this.count >= this.limit) {
      this.refused++;
      return false;
    }
    const slot = this.free.pop() ?? this.faces.push(null) - 1;
    if (slot * 2 >= this.ends.length) this.grow();
    this.faces[slot] = {
      id,
      source: edge.source_id,
      target: edge.target_id,
      type: edge.type,
      weight: edge.weight,
      bidirectional: edge.bidirectional,
    };
    this.slots.set(id, slot);
    this.stamps.set(id, stamp);
    this.noted(edge.source_id).add(slot);
    this.noted(edge.target_id).add(slot);
    this.count++;
    this.point(slot);
    return true;
  }

  /** Take over that an edge is gone as of `stamp`. `remember`: many older answers that have it may still come. */
  remove(key: Pick<EdgeKey, 'connection_id'>, stamp: number, remember: boolean): boolean {
    const id = key.connection_id;
    this.gone.delete(id);
    this.gone.set(id, stamp);
    if (!remember) {
      for (const oldest of this.gone.keys()) {
        if (this.gone.size <= REMEMBERED) break;
        this.gone.delete(oldest);
      }
    }
    if (!this.slots.has(id) || (this.stamps.get(id) ?? -1) > stamp) return false;
    this.drop(id);
    return true;
  }

  /** All that is here may be out of date; `settle` drops what nobody confirmed since. */
  doubt(): void {
    for (const id of this.stamps.keys()) this.stamps.set(id, -1);
    this.gone.clear();
  }

  settle(): void {
    for (const [id, stamp] of [...this.stamps]) if (stamp === -1) this.drop(id);
    this.gone.clear();
  }

  degree(tokenId: string): number {
    return this.byToken.get(tokenId)?.size ?? 0;
  }

  /** The edges at a token, as faces. */
  at(tokenId: string): EdgeFace[] {
    return [...(this.byToken.get(tokenId) ?? [])].map((slot) => this.faces[slot] as EdgeFace);
  }

  private drop(id: string): void {
    const slot = this.slots.get(id) as number;
    const face = this.faces[slot] as EdgeFace;
    for (const end of [face.source, face.target]) {
      const noted = this.byToken.get(end);
      noted?.delete(slot);
      if (noted?.size === 0) this.byToken.delete(end);
    }
    this.slots.delete(id);
    this.stamps.delete(id);
    this.faces[slot] = null;
    this.ends[slot * 2] = this.ends[slot * 2 + 1] = 0;
    this.free.push(slot);
    this.count--;
    this.revision++;
  }

  private point(slot: number): void {
    const face = this.faces[slot];
    const source = face ? this.tokens.slotOf(face.source) : -1;
    const target = face ? this.tokens.slotOf(face.target) : -1;
    const drawn = source >= 0 && target >= 0;
    this.ends[slot * 2] = drawn ? source : 0;
    this.ends[slot * 2 + 1] = drawn ? target : 0;
    this.revision++;
  }

  private noted(tokenId: string): Set<number> {
    const found = this.byToken.get(tokenId) ?? new Set<number>();
    this.byToken.set(tokenId, found);
    return found;
  }

  private grow(): void {
    const larger = new Uint32Array(this.ends.length * 2);
    larger.set(this.ends);
    this.ends = larger;
  }
}
