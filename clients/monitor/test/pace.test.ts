import { expect, test } from 'vitest';
import { Pace } from '../src/picture/pace';

test('Tries to break: frames that are too long make the pieces smaller, down to a least.', () => {
  const pace = new Pace();
  const first = pace.budget;
  pace.frame(80, first, false, 0);
  expect(pace.budget).toBeLessThan(first);
  for (let i = 0; i < 50; i++) pace.frame(80, pace.budget, false, i);
  expect(pace.budget).toBeGreaterThan(500);
});

test('Tries to break: frames in which nothing was drawn say nothing about the pieces.', () => {
  const pace = new Pace();
  const first = pace.budget;
  for (let i = 0; i < 100; i++) pace.frame(16, 0, true, i);
  expect(pace.budget).toBe(first);
});

test('Tries to break: a small picture that goes well does not promise that a large one will.', () => {
  const pace = new Pace();
  for (let i = 0; i < 1000; i++) pace.frame(16, 300, true, i);
  expect(pace.budget).toBeLessThan(10_000);
});

test('Tries to break: fine lines come after calm, go at the first long frame, and do not come back at once.', () => {
  const pace = new Pace();
  for (let i = 0; i < 60; i++) pace.frame(16, 3000, true, 1000 + i);
  expect(pace.fine).toBe(true);
  pace.frame(60, 3000, true, 2000);
  expect(pace.fine).toBe(false);
  for (let i = 0; i < 60; i++) pace.frame(16, 3000, true, 2100 + i);
  expect(pace.fine).toBe(false);
});

test('Tries to break: the pause of a hidden tab is no frame.', () => {
  const pace = new Pace();
  pace.frame(60_000, 3000, true, 0);
  expect(pace.frames()).toEqual([]);
});
