// The colours of the picture, per theme. A ramp has eight stops: z runs along it, types take its stops.

import type { Viewport } from './camera';

const RADIUS_MOST = 14;

export type Rgb = readonly [number, number, number];

export interface Paint {
  background: Rgb;
  /** What a token that changed flashes towards. */
  ink: Rgb;
  line: Rgb;
  grid: Rgb;
  zRamp: Float32Array;
  typeRamp: Float32Array;
  zStops: readonly string[];
  typeStops: readonly string[];
  /** Many lines over each other add up; on light ground they need less. */
  lineStrength: number;
}

const DARK_Z = ['#6a5cff', '#4f7dff', '#2fa4f5', '#22c3d6', '#45d9a4', '#a5dc6a', '#f3c759', '#ff8f66'];
const LIGHT_Z = ['#4a35c9', '#3257d3', '#0f77c4', '#06889b', '#12895f', '#6c8a12', '#b57707', '#cf4a1f'];
const DARK_TYPES = ['#5aa9ff', '#ffb454', '#5fd7a7', '#f07fb0', '#b39bff', '#e6dc6b', '#5fd0e8', '#ff8066'];
const LIGHT_TYPES = ['#1f6fd0', '#b86a00', '#14855a', '#c0307a', '#6a45cf', '#807600', '#0a7f98', '#cf4a1f'];

function paint(
  background: string,
  ink: string,
  line: string,
  grid: string,
  z: string[],
  types: string[],
  strength: number,
): Paint {
  return {
    background: rgb(background),
    ink: rgb(ink),
    line: rgb(line),
    grid: rgb(grid),
    zRamp: flat(z),
    typeRamp: flat(types),
    zStops: z,
    typeStops: types,
    lineStrength: strength,
  };
}

export const PAINTS: Record<'light' | 'dark', Paint> = {
  light: paint('#fbfaf7', '#0c1524', '#5a6478', '#c9c6bd', LIGHT_Z, LIGHT_TYPES, 1),
  dark: paint('#0b0f16', '#ffffff', '#7f93b8', '#232c3b', DARK_Z, DARK_TYPES, 1),
};

/** How opaque one of `count` edges is: a few are seen each, many together. */
export function edgeAlpha(count: number): number {
  return Math.min(0.5, Math.max(0.05, 6 / Math.sqrt(count + 100)));
}

/** The radius of a token of middling size, in CSS pixels: smaller where there are many, larger from close. */
export function radiusOf(count: number, { width, height }: Viewport, closeness: number): number {
  const share = Math.sqrt((width * height) / (count + 20)) * 0.16;
  const base = Math.min(6.5, Math.max(1.9, share), Math.min(width, height) / 80);
  return Math.min(RADIUS_MOST, base * Math.max(0.6, Math.min(4, Math.sqrt(closeness))));
}

function rgb(hex: string): Rgb {
  const value = Number.parseInt(hex.slice(1), 16);
  return [(value >> 16) / 255, ((value >> 8) & 255) / 255, (value & 255) / 255];
}

function flat(hexes: string[]): Float32Array {
  return new Float32Array(hexes.flatMap((hex) => [...rgb(hex)]));
}
