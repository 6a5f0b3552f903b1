// The picture: what a gesture does to it, and when a frame is due. It draws when something changed, and else not.
import type { Edges } from '../state/edges';
import type { Tokens } from '../state/tokens';
import {
  type Bounds,
  between,
  type Camera,
  fit,
  outgrew,
  pan,
  toScreen,
  toWorld,
  type Viewport,
  zoomAbout,
} from './camera';
import { baseRadius, PAINTS } from './colour';
import { Drawing } from './drawing';
import { listen, type Meaning } from './gestures';
import { Pace } from './pace';
import { type Coincidence, FLASH_S, MOVE_S, Places, type ShadeBy, type SizeBy, STRIDE } from './places';
import { type Look, Scene } from './scene';
import { Standout } from './standout';

const GLIDE_S = 0.35;
const REVIEW_MS = 1000;
const REACH_PIXELS = 9;
const DENSITY_MOST = 2;
const UNIT: Bounds = { minX: -1, maxX: 1, minY: -1, maxY: 1 };

export interface Note {
  coincidence: Coincidence;
  zRange: [number, number];
}

export interface PictureEvents {
  /** A token was clicked, or nothing was. */
  select(id: string | null): void;
  /** A point was clicked while a place is asked for. */
  placed(x: number, y: number): void;
  /** What the layout says of itself changed. */
  noted(note: Note): void;
}

