// The picture: when to draw, what a gesture does, and what is picked out. It draws when something changed, else not.
import type { Edges } from '../state/edges';
import type { Tokens } from '../state/tokens';
import {
  type Bounds,
  between,
  type Camera,
  fit,
  pan,
  same,
  toScreen,
  toWorld,
  type Viewport,
  zoomAbout,
} from './camera';
import { baseRadius, PAINTS } from './colour';
import { listen } from './gestures';
import { type Label, Labels } from './labels';
import { Pace } from './pace';
import { type Coincidence, FLASH_S, MOVE_S, Places, type ShadeBy, type SizeBy, STRIDE } from './places';
import { type Look, Scene } from './scene';

const GLIDE_S = 0.35;
const REVIEW_MS = 1000;
const HUBS = 16;
const REACH_PIXELS = 9;
const DENSITY_MOST = 2;

export interface PictureEvents {
  /** A token was clicked, or nothing was. */
  select(id: string | null): void;
  /** A point was clicked while a place is asked for. */
  placed(x: number, y: number): void;
  /** What the layout says of itself changed. */
  noted(note: { coincidence: Coincidence; zRange: [number, number] }): void;
}

export class Picture {
  readonly places: Places;
  readonly pace = new Pace();
  private scene: Scene | null = null;
  private readonly labels: Labels;
  private viewport: Viewport = { width: 1, height: 1 };
  private density = 1;
  private camera: Camera = { x: 0, y: 0, scaleX: 300, scaleY: 300 };
  private glide: { from: Camera; to: Camera; since: number } | null = null;
  private theme: 'light' | 'dark' = 'dark';
  private calm = false;
  private placing = false;
  private selected: string | null = null;
  private hovered = -1;
  private hubs: number[] = [];
  private pointer: { x: number; y: number } | null = null;
  private requested = 0;
  private lastFrameMs: number | null = null;
  private busyUntil = 0;
  private staleEdges = true;
  private edgesAtRest = false;
  private coarse = false;
  private seenEdges = -1;
  private seenTokens = -1;
  private reviewAtMs = 0;
  /** Whether somebody chose what is on screen; until then the picture keeps all of it there. */
  private steered = false;
  private fitted: Bounds | null = null;
  private readonly ends: (() => void)[] = [];

  constructor(
    private readonly canvas: HTMLCanvasElement,
    private readonly host: HTMLElement,
    labelHost: HTMLElement,
    private readonly tokens: Tokens,
    private readonly edges: Edges,
    private readonly events: PictureEvents,
    /** False while the state that is there is still being brought: it is no news. */
    private readonly isNews: () => boolean,
  ) {
    this.places = new Places(tokens, (id) => edges.degree(id));
    this.labels = new Labels(labelHost);
    this.begin();
    const resized = new ResizeObserver(() => this.resize());
    resized.observe(host);
    this.ends.push(
      () => resized.disconnect(),
      tokens.listen((slot, what) => this.tokenTold(slot, what)),
      listen(host, this.meaning()),
      this.heed(canvas, 'webglcontextlost', (event) => {
        event.preventDefault();
        this.scene = null;
      }),
      this.heed(canvas, 'webglcontextrestored', () => this.begin()),
    );
    this.resize();
    this.relayout(false);
  }

  close(): void {
    cancelAnimationFrame(this.requested);
    for (const end of this.ends) end();
  }

  setLevel(level: number): void {
    if (level === this.places.level) return;
    this.places.level = level;
    this.relayout(true);
    this.fit();
  }

  setLook(shadeBy: ShadeBy, sizeBy: SizeBy): void {
    this.places.shadeBy = shadeBy;
    this.places.sizeBy = sizeBy;
    this.relayout(false);
  }

  setTheme(theme: 'light' | 'dark'): void {
    this.theme = theme;
    this.touch(true);
  }

  /** Without motion: nothing glides, and what changed is marked without fading. */
  setCalm(calm: boolean): void {
    this.calm = calm;
  }

  setPlacing(placing: boolean): void {
    this.placing = placing;
  }

  select(id: string | null, center: boolean): void {
    this.selected = id;
    this.pickOut();
    const slot = id ? this.tokens.slotOf(id) : -1;
    if (center && slot >= 0) {
      const at = this.places.positionAt(slot, Number.POSITIVE_INFINITY);
      const screen = toScreen(this.camera, this.viewport, at.x, at.y);
      const { width, height } = this.viewport;
      const outside = screen.x < 40 || screen.y < 40 || screen.x > width - 40 || screen.y > height - 40;
      if (outside) this.glideTo({ ...this.camera, x: at.x, y: at.y });
    }
    this.touch(false);
  }

