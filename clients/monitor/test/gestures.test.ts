import { afterEach, beforeEach, expect, test } from 'vitest';
import { listen, type Meaning } from '../src/picture/gestures';

let element: HTMLElement;
let said: [string, ...number[]][];
let end: () => void;

beforeEach(() => {
  element = document.createElement('div');
  element.setPointerCapture = () => {};
  said = [];
  const say =
    (name: string) =>
    (...numbers: number[]) =>
      void said.push([name, ...numbers]);
  const names = ['pan', 'zoom', 'tap', 'hover', 'leave', 'fit', 'step', 'escape'];
  const meaning = Object.fromEntries(names.map((name) => [name, say(name)]));
  end = listen(element, { ...meaning, size: () => ({ width: 100, height: 100 }) } as unknown as Meaning);
});

afterEach(() => end());

function point(type: string, pointerId: number, x: number, y: number): void {
  element.dispatchEvent(new PointerEvent(type, { pointerId, clientX: x, clientY: y, pointerType: 'touch' }));
}

test('Tries to break: two fingers that meet at one point, and part again, never zoom by 0 or by no number.', () => {
  point('pointerdown', 1, 10, 10);
  point('pointerdown', 2, 30, 10);
  for (const x of [10, 10, 40]) point('pointermove', 2, x, 10);
  const factors = said.filter(([name]) => name === 'zoom').map(([, , , factor]) => factor as number);
  expect(factors.every((factor) => Number.isFinite(factor) && factor > 0)).toBe(true);
});