export class Picture {
  readonly places: Places;
  readonly pace = new Pace();
  private drawing: Drawing | null = null;
  private readonly standout: Standout;
  private viewport: Viewport = { width: 1, height: 1 };
  private density = 1;
  private camera: Camera = { x: 0, y: 0, scaleX: 300, scaleY: 300 };
  private glide: { from: Camera; to: Camera; since: number } | null = null;
  private theme: 'light' | 'dark' = 'dark';
  private still = false;
  private placing = false;
  private pointer: { x: number; y: number } | null = null;
  private requested = 0;
  private lastFrameMs: number | null = null;
  private activeUntil = 0;
  private seenTokens = -1;
  private reviewAtMs = 0;
  private review: ReturnType<typeof setTimeout> | null = null;
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
    this.standout = new Standout(labelHost, tokens, edges, this.places);
    this.begin();
    const resized = new ResizeObserver(() => this.resize());
    resized.observe(host);
    this.ends.push(
      () => resized.disconnect(),
      tokens.listen((slot, what) => this.tokenTold(slot, what)),
      listen(host, this.meaning()),
      heed(canvas, 'webglcontextlost', (event) => {
        event.preventDefault();
        this.drawing = null;
      }),
      heed(canvas, 'webglcontextrestored', () => this.begin()),
    );
    this.resize();
    this.layOut(false);
  }

  close(): void {
    cancelAnimationFrame(this.requested);
    if (this.review) clearTimeout(this.review);
    for (const end of this.ends) end();
  }

  setLevel(level: number): void {
    if (level === this.places.level) return;
    this.places.level = level;
    this.layOut(true);
    this.fit();
  }

  setLook(shadeBy: ShadeBy, sizeBy: SizeBy): void {
    this.places.shadeBy = shadeBy;
    this.places.sizeBy = sizeBy;
    this.layOut(false);
  }

  setTheme(theme: 'light' | 'dark'): void {
    this.theme = theme;
    this.touch(true);
  }

  /** Without motion: nothing glides, and what changed is marked without fading. */
  setStill(still: boolean): void {
    this.still = still;
  }

  setPlacing(placing: boolean): void {
    this.placing = placing;
  }

  select(id: string | null): void {
    this.standout.selected = id;
    this.pickOut();
    const slot = this.standout.selectedSlot;
    if (slot >= 0) {
      const at = this.places.positionAt(slot, Number.POSITIVE_INFINITY);
      const { x, y } = toScreen(this.camera, this.viewport, at.x, at.y);
      const { width, height } = this.viewport;
      if (x < 40 || y < 40 || x > width - 40 || y > height - 40) this.glideTo({ ...this.camera, x: at.x, y: at.y });
    }
    this.touch(false);
  }

  fit(): void {
    this.steered = false;
    this.glideTo(this.whole());
  }

  zoom(factor: number): void {
    this.steered = true;
    const { width, height } = this.viewport;
    this.glideTo(zoomAbout(this.glide?.to ?? this.camera, this.viewport, width / 2, height / 2, factor));
  }

  /** The edges changed. */
  edgesTold(): void {
    this.pickOut();
    this.touch(false);
  }

  /** Where each token is drawn, by slot: x, y of the chosen level; NaN: an empty slot. */
  positions(): Float32Array {
    const { records, count } = this.places;
    const positions = new Float32Array(count * 2).fill(Number.NaN);
    for (let slot = 0; slot < count; slot++) {
      if (this.places.isThere(slot)) positions.set(records.subarray(slot * STRIDE + 2, slot * STRIDE + 4), slot * 2);
    }
    return positions;
  }

  /** Where a token is on screen, in CSS pixels from the picture's corner; null: it is not there. */
  screenOf(id: string): { x: number; y: number } | null {
    const slot = this.tokens.slotOf(id);
    if (slot < 0) return null;
    const at = this.places.positionAt(slot, now());
    return toScreen(this.camera, this.viewport, at.x, at.y);
  }

  private begin(): void {
    this.drawing = new Drawing(new Scene(this.canvas), this.places, this.edges, this.pace);
    this.places.allDirty = true;
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
      this.places.touch(slot, what, now(), this.still || !news, news);
      if (news) this.activeFor(FLASH_S);
    }
    this.touch(true);
  }

  private layOut(glide: boolean): void {
    const glides = glide && !this.still;
    this.places.layOut(now(), glides);
    if (glides) this.activeFor(MOVE_S);
    this.reviewed();
    this.touch(true);
  }

  /** What needs no look at each frame: ranges, hubs, notes. */
  private reviewed(): void {
    this.seenTokens = this.tokens.revision;
    this.standout.findHubs();
    this.pickOut();
    const { coincidence, zRange } = this.places;
    this.events.noted({ coincidence, zRange });
  }

  private pickOut(): void {
    const { pairs, slots } = this.standout.picked();
    this.drawing?.pickOut(pairs, slots);
  }

  /** What shows all tokens. */
  private whole(): Camera {
    const { bounds } = this.places;
    this.fitted = bounds ? { ...bounds } : null;
    return fit(bounds ?? UNIT, this.viewport, Math.min(64, this.viewport.width / 10));
  }

  private glideTo(to: Camera): void {
    if (this.still) {
      this.glide = null;
      this.camera = to;
    } else this.glide = { from: this.camera, to, since: now() };
    this.touch(false);
  }

  private moveCamera(to: Camera): void {
    this.glide = null;
    this.steered = true;
    this.camera = to;
    this.touch(false);
  }

  private meaning(): Meaning {
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
      step: (direction) => {
        const next = this.places.beside(this.standout.selectedSlot, direction);
        if (next >= 0) this.events.select(this.tokens.faces[next]?.id ?? null);
      },
      escape: () => this.events.select(null),
      size: () => this.viewport,
    };
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

  private activeFor(seconds: number): void {
    this.activeUntil = Math.max(this.activeUntil, now() + seconds);
  }

  /** A frame is due. `sheet`: what is drawn on the sheet changed. */
  private touch(sheet: boolean): void {
    if (sheet) this.drawing?.touch();
    this.requested ||= requestAnimationFrame(this.frame);
  }

  private readonly frame = (ms: number): void => {
    this.requested = 0;
    if (!this.drawing) return;
    const { drawn, whole } = this.drawing;
    if (this.lastFrameMs !== null) this.pace.frame(ms - this.lastFrameMs, drawn, whole, ms);
    const time = now();
    if (this.seenTokens !== this.tokens.revision) this.lookOver(ms);
    if (this.glide) this.advance(time);
    this.hover();
    const active = time < this.activeUntil || this.glide !== null;
    const unfinished = this.drawing.frame(this.look(time), ms, active);
    this.standout.annotate(time, this.camera, this.viewport, this.radius());
    const due = active || unfinished;
    this.lastFrameMs = due ? ms : null;
    if (due) this.requested ||= requestAnimationFrame(this.frame);
  };

  /** Tokens changed: look at the whole of them, at most once in REVIEW_MS. */
  private lookOver(ms: number): void {
    if (ms < this.reviewAtMs) {
      this.review ??= setTimeout(() => {
        this.review = null;
        this.touch(false);
      }, REVIEW_MS);
      return;
    }
    this.reviewAtMs = ms + REVIEW_MS;
    if (this.places.outgrown()) this.layOut(true);
    else this.reviewed();
    if (!this.steered && outgrew(this.fitted, this.places.bounds)) this.fit();
  }

  private advance(time: number): void {
    const glide = this.glide as NonNullable<typeof this.glide>;
    const t = Math.min(1, (time - glide.since) / GLIDE_S);
    this.camera = t === 1 ? glide.to : between(glide.from, glide.to, 1 - (1 - t) ** 3);
    if (t === 1) this.glide = null;
  }

  private hover(): void {
    const slot = this.pointer ? this.under(this.pointer.x, this.pointer.y) : -1;
    if (slot === this.standout.hovered) return;
    this.standout.hovered = slot;
    this.host.dataset.hover = String(slot >= 0);
    if (!this.standout.selected) this.pickOut();
  }

  private look(time: number): Look {
    const paint = PAINTS[this.theme];
    return {
      paint,
      ramp: this.places.shadeBy === 'z' ? paint.zRamp : paint.typeRamp,
      camera: this.camera,
      viewport: this.viewport,
      density: this.density,
      now: time,
      radius: this.radius(),
      moveS: this.still ? 1e-6 : MOVE_S,
      still: this.still,
      alpha: this.standout.selectedSlot >= 0 ? 0.3 : 1,
    };
  }
}

function heed(target: EventTarget, name: string, listener: (event: Event) => void): () => void {
  target.addEventListener(name, listener);
  return () => target.removeEventListener(name, listener);
}

/** Seconds since the page began: small enough for the GPU's floats. */
function now(): number {
  return performance.now() / 1000;
}
