import { expect, test } from 'vitest';
import { type Label, Labels } from '../src/picture/labels';

const VIEWPORT = { width: 400, height: 300 };

/** Where the names come to lie, of tokens at `spots`. */
function put(labels: Label[], spots: { x: number; y: number }[]): Record<string, { x: number; y: number }> {
  const host = document.createElement('div');
  new Labels(host).put(
    labels,
    (slot) => spots[slot] as { x: number; y: number },
    () => 4,
    VIEWPORT,
    spots.map((spot) => ({ ...spot, radius: 4 })),
  );
  const shown = [...host.querySelectorAll<HTMLElement>('.label')].filter((span) => !span.hidden);
  return Object.fromEntries(
    shown.map((span) => {
      const [x, y] = (span.style.transform.match(/-?\d+/g) ?? []).map(Number);
      return [span.textContent, { x: x as number, y: y as number }];
    }),
  );
}

test('Tries to break: a name goes to the side where no dot is, and none that nobody asked for lies on one.', () => {
  const spots = [
    { x: 200, y: 150 },
    { x: 220, y: 150 },
  ];
  const found = put([{ slot: 0, text: 'Ada', kind: 'hub' }], spots);
  expect(found.Ada?.x).toBeLessThan(200);
  const crowd = Array.from({ length: 400 }, (_, i) => ({ x: 150 + (i % 20) * 5, y: 100 + Math.floor(i / 20) * 5 }));
  expect(put([{ slot: 210, text: 'Ada', kind: 'hub' }], crowd)).toEqual({});
  expect(put([{ slot: 210, text: 'Ada', kind: 'selected' }], crowd)).toHaveProperty('Ada');
});

test('Tries to break: a name on the left ends at its dot, however wide it is, and lies on no dot, its rim neither.', () => {
  const spots = [
    { x: 200, y: 150 },
    { x: 220, y: 150 },
  ];
  const host = document.createElement('div');
  const labels: Label[] = [{ slot: 0, text: 'Ada', kind: 'hub' }];
  const at = (slot: number) => spots[slot] as { x: number; y: number };
  const dots = (radius: number) => spots.map((spot) => ({ ...spot, radius }));
  new Labels(host).put(labels, at, () => 4, VIEWPORT, dots(4));
  expect(host.querySelector<HTMLElement>('.label')?.style.transform).toBe('translate(192px, 142px) translateX(-100%)');
  // Their middles are beside the names, above and below too.
  const around = [
    { x: 225, y: 130, radius: 15 },
    { x: 175, y: 130, radius: 15 },
    { x: 200, y: 180, radius: 25 },
  ];
  const covered = document.createElement('div');
  new Labels(covered).put(labels, at, () => 4, VIEWPORT, around);
  expect(covered.querySelector('.label')).toBe(null);
});