  fit(): void {
    this.steered = false;
    this.glideTo(this.whole());
  }

  zoom(factor: number): void {
    this.steered = true;
    this.glideTo(
      zoomAbout(
        this.glide?.to ?? this.camera,
        this.viewport,
        this.viewport.width / 2,
        this.viewport.height / 2,
        factor,
      ),
    );
  }

  /** The edges changed. */
  edgesTold(): void {
    this.touch(false);
  }

  /** Where each token is drawn, by slot: x, y of the chosen level. */
  positions(): Float32Array {
    const { records, count } = this.places;
    const out = new Float32Array(count * 2);
    for (let slot = 0; slot < count; slot++) {
      out[slot * 2] = this.places.isThere(slot) ? (records[slot * STRIDE + 2] as number) : Number.NaN;
      out[slot * 2 + 1] = this.places.isThere(slot) ? (records[slot * STRIDE + 3] as number) : Number.NaN;
    }
    return out;
  }

  /** Where a token is on screen, in CSS pixels from the picture's corner; null: it is not there. */
  screenOf(id: string): { x: number; y: number } | null {
    const slot = this.tokens.slotOf(id);
    if (slot < 0) return null;
    const at = this.places.positionAt(slot, now());
    return toScreen(this.camera, this.viewport, at.x, at.y);
  }

  /** What shows all tokens. */
  private whole(): Camera {
    const { bounds } = this.places;
    this.fitted = bounds ? { ...bounds } : null;
    return fit(bounds ?? UNIT, this.viewport, Math.min(64, this.viewport.width / 10));
  }

  private begin(): void {
    this.scene = new Scene(this.canvas);
    this.places.allDirty = true;
    this.seenEdges = -1;
    this.pickOut();
    this.touch(true);
  }

  private resize(): void {
    const { clientWidth: width, clientHeight: height } = this.host;
    if (width === 0 || height === 0) return;
    this.density = Math.min(DENSITY_MOST, window.devicePixelRatio || 1);
    this.canvas.width = Math.round(width * this.density);
    this.canvas.height = Math.round(height * this.density);
    this.viewport = { width, height };
    if (!this.steered) {
      this.glide = null;
      this.camera = this.whole();
    }
    this.touch(true);
  }

  private tokenTold(slot: number, what: 'added' | 'changed' | 'removed'): void {
    if (what === 'removed') this.places.remove(slot);
    else {
      const news = this.isNews();
      this.places.touch(slot, what, now(), this.calm || !news);
      if (news) this.busyUntil = Math.max(this.busyUntil, now() + FLASH_S);
      else this.places.calm(slot);
    }
    this.touch(true);
  }

  private relayout(glide: boolean): void {
    this.places.layOut(now(), glide && !this.calm);
    if (glide && !this.calm) this.busyUntil = Math.max(this.busyUntil, now() + MOVE_S);
    this.review();
    this.touch(true);
  }

  /** What needs no look at each frame: ranges, hubs, notes. */
  private review(): void {
    this.seenTokens = this.tokens.revision;
    this.hubs = this.findHubs();
    this.pickOut();
    const { coincidence, zRange } = this.places;
    this.events.noted({ coincidence, zRange });
  }

  private findHubs(): number[] {
    const named: [number, number][] = [];
    for (let slot = 0; slot < this.places.count; slot++) {
      const face = this.tokens.faces[slot];
      if (face?.label)
        named.push([slot, (this.places.records[slot * STRIDE + 5] as number) + this.edges.degree(face.id) / 1e6]);
    }
    return named
      .sort((a, b) => b[1] - a[1])
      .slice(0, HUBS)
      .map(([slot]) => slot);
  }

  private pickOut(): void {
    const id = this.selected ?? this.tokens.faces[this.hovered]?.id ?? null;
    const slot = id ? this.tokens.slotOf(id) : -1;
    if (!id || slot < 0) {
      this.scene?.pickOut([], []);
      return;
    }
    const pairs: number[] = [];
    const slots = new Set([slot]);
    for (const edge of this.edges.at(id)) {
      const [source, target] = [this.tokens.slotOf(edge.source), this.tokens.slotOf(edge.target)];
      if (source < 0 || target < 0) continue;
      pairs.push(source, target);
      slots.add(source).add(target);
    }
    this.scene?.pickOut(pairs, [...slots]);
  }

