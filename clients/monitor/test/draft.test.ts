import { expect, test } from 'vitest';
import { changesOf, draftOf, emptyDraft, faultsOf, read, rebased, type TokenFields } from '../src/forms/draft';
import { at, tokenOf } from './samples';

test('Tries to break: an empty draft can be sent as it is.', () => {
  expect(read(emptyDraft()).faults).toBeNull();
});

test('Tries to break: an empty type and one of 51 characters are refused.', () => {
  for (const type of ['', 'x'.repeat(51)]) expect(read({ ...emptyDraft(), type }).faults).toHaveProperty('type');
});

test('Tries to break: flags that are no unsigned 32-bit number are refused.', () => {
  for (const flags of ['-1', '0.5', '4294967296']) {
    expect(read({ ...emptyDraft(), flags }).faults).toHaveProperty('flags');
  }
});

test('Tries to break: metadata that is a list or no JSON is refused.', () => {
  for (const metadata of ['[1]', '{']) expect(read({ ...emptyDraft(), metadata }).faults).toHaveProperty('metadata');
});

test('Tries to break: a box that is empty or holds words is no coordinate.', () => {
  for (const wrong of ['', ' ', 'one', 'NaN', 'Infinity']) {
    const draft = emptyDraft();
    expect(read({ ...draft, z: draft.z.with(7, wrong) }).faults).toHaveProperty('coordinates');
  }
});

test('Tries to break: a comma that may stand for thousands is refused, in clear words; a decimal one is taken.', () => {
  for (const text of ['1,000', '-12,345', '1,000,000']) {
    expect(read({ ...emptyDraft(), weight: text }).faults?.weight).toContain('without a comma');
    expect(read({ ...emptyDraft(), x: emptyDraft().x.with(0, text) }).faults?.coordinates).toContain('without a comma');
  }
  for (const text of ['1.000,5', '1,000.5', '0x10', '1e999', '1,']) {
    const { fields } = read({ ...emptyDraft(), weight: text });
    expect([text, fields?.weight]).toEqual([text, text === '1,' ? 1 : undefined]);
  }
  expect(read({ ...emptyDraft(), weight: '0,125' }).fields?.weight).toBe(0.125);
});

test('Tries to break: half a character, which no server can take, is refused; a backslash before a u is none.', () => {
  for (const metadata of ['{"name": "\\ud800"}', '{"\\udc00": 1}']) {
    expect(read({ ...emptyDraft(), metadata }).faults).toHaveProperty('metadata');
  }
  expect(read({ ...emptyDraft(), type: 'a\ud800' }).faults).toHaveProperty('type');
  expect(read({ ...emptyDraft(), metadata: '{"path": "\\\\ud800", "face": "\\ud83d\\ude00"}' }).faults).toBeNull();
});

test('Tries to break: a token that was not touched changes nothing, though its arrays were shorter.', () => {
  const token = tokenOf('a', { metadata: { name: 'Ada' } });
  token.coordinates = { x: Array(8).fill(0.5), y: Array(8).fill(-1e-7), z: Array(8).fill(1e21) };
  const { fields } = read(draftOf(token));
  expect(changesOf(fields as TokenFields, token)).toEqual({});
});

test('Tries to break: at a conflict what was typed stays, box by box, and the rest is what others made of it.', () => {
  const base = tokenOf('a', at(1, 2, 3));
  const newer = tokenOf('a', { ...at(5, 6, 7), version: 2, type: 'theirs', flags: 4, metadata: { name: 'Ada' } });
  const typed = { ...draftOf(base), type: 'mine', weight: 'half a num', y: draftOf(base).y.with(0, '9') };
  const expected = { ...draftOf(newer), type: 'mine', weight: 'half a num', y: draftOf(newer).y.with(0, '9') };
  expect(rebased(typed, base, newer)).toEqual(expected);
});

test('Tries to break: only what differs is sent.', () => {
  const token = tokenOf('a');
  token.coordinates = { x: Array(8).fill(0), y: Array(8).fill(0), z: Array(8).fill(0) };
  const { fields } = read({ ...draftOf(token), weight: '0,5' });
  expect(changesOf(fields as TokenFields, token)).toEqual({ weight: 0.5 });
});

test("Tries to break: the server's faults are at the fields that their paths lead to, and none is lost.", () => {
  expect(
    faultsOf([
      { path: 'payload.weight', message: 'must be a number' },
      { path: 'payload.coord_y[3]', message: 'must be a number' },
      { path: 'payload.metadata.a.b', message: 'too deep' },
      { path: 'payload.surprise', message: 'unknown' },
      { path: 'id', message: 'too long' },
    ]),
  ).toEqual({
    weight: 'must be a number',
    coordinates: 'must be a number',
    metadata: 'too deep',
    form: 'payload.surprise: unknown; id: too long',
  });
});
