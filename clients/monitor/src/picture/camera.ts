// What part of a level is on screen. Pure. World y grows upwards, screen y downwards; screen units are CSS pixels.

export interface Camera {
  /** The point of the world in the middle of the screen. */
  x: number;
  y: number;
  /** Pixels per unit of the world. */
  scaleX: number;
  scaleY: number;
}

export interface Viewport {
  width: number;
  height: number;
}

export interface Bounds {
  minX: number;
  maxX: number;
  minY: number;
  maxY: number;
}

/** Pixels at the edges that other things lie on. */
export interface Insets {
  top: number;
  bottom: number;
  sides: number;
}

const NO_INSETS: Insets = { top: 0, bottom: 0, sides: 0 };
/** Beyond this ratio of sides one scale for both axes would make a line of the picture. */
const STRETCH_FROM = 6;
const LEAST_SPAN = 1e-6;
/** Small enough for the farthest coordinates that are drawn. */
const SCALE_LEAST = 1e-33;
const SCALE_MOST = 1e9;

/** What is shown of `bounds` as large as it goes, clear of what lies over the picture at its edges. */
export function fit(bounds: Bounds, viewport: Viewport, { top, bottom, sides }: Insets = NO_INSETS): Camera {
  const spanX = Math.max(bounds.maxX - bounds.minX, LEAST_SPAN);
  const spanY = Math.max(bounds.maxY - bounds.minY, LEAST_SPAN);
  const scaleX = Math.max(viewport.width - 2 * sides, 16) / spanX;
  const scaleY = Math.max(viewport.height - top - bottom, 16) / spanY;
  const flat = bounds.maxX - bounds.minX < LEAST_SPAN || bounds.maxY - bounds.minY < LEAST_SPAN;
  const ratio = Math.max(scaleX / scaleY, scaleY / scaleX);
  const one = Math.min(scaleX, scaleY);
  const stretched = !flat && ratio > STRETCH_FROM;
  const scale = { scaleX: clampScale(stretched ? scaleX : one), scaleY: clampScale(stretched ? scaleY : one) };
  return {
    x: (bounds.minX + bounds.maxX) / 2,
    y: (bounds.minY + bounds.maxY) / 2 + (top - bottom) / 2 / scale.scaleY,
    ...scale,
  };
}

export function toScreen(camera: Camera, viewport: Viewport, x: number, y: number): { x: number; y: number } {
  return {
    x: (x - camera.x) * camera.scaleX + viewport.width / 2,
    y: viewport.height / 2 - (y - camera.y) * camera.scaleY,
  };
}

export function toWorld(camera: Camera, viewport: Viewport, x: number, y: number): { x: number; y: number } {
  return {
    x: (x - viewport.width / 2) / camera.scaleX + camera.x,
    y: (viewport.height / 2 - y) / camera.scaleY + camera.y,
  };
}

/** Zoom so that the point under (x, y) of the screen stays there. */
export function zoomAbout(camera: Camera, viewport: Viewport, x: number, y: number, factor: number): Camera {
  const fixed = toWorld(camera, viewport, x, y);
  const scaleX = clampScale(camera.scaleX * factor);
  const scaleY = clampScale(camera.scaleY * factor);
  return {
    x: fixed.x - (x - viewport.width / 2) / scaleX,
    y: fixed.y - (viewport.height / 2 - y) / scaleY,
    scaleX,
    scaleY,
  };
}

export function pan(camera: Camera, dx: number, dy: number): Camera {
  return { ...camera, x: camera.x - dx / camera.scaleX, y: camera.y + dy / camera.scaleY };
}

export function between(from: Camera, to: Camera, share: number): Camera {
  const mix = (a: number, b: number) => a + (b - a) * share;
  const grow = (a: number, b: number) => a * (b / a) ** share;
  return {
    x: mix(from.x, to.x),
    y: mix(from.y, to.y),
    scaleX: grow(from.scaleX, to.scaleX),
    scaleY: grow(from.scaleY, to.scaleY),
  };
}

export function same(a: Camera, b: Camera): boolean {
  return a.x === b.x && a.y === b.y && a.scaleX === b.scaleX && a.scaleY === b.scaleY;
}

/** How many values are looked at, of many. */
const SAMPLES = 4096;
/** How many times the spread of the middle four fifths a value may lie beyond them. */
const FENCE = 8;

/** The range that `values` lie in, but for a few that are far from all others; all of it, where those are not few. */
export function fenceOf(values: ArrayLike<number>): [number, number] {
  const step = Math.max(1, Math.floor(values.length / SAMPLES));
  const sorted = Float64Array.from(
    { length: Math.floor(values.length / step) },
    (_, i) => values[i * step] as number,
  ).sort();
  const low = sorted[Math.floor((sorted.length - 1) / 10)] ?? 0;
  const high = sorted[Math.ceil(((sorted.length - 1) * 9) / 10)] ?? 0;
  if (low === high) return [Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY];
  return [low - FENCE * (high - low), high + FENCE * (high - low)];
}

/** Whether bounds differ so much from those that were fitted that they should be fitted again. */
export function outgrew(fitted: Bounds | null, bounds: Bounds | null): boolean {
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

/** Round steps for an axis, at least `apart` pixels from each other, that are on screen. */
export function ticks(center: number, scale: number, pixels: number, apart = 110): number[] {
  const raw = apart / scale;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * ([1, 2, 5, 10].find((nice) => nice * power >= raw) ?? 10);
  const least = Math.ceil((center - pixels / 2 / scale) / step);
  const most = Math.floor((center + pixels / 2 / scale) / step);
  return Array.from({ length: Math.max(0, Math.min(most - least + 1, 40)) }, (_, i) => (least + i) * step);
}

function clampScale(scale: number): number {
  // What is no number must not stay for good: all that follows is made of it.
  if (Number.isNaN(scale)) return 1;
  return Math.min(SCALE_MOST, Math.max(SCALE_LEAST, scale));
}
