// The picture: what a gesture does to it, and when a frame is due. It draws when something changed, and else not.
import type { Edges } from '../state/edges';
import type { Tokens } from '../state/tokens';
import { PAINTS, radiusOf } from './colour';
import { Drawing } from './drawing';
import { heed, listen, type Meaning } from './gestures';
import { Pace } from './pace';
import { type Coincidence, FLASH_S, MOVE_S, Places, type ShadeBy, type SizeBy } from './places';
import { type Look, Scene } from './scene';
import { Standout } from './standout';
import { type Place, View } from './view';

const REVIEW_MS = 1000;
const REACH_PIXELS = 9;
const DENSITY_MOST = 2;
/** How much of what is not picked out is still to be seen. */
const STEPPED_BACK = 0.3;

export interface Note {
  coincidence: Coincidence;
  /** Tokens so far from all others that the picture leaves them out, until it is asked for them. */
  outliers: number;
  zRange: [number, number];
}

export interface PictureEvents {
  /** A token was clicked, or nothing was. */
  select(id: string | null): void;
  /** A point was clicked while a place is asked for. */
  placed(x: number, y: number): void;
  /** The browser took the graphics away, or gave them back. */
  lost(isLost: boolean): void;
  /** What the layout says of itself changed. */
  noted(note: Note): void;
}

export class Picture {
  readonly places: Places;
  readonly pace = new Pace();
  private drawing: Drawing | null = null;
  private readonly standout: Standout;
  private readonly view: View;
  private density = 1;
  private theme: 'light' | 'dark' = 'dark';
  private still = false;
  private placing = false;
  private pointer: Place | null = null;
  private requested = 0;
  private lastFrameMs: number | null = null;
  private activeUntil = 0;
  private seenTokens = -1;
  private reviewAtMs = 0;
  private review: ReturnType<typeof setTimeout> | null = null;
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
    this.view = new View((all) => (all ? this.places.wholeBounds : this.places.bounds));
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
        this.standout.clear();
        this.events.lost(true);
      }),
      heed(canvas, 'webglcontextrestored', () => {
        this.begin();
        this.events.lost(false);
      }),
    );
    this.resize();
    this.layOut(false);
  }

  close(): void {
    cancelAnimationFrame(this.requested);
    if (this.review) clearTimeout(this.review);
    for (const end of this.ends) end();
    // The next picture in this place, of another connection, has names of its own.
    this.standout.close();
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
    this.still = this.view.still = still;
  }

  setPlacing(placing: boolean): void {
    this.placing = placing;
  }

  select(id: string | null): void {
    this.standout.selected = id;
    this.pickOut();
    const slot = this.standout.selectedSlot;
    if (slot >= 0) this.view.reveal(this.places.positionAt(slot, Number.POSITIVE_INFINITY), now());
    this.touch(false);
  }

  /** Show the tokens; `all`: those too that are far from all others. */
  fit(all = false): void {
    this.view.fit(now(), all);
    this.touch(false);
  }

  zoom(factor: number): void {
    this.view.zoom(factor, now());
    this.touch(false);
  }

  /** The edges changed. */
  edgesTold(): void {
    this.pickOut();
    this.touch(false);
  }

  /** Where a token is on screen, in CSS pixels from the picture's corner; null: it is not there. */
  screenOf(id: string): Place | null {
    const slot = this.tokens.slotOf(id);
    return slot < 0 ? null : this.view.toScreen(this.places.positionAt(slot, now()));
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
    this.view.resize(width, height);
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
    const { coincidence, outliers, zRange } = this.places;
    this.events.noted({ coincidence, outliers, zRange });
  }

  private pickOut(): void {
    const { pairs, slots } = this.standout.picked();
    this.drawing?.pickOut(pairs, slots);
  }

  private meaning(): Meaning {
    const { view } = this;
    const touched = (act: () => void) => {
      act();
      this.touch(false);
    };
    return {
      pan: (dx, dy) => touched(() => view.pan(dx, dy)),
      zoom: (x, y, factor) => touched(() => view.zoomAbout(x, y, factor)),
      tap: (x, y) => {
        const at = view.toWorld(x, y);
        if (this.placing) this.events.placed(at.x, at.y);
        else this.events.select(this.tokens.faces[this.under(x, y)]?.id ?? null);
      },
      hover: (x, y) =>
        touched(() => {
          this.pointer = { x, y };
        }),
      leave: () =>
        touched(() => {
          this.pointer = null;
        }),
      fit: () => this.fit(),
      step: (direction) => {
        const next = this.places.beside(this.standout.selectedSlot, direction);
        if (next >= 0) this.events.select(this.tokens.faces[next]?.id ?? null);
      },
      escape: () => this.events.select(null),
      size: () => view.viewport,
    };
  }

  /** The token under a point of the screen, or -1. */
  private under(x: number, y: number): number {
    const at = this.view.toWorld(x, y);
    const reach = REACH_PIXELS + this.radius();
    const { scaleX, scaleY } = this.view.camera;
    return this.places.nearest(at.x, at.y, reach / scaleX, reach / scaleY);
  }

  private radius(): number {
    return radiusOf(this.tokens.count, this.view.viewport, this.view.closeness);
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
    this.view.advance(time);
    this.hover();
    const active = time < this.activeUntil || this.view.gliding;
    const unfinished = this.drawing.frame(this.look(time), ms, active);
    this.standout.annotate(time, this.view.camera, this.view.viewport, this.radius());
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
    this.view.follow(now());
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
      camera: this.view.camera,
      viewport: this.view.viewport,
      density: this.density,
      now: time,
      radius: this.radius(),
      moveS: this.still ? 1e-6 : MOVE_S,
      still: this.still,
      alpha: this.standout.selectedSlot >= 0 ? STEPPED_BACK : 1,
    };
  }
}

/** Seconds since the page began: small enough for the GPU's floats. */
function now(): number {
  return performance.now() / 1000;
}
