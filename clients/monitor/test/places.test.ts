import { expect, test } from 'vitest';
import { fit, toScreen } from '../src/picture/camera';
import { FLASH_S, MOVE_S, Places } from '../src/picture/places';
import { Tokens } from '../src/state/tokens';
import { at, tokenOf } from './samples';

function placesOf(...points: [number, number, number?][]): { tokens: Tokens; places: Places } {
  const tokens = new Tokens();
  points.forEach(([x, y, z], index) => {
    tokens.put(tokenOf(`t${index}`, at(x, y, z)), index + 1);
  });
  const places = new Places(tokens, () => 0);
  places.layOut(0, false);
  return { tokens, places };
}

test('Tries to break: of two tokens within reach the nearer one is picked; out of reach none is.', () => {
  const { places } = placesOf([0, 0], [1, 0], [5, 5]);
  expect(places.nearest(0.7, 0, 1, 1)).toBe(1);
  expect(places.nearest(0.3, 0, 1, 1)).toBe(0);
  expect(places.nearest(3, 3, 1, 1)).toBe(-1);
});

test('Tries to break: a token that is gone is not picked, nor does its slot answer for a place.', () => {
  const { tokens, places } = placesOf([0, 0], [1, 0]);
  tokens.remove('t0', 9, false);
  places.remove(0);
  expect(places.nearest(0, 0, 0.5, 0.5)).toBe(-1);
  expect(places.isThere(0)).toBe(false);
});

test('Tries to break: tokens that all lie on one point are laid out apart, and the layout says so.', () => {
  const { places } = placesOf([0, 0], [0, 0], [0, 0]);
  expect(places.coincidence).toEqual({ all: true, atOrigin: 3 });
  const spots = [0, 1, 2].map((slot) => places.positionAt(slot, 10));
  expect(new Set(spots.map(({ x, y }) => `${x} ${y}`)).size).toBe(3);
});

test('Tries to break: once one of them moves away, all are where they say they are.', () => {
  const { tokens, places } = placesOf([0, 0], [0, 0]);
  tokens.put(tokenOf('t1', at(2, 0)), 9);
  expect(places.outgrown()).toBe(true);
  places.layOut(20, false);
  expect(places.positionAt(0, 20)).toEqual({ x: 0, y: 0 });
  expect(places.positionAt(1, 20)).toEqual({ x: 2, y: 0 });
});

test('Tries to break: moved twice before it has arrived, a token goes on from where it is seen.', () => {
  const { tokens, places } = placesOf([0, 0], [1, 1]);
  tokens.put(tokenOf('t0', at(10, 0)), 9);
  places.touch(0, 'changed', 100, false, true);
  const seen = places.positionAt(0, 100 + MOVE_S / 2);
  expect(seen.x).toBeGreaterThan(0);
  expect(seen.x).toBeLessThan(10);
  tokens.put(tokenOf('t0', at(0, 10)), 10);
  places.touch(0, 'changed', 100 + MOVE_S / 2, false, true);
  expect(places.positionAt(0, 100 + MOVE_S / 2).x).toBeCloseTo(seen.x, 4);
  expect(places.positionAt(0, 200)).toEqual({ x: 0, y: 10 });
});

test('Tries to break: a token stays hot until it is calm and on a sheet that was drawn after it had settled.', () => {
  const { tokens, places } = placesOf([0, 0], [1, 1]);
  tokens.put(tokenOf('t0', at(10, 0)), 9);
  places.touch(0, 'changed', 100, false, true);
  const late = 100 + FLASH_S + 1;
  expect([...places.hotAt(late, 100)]).toEqual([0]);
  expect([...places.hotAt(late, 100 + MOVE_S)]).toEqual([]);
});

test('Tries to break: what is no news neither flashes nor is hot.', () => {
  const { places } = placesOf([0, 0], [1, 1]);
  places.touch(0, 'added', 100, true, false);
  expect([...places.hotAt(100, 0)]).toEqual([]);
});

test('Tries to break: next and previous go through all tokens from left to right, and round.', () => {
  const { places } = placesOf([2, 0], [0, 0], [1, 0]);
  expect([places.beside(-1, 1), places.beside(1, 1), places.beside(2, 1), places.beside(0, 1)]).toEqual([1, 2, 0, 1]);
  expect(places.beside(1, -1)).toBe(0);
});

test('Tries to break: z runs from the lowest shade to the highest, whatever its numbers are.', () => {
  const { places } = placesOf([0, 0, -500], [1, 0, 0], [2, 0, 500]);
  expect([0, 1, 2].map((slot) => places.records[slot * 8 + 4])).toEqual([0, 0.5, 1]);
});

test('Tries to break: one token far from all others, however far, neither shrinks the rest nor is forgotten.', () => {
  const near = Array.from({ length: 40 }, (_, i): [number, number] => [Math.cos(i), Math.sin(i)]);
  for (const far of [1000, -1e30, 1e308]) {
    const { places } = placesOf(...near, [far, 0]);
    expect(places.outliers).toBe(1);
    expect(places.bounds?.maxX).toBeLessThanOrEqual(1);
    expect(places.bounds?.minX).toBeGreaterThanOrEqual(-1);
    const { minX, maxX } = places.wholeBounds ?? { minX: 0, maxX: 0 };
    expect(Math.max(maxX, -minX)).toBeGreaterThan(999);
    expect([...places.records.subarray(0, 41 * 8)].every(Number.isFinite)).toBe(true);
    const camera = fit(places.wholeBounds ?? { minX: 0, maxX: 0, minY: 0, maxY: 0 }, { width: 800, height: 600 });
    const at = toScreen(camera, { width: 800, height: 600 }, places.positionAt(40, 0).x, 0);
    expect(at.x).toBeGreaterThanOrEqual(-1);
    expect(at.x).toBeLessThanOrEqual(801);
  }
});

test('Tries to break: what is far apart but not rare is no outlier, and of a handful of tokens none is.', () => {
  const clusters = Array.from({ length: 40 }, (_, i): [number, number] => [i % 4 === 0 ? 1000 + i : i, i]);
  expect(placesOf(...clusters).places.outliers).toBe(0);
  expect(placesOf([0, 0], [1, 1], [1e9, 0]).places.outliers).toBe(0);
  const line = Array.from({ length: 40 }, (_, i): [number, number] => [i === 7 ? 5 : 0, i]);
  expect(placesOf(...line).places.outliers).toBe(0);
});

test('Tries to break: a weight of any size leaves every radius a number.', () => {
  const tokens = new Tokens();
  for (const [n, weight] of [1, 1e308, -1e308, 0].entries()) tokens.put(tokenOf(`t${n}`, { weight }), n + 1);
  const places = new Places(tokens, () => 0);
  places.layOut(0, false);
  expect([0, 1, 2, 3].every((slot) => places.isThere(slot))).toBe(true);
  expect(tokens.weights[1]).toBe(1e308);
});

test('Tries to break: one z and one weight far above all others leave the others their shades and sizes.', () => {
  const tokens = new Tokens();
  for (let n = 0; n < 40; n++) {
    const far = n === 39;
    tokens.put(tokenOf(`t${n}`, { ...at(n, 0, far ? 1e300 : n), weight: far ? 1e300 : n / 40 }), n + 1);
  }
  const places = new Places(tokens, () => 0);
  places.layOut(0, false);
  expect(places.zRange).toEqual([0, 38]);
  for (const part of [4, 5])
    expect(new Set(tokens.faces.map((_, slot) => places.records[slot * 8 + part])).size).toBe(39);
});
