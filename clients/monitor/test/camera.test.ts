import { expect, test } from 'vitest';
import { type Camera, fit, outgrew, ticks, toScreen, toWorld, zoomAbout } from '../src/picture/camera';

const VIEWPORT = { width: 800, height: 600 };
const CAMERA: Camera = { x: 3, y: -2, scaleX: 120, scaleY: 80 };

test('Tries to break: fitted, every corner of the bounds is clear of the insets.', () => {
  const insets = { top: 66, bottom: 84, sides: 40 };
  for (const bounds of [
    { minX: -1, maxX: 1, minY: -1, maxY: 1 },
    { minX: 5, maxX: 9000, minY: 0, maxY: 0.01 },
    { minX: -3, maxX: -2.9, minY: 1e6, maxY: 2e6 },
  ]) {
    const camera = fit(bounds, VIEWPORT, insets);
    for (const x of [bounds.minX, bounds.maxX]) {
      for (const y of [bounds.minY, bounds.maxY]) {
        const at = toScreen(camera, VIEWPORT, x, y);
        expect(at.x).toBeGreaterThanOrEqual(39.9);
        expect(at.x).toBeLessThanOrEqual(760.1);
        expect(at.y).toBeGreaterThanOrEqual(65.9);
        expect(at.y).toBeLessThanOrEqual(516.1);
      }
    }
  }
});

test('Tries to break: a single point is fitted in the middle, at a scale that is a number.', () => {
  const camera = fit({ minX: 7, maxX: 7, minY: 7, maxY: 7 }, VIEWPORT);
  expect([camera.x, camera.y]).toEqual([7, 7]);
  expect(Number.isFinite(camera.scaleX) && camera.scaleX > 0).toBe(true);
});

test('Tries to break: both axes have one scale, unless that would make a line of the picture.', () => {
  const square = fit({ minX: 0, maxX: 2, minY: 0, maxY: 1 }, VIEWPORT);
  expect(square.scaleX).toBe(square.scaleY);
  const flat = fit({ minX: 0, maxX: 1000, minY: 0, maxY: 1 }, VIEWPORT);
  expect(flat.scaleY).toBeGreaterThan(flat.scaleX);
});

test('Tries to break: what lies under the pointer stays there when it is zoomed.', () => {
  const before = toWorld(CAMERA, VIEWPORT, 613, 77);
  let camera = CAMERA;
  for (const factor of [1.7, 0.3, 5, 0.91]) camera = zoomAbout(camera, VIEWPORT, 613, 77, factor);
  const after = toScreen(camera, VIEWPORT, before.x, before.y);
  expect(after.x).toBeCloseTo(613, 6);
  expect(after.y).toBeCloseTo(77, 6);
});

test('Tries to break: from screen to world and back is the same point.', () => {
  const { x, y } = toWorld(CAMERA, VIEWPORT, 12, 590);
  const back = toScreen(CAMERA, VIEWPORT, x, y);
  expect([back.x, back.y].map((value) => Math.round(value * 1e6) / 1e6)).toEqual([12, 590]);
});

test('Tries to break: zoomed without end, the scale stays a number and the ticks stay few.', () => {
  for (const factor of [1e6, 1e-6]) {
    let camera = CAMERA;
    for (let i = 0; i < 10; i++) camera = zoomAbout(camera, VIEWPORT, 400, 300, factor);
    expect(Number.isFinite(camera.scaleX) && camera.scaleX > 0).toBe(true);
    expect(ticks(camera.x, camera.scaleX, 800).length).toBeLessThanOrEqual(40);
  }
});

test('Tries to break: ticks are round numbers, apart from each other, all on screen.', () => {
  expect(ticks(0, 300, 800)).toEqual([-1, -0.5, 0, 0.5, 1]);
});

test('Tries to break: bounds that grow a little are no reason to fit again; that they come or double is.', () => {
  const bounds = { minX: 0, maxX: 10, minY: 0, maxY: 10 };
  expect(outgrew(bounds, { ...bounds, maxX: 10.5 })).toBe(false);
  expect(outgrew(bounds, { ...bounds, maxX: 20 })).toBe(true);
  expect(outgrew(null, bounds)).toBe(true);
  expect(outgrew(null, null)).toBe(false);
});

test('Tries to break: no factor, not even 0 or none at all, leaves a camera that is no number.', () => {
  for (const factor of [0, Number.NaN, Number.POSITIVE_INFINITY, -1]) {
    const camera = zoomAbout(CAMERA, VIEWPORT, 100, 100, factor);
    expect(Object.values(camera).every(Number.isFinite)).toBe(true);
    expect(camera.scaleX).toBeGreaterThan(0);
  }
});
