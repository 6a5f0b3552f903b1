// Where each token is drawn at the chosen level, as the GPU reads it: one record of STRIDE floats per slot, which the
// points and the edges share. A token that moves is one record written.
import { FLOATS_PER_TOKEN, type Tokens } from '../state/tokens';
import { type Bounds, fenceOf } from './camera';

/** from x, from y, to x, to y, shade 0..1, radius factor (0: nothing there), moved at (s), changed at (s). */
export const STRIDE = 8;
export const MOVE_S = 0.6;
export const FLASH_S = 1.4;
const LONG_AGO = -1000;
const GOLDEN_ANGLE = Math.PI * (3 - Math.sqrt(5));
const KINDS = 8;
const NOTHING: Bounds = {
  minX: Number.POSITIVE_INFINITY,
  maxX: Number.NEGATIVE_INFINITY,
  minY: Number.POSITIVE_INFINITY,
  maxY: Number.NEGATIVE_INFINITY,
};

export type ShadeBy = 'z' | 'type';
export type SizeBy = 'weight' | 'degree' | 'z' | 'same';

export interface Coincidence {
  /** All tokens are at this one point of the level, and drawn as a spiral instead. */
  all: boolean;
  /** Tokens at 0, 0, 0 of the level. */
  atOrigin: number;
}

export class Places {
  records = new Float32Array(1024 * STRIDE);
  level = 0;
  shadeBy: ShadeBy = 'z';
  sizeBy: SizeBy = 'weight';
  coincidence: Coincidence = { all: false, atOrigin: 0 };
  /** What all tokens lie in, but for a few that are far from all others. */
  bounds: Bounds | null = null;
  /** What all of them lie in. */
  wholeBounds: Bounds | null = null;
  /** Tokens outside of `bounds`. */
  outliers = 0;
  zRange: [number, number] = [0, 0];
  /** Slots whose record changed since the GPU was told. */
  readonly dirty = new Set<number>();
  allDirty = true;
  /** Slots that the sheet does not show as they are, because they move or flash. */
  readonly hot = new Map<number, { until: number; settledAt: number }>();
  /** Until then something moves (s). */
  movingUntil = LONG_AGO;
  /** Until then all of it glides (s). */
  glidingUntil = LONG_AGO;
  private most = 1;
  private readonly kinds = new Map<string, number>();

  constructor(
    private readonly tokens: Tokens,
    private readonly degreeOf: (id: string) => number,
  ) {}

  get count(): number {
    return this.tokens.slotCount;
  }

  /** A token came or changed at `now`; where it moved, it glides there unless `jump`. `news`: it flashes. */
  touch(slot: number, what: 'added' | 'changed', now: number, jump: boolean, news: boolean): void {
    this.makeRoom();
    const base = slot * STRIDE;
    const at = this.positionAt(slot, now);
    const to = this.target(slot);
    const moved = what === 'changed' && !jump && (to.x !== this.records[base + 2] || to.y !== this.records[base + 3]);
    this.write(slot, moved ? at : to, to, moved ? now : LONG_AGO);
    this.records[base + 7] = news ? now : LONG_AGO;
    this.dirty.add(slot);
    if (moved) this.movingUntil = now + MOVE_S;
    if (news) this.hot.set(slot, { until: now + FLASH_S, settledAt: moved ? now + MOVE_S : now });
  }

  /** The hot slots; those leave that are calm and on a sheet that was drawn at `drawnAt`. */
  hotAt(now: number, drawnAt: number): Uint32Array {
    for (const [slot, { until, settledAt }] of this.hot) {
      if (now > until && drawnAt >= settledAt) this.hot.delete(slot);
    }
    return Uint32Array.from(this.hot.keys());
  }

  remove(slot: number): void {
    this.makeRoom();
    this.records[slot * STRIDE + 5] = 0;
    this.hot.delete(slot);
    this.dirty.add(slot);
  }

  /** Lay out all tokens anew: another level, other shades or sizes, or ranges that changed. */
  layOut(now: number, glide: boolean): void {
    this.makeRoom();
    this.measure();
    for (let slot = 0; slot < this.count; slot++) {
      if (!this.tokens.faces[slot]) {
        this.records[slot * STRIDE + 5] = 0;
        continue;
      }
      const to = this.target(slot);
      const from = glide ? this.positionAt(slot, now) : to;
      const moves = from.x !== to.x || from.y !== to.y;
      this.write(slot, moves ? from : to, to, moves ? now : LONG_AGO);
    }
    this.allDirty = true;
    if (glide) this.movingUntil = this.glidingUntil = now + MOVE_S;
  }

