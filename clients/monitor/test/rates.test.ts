import { expect, test } from 'vitest';
import { RATE_SECONDS, Rate } from '../src/state/rates';

const T0 = 1_760_000_000_000;

test('Tries to break: each second has its own events, oldest first, the present one not yet.', () => {
  const rate = new Rate();
  for (const ms of [0, 10, 999, 1000, 3500]) rate.add(T0 + ms);
  expect(rate.series(T0 + 3999).slice(-3)).toEqual([3, 1, 0]);
  expect(rate.series(T0 + 4000).slice(-4)).toEqual([3, 1, 0, 1]);
});

test('Tries to break: without events the rate sinks to zero, and after a minute nothing is left.', () => {
  const rate = new Rate();
  for (let i = 0; i < 50; i++) rate.add(T0 + i * 100);
  expect(rate.perSecond(T0 + 5000)).toBe(10);
  expect(rate.perSecond(T0 + 12_000)).toBe(0);
  expect(rate.series(T0 + (RATE_SECONDS + 6) * 1000).every((count) => count === 0)).toBe(true);
});

test('Tries to break: a clock that jumps ahead for hours or back for seconds makes no count up.', () => {
  const rate = new Rate();
  rate.add(T0);
  rate.add(T0 - 5000);
  expect(rate.series(T0 + 1000).at(-1)).toBe(2);
  rate.add(T0 + 7_200_000);
  expect(rate.series(T0 + 7_201_000).reduce((sum, count) => sum + count)).toBe(1);
});
