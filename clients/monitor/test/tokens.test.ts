import { expect, test } from 'vitest';
import { Edges } from '../src/state/edges';
import { Tokens } from '../src/state/tokens';
import { edgeOf, tokenOf } from './samples';

const token = (id: string, weight = 1) => tokenOf(id, { weight });
const edge = edgeOf('e', 'a', 'b');

test('Tries to break: an older page does not undo a newer event, nor does a repeat count.', () => {
  const tokens = new Tokens();
  expect(tokens.put(token('a', 2), 5)).toBe(true);
  expect(tokens.put(token('a', 1), 4)).toBe(false);
  expect(tokens.put(token('a', 3), 5)).toBe(false);
  expect(tokens.weights[tokens.slotOf('a')]).toBe(2);
  expect(tokens.count).toBe(1);
});

test('Tries to break: a deleted token does not come back with a late page.', () => {
  const tokens = new Tokens();
  tokens.remove('a', 5, true);
  expect(tokens.put(token('a'), 4)).toBe(false);
  expect(tokens.count).toBe(0);
});

test('Tries to break: after a gap, what no page had is gone and the rest stays.', () => {
  const tokens = new Tokens();
  tokens.put(token('a'), 5);
  tokens.put(token('b'), 6);
  tokens.doubt();
  tokens.put(token('b'), 9);
  tokens.settle();
  expect([tokens.slotOf('a'), tokens.count]).toEqual([-1, 1]);
});

test('Tries to break: two tokens without names, whose ids look the same when short, are told apart.', () => {
  const tokens = new Tokens();
  const [one, two] = ['00000000-0000-4000-8000-000000000001', '00000000-0000-4000-8000-000000000002'] as const;
  tokens.put(token(one), 1);
  expect(tokens.nameOf(one).length).toBeLessThan(10);
  tokens.put(token(two), 2);
  expect(tokens.nameOf(one)).not.toBe(tokens.nameOf(two));
  tokens.remove(two, 3, false);
  expect(tokens.nameOf(one).length).toBeLessThan(10);
});

test('Tries to break: above the limit the oldest token leaves.', () => {
  const tokens = new Tokens(2);
  for (const [at, id] of ['a', 'b', 'c'].entries()) tokens.put(token(id), at + 1);
  expect([tokens.slotOf('a'), tokens.count, tokens.evicted]).toEqual([-1, 2, 1]);
});

test('Tries to break: an edge is no line once the token at its end is gone.', () => {
  const tokens = new Tokens();
  const edges = new Edges(tokens);
  tokens.put(token('a'), 1);
  tokens.put(token('b'), 2);
  edges.put(edge, 3);
  expect(edges.ends[0]).not.toBe(edges.ends[1]);
  tokens.remove('b', 4, false);
  expect(edges.ends[0]).toBe(edges.ends[1]);
});

test('Tries to break: an edge that was removed does not come back with a late answer.', () => {
  const edges = new Edges(new Tokens());
  edges.put(edge, 3);
  edges.remove(edge, 5, true);
  expect(edges.put(edge, 4)).toBe(false);
  expect(edges.count).toBe(0);
});

test('Tries to break: an answer about one token that is late brings no removed edge back, and removals fill no memory.', () => {
  const edges = new Edges(new Tokens());
  edges.put(edge, 3);
  edges.remove(edge, 5, false);
  expect(edges.put(edge, 4)).toBe(false);
  for (let n = 0; n < 5000; n++) edges.remove(edgeOf(`e${n}`, 'a', 'b'), n, false);
  const remembered = Array.from({ length: 5000 }, (_, n) => edges.put(edgeOf(`e${n}`, 'a', 'b'), n)).filter(
    (put) => !put,
  );
  expect(remembered.length).toBeLessThanOrEqual(1000);
});