  private glideTo(to: Camera): void {
    if (this.calm) {
      this.glide = null;
      this.camera = to;
    } else this.glide = { from: this.camera, to, since: now() };
    this.touch(true);
  }

  private moveCamera(to: Camera): void {
    this.glide = null;
    this.steered = true;
    this.camera = to;
    this.touch(true);
  }

  private meaning(): Parameters<typeof listen>[1] {
    return {
      pan: (dx, dy) => this.moveCamera(pan(this.camera, dx, dy)),
      zoom: (x, y, factor) => this.moveCamera(zoomAbout(this.camera, this.viewport, x, y, factor)),
      tap: (x, y) => {
        const at = toWorld(this.camera, this.viewport, x, y);
        if (this.placing) this.events.placed(at.x, at.y);
        else this.events.select(this.tokens.faces[this.under(x, y)]?.id ?? null);
      },
      hover: (x, y) => {
        this.pointer = { x, y };
        this.touch(false);
      },
      leave: () => {
        this.pointer = null;
        this.touch(false);
      },
      fit: () => this.fit(),
      step: (direction) => this.step(direction),
      escape: () => this.events.select(null),
      size: () => this.viewport,
    };
  }

  /** The next token, from left to right. */
  private step(direction: 1 | -1): void {
    const there: number[] = [];
    for (let slot = 0; slot < this.places.count; slot++) if (this.places.isThere(slot)) there.push(slot);
    const x = (slot: number) => this.places.records[slot * STRIDE + 2] as number;
    there.sort((a, b) => x(a) - x(b) || a - b);
    const from = this.selected ? there.indexOf(this.tokens.slotOf(this.selected)) : direction === 1 ? -1 : 0;
    const next = there[(from + direction + there.length) % Math.max(1, there.length)];
    if (next !== undefined) this.events.select(this.tokens.faces[next]?.id ?? null);
  }

  private under(x: number, y: number): number {
    const at = toWorld(this.camera, this.viewport, x, y);
    const reach = REACH_PIXELS + this.radius();
    return this.places.nearest(at.x, at.y, reach / this.camera.scaleX, reach / this.camera.scaleY);
  }

  private radius(): number {
    const base = baseRadius(this.tokens.count, this.viewport.width * this.viewport.height);
    const whole = fit(this.places.bounds ?? UNIT, this.viewport);
    const closer = Math.max(0.6, Math.min(4, Math.sqrt(this.camera.scaleX / whole.scaleX)));
    return Math.min(14, base * closer);
  }

  private heed(target: EventTarget, name: string, listener: (event: Event) => void): () => void {
    target.addEventListener(name, listener);
    return () => target.removeEventListener(name, listener);
  }

  private touch(edges: boolean): void {
    if (edges) this.staleEdges = true;
    this.requested ||= requestAnimationFrame(this.frame);
  }

  private readonly frame = (ms: number): void => {
    this.requested = 0;
    if (!this.scene) return;
    if (this.lastFrameMs !== null) this.pace.frame(ms - this.lastFrameMs, !this.scene.drawing, ms);
    const time = now();
    if (this.seenTokens !== this.tokens.revision && ms >= this.reviewAtMs) {
      this.reviewAtMs = ms + REVIEW_MS;
      if (this.places.outgrown()) this.relayout(true);
      else this.review();
      if (!this.steered && outgrew(this.fitted, this.places.bounds)) this.fit();
    }
    if (this.glide) this.advance(time);
    this.hover();
    const look = this.look(time);
    this.scene.upload(this.places);
    this.drawEdges(look, time);
    this.scene.draw(look, this.places);
    this.annotate(time);
    const moving =
      time < this.busyUntil || this.glide !== null || this.scene.drawing || this.staleEdges || !this.edgesAtRest;
    this.lastFrameMs = moving ? ms : null;
    if (moving) this.requested ||= requestAnimationFrame(this.frame);
    else if (this.seenTokens !== this.tokens.revision) setTimeout(() => this.touch(false), REVIEW_MS);
  };

