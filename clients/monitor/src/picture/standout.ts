// What stands out of the picture: the selected token and its neighbours, the one under the pointer, and names.
import type { Edges } from '../state/edges';
import type { Tokens } from '../state/tokens';
import { type Camera, toScreen, type Viewport } from './camera';
import { type Dot, type Label, Labels } from './labels';
import { type Places, STRIDE } from './places';

const HUBS = 16;
/** Above so many tokens names can't but lie on some. */
const DOTS_MOST = 300;

export class Standout {
  selected: string | null = null;
  hovered = -1;
  private hubs: number[] = [];
  private readonly labels: Labels;

  constructor(
    host: HTMLElement,
    private readonly tokens: Tokens,
    private readonly edges: Edges,
    private readonly places: Places,
  ) {
    this.labels = new Labels(host);
  }

  /** Show no names: there is nothing that they belong to. */
  clear(): void {
    this.labels.clear();
  }

  close(): void {
    this.labels.close();
  }

  get selectedSlot(): number {
    return this.selected ? this.tokens.slotOf(this.selected) : -1;
  }

  /** The tokens that are named while none is selected: those with a name, the largest first. */
  findHubs(): void {
    const named: [number, number][] = [];
    for (let slot = 0; slot < this.places.count; slot++) {
      const face = this.tokens.faces[slot];
      if (!face?.label) continue;
      named.push([slot, this.radiusOf(slot) + this.edges.degree(face.id) / 1e6]);
    }
    named.sort((a, b) => b[1] - a[1]);
    this.hubs = named.slice(0, HUBS).map(([slot]) => slot);
  }

  /** The edges, as pairs of slots, and the tokens that are drawn once more on top. */
  picked(): { pairs: number[]; slots: number[] } {
    const id = this.selected ?? this.tokens.faces[this.hovered]?.id ?? null;
    const slot = id ? this.tokens.slotOf(id) : -1;
    if (!id || slot < 0) return { pairs: [], slots: [] };
    const pairs: number[] = [];
    const slots = new Set([slot]);
    for (const edge of this.edges.at(id)) {
      const [source, target] = [this.tokens.slotOf(edge.source), this.tokens.slotOf(edge.target)];
      if (source < 0 || target < 0) continue;
      pairs.push(source, target);
      slots.add(source).add(target);
    }
    return { pairs, slots: [...slots] };
  }

  /** Put names, ring and numbers where they belong at `now`; `base` is the radius of a token of middling size. */
  annotate(now: number, camera: Camera, viewport: Viewport, base: number): void {
    const place = (slot: number) => {
      const at = this.places.positionAt(slot, now);
      return toScreen(camera, viewport, at.x, at.y);
    };
    const radius = (slot: number) => base * this.radiusOf(slot);
    const selected = this.selectedSlot;
    this.labels.put(this.named(selected), place, radius, viewport, this.dots(place, radius));
    this.labels.putRing(selected >= 0 ? place(selected) : null, radius(Math.max(0, selected)));
    this.labels.putMarks(camera, viewport);
  }

  private dots(place: (slot: number) => { x: number; y: number }, radius: (slot: number) => number): Dot[] {
    if (this.tokens.count > DOTS_MOST) return [];
    return this.tokens.faces.flatMap((face, slot) => (face ? [{ ...place(slot), radius: radius(slot) }] : []));
  }

  private named(selected: number): Label[] {
    const labels: Label[] = [];
    const add = (slot: number, kind: Label['kind']) => {
      const face = this.tokens.faces[slot];
      if (face && !labels.some((one) => one.slot === slot)) labels.push({ slot, text: face.label || face.type, kind });
    };
    if (selected >= 0) add(selected, 'selected');
    if (this.hovered >= 0) add(this.hovered, 'hover');
    for (const slot of selected < 0 ? this.hubs : this.neighborsNamed()) add(slot, 'hub');
    return labels;
  }

  private neighborsNamed(): number[] {
    const id = this.selected ?? '';
    return this.edges
      .at(id)
      .map((edge) => this.tokens.slotOf(edge.source === id ? edge.target : edge.source))
      .filter((slot) => this.tokens.faces[slot]?.label)
      .slice(0, HUBS * 2);
  }

  private radiusOf(slot: number): number {
    return this.places.records[slot * STRIDE + 5] ?? 0;
  }
}
