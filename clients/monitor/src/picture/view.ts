// Which part of the level is on screen, and how that glides. Until somebody steers, all of it is kept there.
import {
  type Bounds,
  between,
  type Camera,
  fit,
  type Insets,
  outgrew,
  pan,
  toScreen,
  toWorld,
  type Viewport,
  zoomAbout,
} from './camera';

const GLIDE_S = 0.35;
/** Where the bars above and below lie on the picture. */
const BARS = { top: 66, bottom: 84 };
const SIDES_MOST = 64;
const EDGE_PIXELS = 30;
/** A level without tokens. */
const UNIT: Bounds = { minX: -1, maxX: 1, minY: -1, maxY: 1 };

export interface Place {
  x: number;
  y: number;
}

export class View {
  viewport: Viewport = { width: 1, height: 1 };
  camera: Camera = { x: 0, y: 0, scaleX: 300, scaleY: 300 };
  /** Without motion: it jumps. */
  still = false;
  private glide: { from: Camera; to: Camera; since: number } | null = null;
  private steered = false;
  private fitted: Bounds | null = null;
  /** Whether those count that are far from all others. */
  private all = false;

  constructor(private readonly boundsOf: (all: boolean) => Bounds | null) {}

  get gliding(): boolean {
    return this.glide !== null;
  }

  resize(width: number, height: number): void {
    this.viewport = { width, height };
    if (this.steered) return;
    this.glide = null;
    this.camera = this.whole();
  }

  /** Show the tokens; `all`: those too that are far from all others. */
  fit(now: number, all = false): void {
    this.steered = false;
    this.all = all;
    this.glideTo(this.whole(), now);
  }

  /** Show all tokens, if nobody steered and they are elsewhere now. */
  follow(now: number): void {
    if (!this.steered && outgrew(this.fitted, this.bounds())) this.fit(now, this.all);
  }

  zoom(factor: number, now: number): void {
    this.steered = true;
    const { width, height } = this.viewport;
    this.glideTo(zoomAbout(this.glide?.to ?? this.camera, this.viewport, width / 2, height / 2, factor), now);
  }

  zoomAbout(x: number, y: number, factor: number): void {
    this.steer(zoomAbout(this.camera, this.viewport, x, y, factor));
  }

  pan(dx: number, dy: number): void {
    this.steer(pan(this.camera, dx, dy));
  }

  /** Bring a point of the world to the middle, where it is not to be seen. */
  reveal(place: Place, now: number): void {
    const { x, y } = this.toScreen(place);
    const { width, height } = this.viewport;
    const hidden = x < EDGE_PIXELS || y < BARS.top || x > width - EDGE_PIXELS || y > height - BARS.bottom;
    if (hidden) this.glideTo({ ...this.camera, x: place.x, y: place.y }, now);
  }

  /** Glide on. */
  advance(now: number): void {
    const { glide } = this;
    if (!glide) return;
    const t = Math.min(1, (now - glide.since) / GLIDE_S);
    this.camera = t === 1 ? glide.to : between(glide.from, glide.to, 1 - (1 - t) ** 3);
    if (t === 1) this.glide = null;
  }

  /** How much closer than with all tokens on screen; 1: as close. */
  get closeness(): number {
    return this.camera.scaleX / fit(this.bounds() ?? UNIT, this.viewport, this.insets()).scaleX;
  }

  toScreen({ x, y }: Place): Place {
    return toScreen(this.camera, this.viewport, x, y);
  }

  toWorld(x: number, y: number): Place {
    return toWorld(this.camera, this.viewport, x, y);
  }

  private bounds(): Bounds | null {
    return this.boundsOf(this.all);
  }

  private whole(): Camera {
    const bounds = this.bounds();
    this.fitted = bounds ? { ...bounds } : null;
    return fit(bounds ?? UNIT, this.viewport, this.insets());
  }

  private insets(): Insets {
    return { ...BARS, sides: Math.min(SIDES_MOST, this.viewport.width / 10) };
  }

  private steer(to: Camera): void {
    this.glide = null;
    this.steered = true;
    this.camera = to;
  }

  private glideTo(to: Camera, now: number): void {
    this.glide = this.still ? null : { from: this.camera, to, since: now };
    if (this.still) this.camera = to;
  }
}