  private drawEdges(look: Look, time: number): void {
    const scene = this.scene as Scene;
    if (this.seenEdges !== this.edges.revision) {
      this.seenEdges = this.edges.revision;
      scene.uploadEdges(this.edges);
      this.staleEdges = true;
    }
    const active = time < this.busyUntil || this.glide !== null;
    if (!scene.drawing) {
      // What moved while coarse lines had to do is drawn once more, finely, when all is at rest.
      const rest = !active && !this.staleEdges && this.coarse;
      if (active || this.staleEdges || rest) {
        const fine = this.pace.fine || rest;
        scene.beginEdges(look, fine);
        this.coarse = !fine;
        this.staleEdges = false;
      }
    }
    if (scene.drawing) scene.drawEdges(this.pace.edges, this.places.shadeBy === 'z' ? 0.45 : 0.25);
    this.edgesAtRest = !scene.drawing && !this.coarse && !this.staleEdges;
  }

  private advance(time: number): void {
    const glide = this.glide as NonNullable<typeof this.glide>;
    const t = Math.min(1, (time - glide.since) / GLIDE_S);
    const before = this.camera;
    this.camera = t === 1 ? glide.to : between(glide.from, glide.to, 1 - (1 - t) ** 3);
    if (!same(before, this.camera)) this.staleEdges = true;
    if (t === 1) this.glide = null;
  }

  private hover(): void {
    const slot = this.pointer ? this.under(this.pointer.x, this.pointer.y) : -1;
    if (slot === this.hovered) return;
    this.hovered = slot;
    this.host.dataset.hover = String(slot >= 0);
    if (!this.selected) this.pickOut();
  }

  private look(time: number): Look {
    const paint = PAINTS[this.theme];
    const picked = this.selected !== null && this.tokens.slotOf(this.selected) >= 0;
    return {
      paint,
      ramp: this.places.shadeBy === 'z' ? paint.zRamp : paint.typeRamp,
      camera: this.camera,
      viewport: this.viewport,
      density: this.density,
      now: time,
      radius: this.radius(),
      moveS: this.calm ? 1e-6 : MOVE_S,
      alpha: picked ? 0.3 : 1,
    };
  }

  private annotate(time: number): void {
    const place = (slot: number) => {
      const at = this.places.positionAt(slot, time);
      return toScreen(this.camera, this.viewport, at.x, at.y);
    };
    const base = this.radius();
    const radius = (slot: number) => base * (this.places.records[slot * STRIDE + 5] as number);
    const selected = this.selected ? this.tokens.slotOf(this.selected) : -1;
    const labels: Label[] = [];
    const add = (slot: number, kind: Label['kind']) => {
      const face = this.tokens.faces[slot];
      if (face && !labels.some((one) => one.slot === slot)) labels.push({ slot, text: face.label || face.type, kind });
    };
    if (selected >= 0) add(selected, 'selected');
    if (this.hovered >= 0) add(this.hovered, 'hover');
    if (selected < 0) for (const slot of this.hubs) add(slot, 'hub');
    else for (const slot of this.neighborsNamed(selected)) add(slot, 'hub');
    this.labels.put(labels, place, radius, this.viewport);
    this.labels.putRing(selected >= 0 ? place(selected) : null, radius(Math.max(0, selected)));
    this.labels.putMarks(this.camera, this.viewport);
  }

  private neighborsNamed(slot: number): number[] {
    const id = this.tokens.faces[slot]?.id ?? '';
    return this.edges
      .at(id)
      .map((edge) => this.tokens.slotOf(edge.source === id ? edge.target : edge.source))
      .filter((other) => this.tokens.faces[other]?.label)
      .slice(0, HUBS * 2);
  }
}

const UNIT: Bounds = { minX: -1, maxX: 1, minY: -1, maxY: 1 };

/** Whether bounds differ so much that the picture should be fitted again. */
function outgrew(fitted: Bounds | null, bounds: Bounds | null): boolean {
  if (!fitted || !bounds) return fitted !== bounds;
  const slackX = 0.12 * Math.max(bounds.maxX - bounds.minX, fitted.maxX - fitted.minX);
  const slackY = 0.12 * Math.max(bounds.maxY - bounds.minY, fitted.maxY - fitted.minY);
  return (
    Math.abs(bounds.minX - fitted.minX) > slackX ||
    Math.abs(bounds.maxX - fitted.maxX) > slackX ||
    Math.abs(bounds.minY - fitted.minY) > slackY ||
    Math.abs(bounds.maxY - fitted.maxY) > slackY
  );
}

/** Seconds since the page began: small enough for the GPU's floats. */
function now(): number {
  return performance.now() / 1000;
}