  /** Ranges that the layout stands on. True: they differ from those that it was made with. */
  outgrown(): boolean {
    const before = JSON.stringify([this.coincidence.all, this.zRange, this.most]);
    this.measure();
    return before !== JSON.stringify([this.coincidence.all, this.zRange, this.most]);
  }

  positionAt(slot: number, now: number): { x: number; y: number } {
    const base = slot * STRIDE;
    const r = this.records;
    const t = Math.min(1, Math.max(0, (now - (r[base + 6] as number)) / MOVE_S));
    const eased = 1 - (1 - t) ** 3;
    const [fx, fy, tx, ty] = [r[base], r[base + 1], r[base + 2], r[base + 3]] as [number, number, number, number];
    return { x: fx + (tx - fx) * eased, y: fy + (ty - fy) * eased };
  }

  /** Where each token comes to lie, by slot: x, y; NaN: an empty slot. */
  positions(): Float32Array {
    const positions = new Float32Array(this.count * 2).fill(Number.NaN);
    for (let slot = 0; slot < this.count; slot++) {
      const to = slot * STRIDE + 2;
      if (this.isThere(slot)) positions.set(this.records.subarray(to, to + 2), slot * 2);
    }
    return positions;
  }

  isThere(slot: number): boolean {
    return (this.records[slot * STRIDE + 5] ?? 0) > 0;
  }

  /** The token nearest to a point of the world among those within the reach (both in world units), or -1. */
  nearest(x: number, y: number, reachX: number, reachY: number): number {
    let best = -1;
    let bestDistance = 1;
    for (let slot = 0, base = 0; slot < this.count; slot++, base += STRIDE) {
      if ((this.records[base + 5] as number) <= 0) continue;
      const dx = ((this.records[base + 2] as number) - x) / reachX;
      const dy = ((this.records[base + 3] as number) - y) / reachY;
      const distance = dx * dx + dy * dy;
      if (distance <= bestDistance) {
        best = slot;
        bestDistance = distance;
      }
    }
    return best;
  }

  /** The token next to a slot, from left to right and round; -1: there is none. */
  beside(slot: number, direction: 1 | -1): number {
    const x = (one: number) => this.records[one * STRIDE + 2] as number;
    const there = Array.from({ length: this.count }, (_, one) => one)
      .filter((one) => this.isThere(one))
      .sort((a, b) => x(a) - x(b) || a - b);
    if (there.length === 0) return -1;
    const from = slot >= 0 ? there.indexOf(slot) : direction === 1 ? -1 : 0;
    return there[(from + direction + there.length) % there.length] as number;
  }

  private write(slot: number, from: { x: number; y: number }, to: { x: number; y: number }, movedAt: number): void {
    const base = slot * STRIDE;
    const r = this.records;
    r[base] = from.x;
    r[base + 1] = from.y;
    r[base + 2] = to.x;
    r[base + 3] = to.y;
    r[base + 4] = this.shade(slot);
    r[base + 5] = this.radius(slot);
    r[base + 6] = movedAt;
  }

  private target(slot: number): { x: number; y: number } {
    if (this.coincidence.all) {
      const radius = Math.sqrt(slot + 0.5) / Math.sqrt(Math.max(this.count, 1));
      return { x: radius * Math.cos(slot * GOLDEN_ANGLE), y: radius * Math.sin(slot * GOLDEN_ANGLE) };
    }
    const base = slot * FLOATS_PER_TOKEN + this.level * 3;
    return { x: this.tokens.coordinates[base] as number, y: this.tokens.coordinates[base + 1] as number };
  }

  private z(slot: number): number {
    return this.tokens.coordinates[slot * FLOATS_PER_TOKEN + this.level * 3 + 2] as number;
  }

  private zShare(slot: number): number {
    const [least, most] = this.zRange;
    return most > least ? Math.min(1, Math.max(0, (this.z(slot) - least) / (most - least))) : 0.5;
  }

  private shade(slot: number): number {
    if (this.shadeBy === 'z') return this.zShare(slot);
    return this.kindOf(this.tokens.faces[slot]?.type ?? '') / (KINDS - 1);
  }

  /** Types take the colours in the order in which they are met; past the last one they begin again. */
  kindOf(type: string): number {
    let kind = this.kinds.get(type);
    if (kind === undefined) {
      kind = this.kinds.size % KINDS;
      if (this.kinds.size < 1000) this.kinds.set(type, kind);
    }
    return kind;
  }

  private amount(slot: number): number {
    if (this.sizeBy === 'weight') return Math.max(0, this.tokens.weights[slot] as number);
    if (this.sizeBy === 'degree') return this.degreeOf(this.tokens.faces[slot]?.id ?? '');
    return this.sizeBy === 'z' ? this.zShare(slot) : 0.25;
  }

  private radius(slot: number): number {
    return 0.55 + 1.6 * Math.sqrt(Math.min(1, this.amount(slot) / this.most));
  }

  private measure(): void {
    const { coordinates, faces } = this.tokens;
    let [minX, maxX, minY, maxY, minZ, maxZ] = [1, -1, 1, -1, 1, -1].map((sign) => sign * Number.POSITIVE_INFINITY) as [
      number,
      number,
      number,
      number,
      number,
      number,
    ];
    let atOrigin = 0;
    for (let slot = 0; slot < this.count; slot++) {
      if (!faces[slot]) continue;
      const base = slot * FLOATS_PER_TOKEN + this.level * 3;
      const [x, y, z] = [coordinates[base], coordinates[base + 1], coordinates[base + 2]] as [number, number, number];
      if (x === 0 && y === 0 && z === 0) atOrigin++;
      minX = Math.min(minX, x);
      maxX = Math.max(maxX, x);
      minY = Math.min(minY, y);
      maxY = Math.max(maxY, y);
      minZ = Math.min(minZ, z);
      maxZ = Math.max(maxZ, z);
    }
    const all = this.tokens.count > 1 && minX === maxX && minY === maxY;
    this.coincidence = { all, atOrigin };
    this.zRange =
      minZ <= maxZ
        ? within(
            [minZ, maxZ],
            this.valuesOf((slot) => this.z(slot)),
          )
        : [0, 0];
    this.wholeBounds =
      this.tokens.count === 0 ? null : all ? { minX: -1, maxX: 1, minY: -1, maxY: 1 } : { minX, maxX, minY, maxY };
    this.bounds = this.wholeBounds;
    this.outliers = 0;
    if (this.bounds && !all) this.fence();
    const amounts = this.valuesOf((slot) => this.amount(slot));
    let most = 0;
    for (const amount of amounts) most = Math.max(most, amount);
    this.most = within([0, most], amounts)[1] || 1;
  }

  private valuesOf(value: (slot: number) => number): number[] {
    // A loop: with flatMap, an array per token, this took six times as long, and each review does it four times.
    const { faces } = this.tokens;
    const values: number[] = [];
    for (let slot = 0; slot < faces.length; slot++) if (faces[slot]) values.push(value(slot));
    return values;
  }

  /** Leave out of the bounds what is far from all others. */
  private fence(): void {
    const xs = this.valuesOf((slot) => this.target(slot).x);
    const ys = this.valuesOf((slot) => this.target(slot).y);
    const [[leastX, mostX], [leastY, mostY]] = [fenceOf(xs), fenceOf(ys)];
    const bounds = { ...NOTHING };
    let inside = 0;
    for (let i = 0; i < xs.length; i++) {
      const [x, y] = [xs[i] as number, ys[i] as number];
      if (x < leastX || x > mostX || y < leastY || y > mostY) continue;
      inside++;
      bounds.minX = Math.min(bounds.minX, x);
      bounds.maxX = Math.max(bounds.maxX, x);
      bounds.minY = Math.min(bounds.minY, y);
      bounds.maxY = Math.max(bounds.maxY, y);
    }
    if (inside === 0 || inside === xs.length) return;
    this.bounds = bounds;
    this.outliers = xs.length - inside;
  }

  private makeRoom(): void {
    if (this.count * STRIDE <= this.records.length) return;
    const larger = new Float32Array(Math.max(this.records.length * 2, this.count * STRIDE));
    larger.set(this.records);
    this.records = larger;
    this.allDirty = true;
  }
}

/** Of a range, what is not far from most of the values: one that is takes the last colour, or the largest size. */
function within([least, most]: [number, number], values: number[]): [number, number] {
  const [low, high] = fenceOf(values);
  if (low <= least && most <= high) return [least, most];
  const near = values.filter((value) => value >= low && value <= high);
  const [lowest, highest] = [near.reduce((a, b) => Math.min(a, b), high), near.reduce((a, b) => Math.max(a, b), low)];
  return [Math.max(least, lowest), Math.min(most, highest)];
}
