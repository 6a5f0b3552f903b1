import { expect, test } from 'vitest';
import { STREAM_LENGTH, Stream } from '../src/state/stream';
import { shortId } from '../src/state/tokens';
import type { Event } from '../src/wire';

const ALL = { text: '', hidden: new Set<string>() };

function event(seq: number, fields: Partial<Event> = {}): Event {
  return { topic: 'tokens', type: 'token.deleted', timestamp: seq, seq, payload: { token_id: `id-${seq}` }, ...fields };
}

test('Tries to break: of more than it keeps, the last ones are there, newest first, each once.', () => {
  const stream = new Stream();
  for (let seq = 1; seq <= STREAM_LENGTH + 7; seq++) stream.add(event(seq));
  const seqs = stream.entries(ALL).map((entry) => entry.seq);
  expect(seqs.length).toBe(STREAM_LENGTH);
  expect(seqs.slice(0, 2)).toEqual([STREAM_LENGTH + 7, STREAM_LENGTH + 6]);
  expect(seqs.at(-1)).toBe(8);
});

test('Tries to break: what is held stays as it was, whatever comes, and however much.', () => {
  const stream = new Stream();
  stream.add(event(1));
  const held = stream.all();
  for (let seq = 2; seq < STREAM_LENGTH * 3; seq++) stream.add(event(seq));
  expect(stream.entries(ALL, held).map((entry) => entry.seq)).toEqual([1]);
});

test('Tries to break: a payload that can not be made a text ends nothing.', () => {
  const stream = new Stream();
  const odd = JSON.parse('{"toString": 1, "valueOf": 1}');
  for (const type of ['system.status', 'token.created', 'experience.recorded', 'odd']) {
    stream.add({ topic: 'x', type, timestamp: 0, payload: { connections: odd, version: odd, weight: odd, type: odd } });
  }
  expect(stream.entries(ALL).length).toBe(4);
});

test('Tries to break: the filter finds type, sender, id and name in any case, and hides whole topics.', () => {
  const stream = new Stream();
  stream.add(
    event(1, { type: 'token.created', payload: { token_id: 'AB-1', type: 'idea', metadata: { name: 'Ada' } } }),
  );
  stream.add(event(2, { topic: 'graph', type: 'graph.connected', payload: { source_id: 's9', target_id: 't9' } }));
  stream.add(event(3, { topic: 'news', type: 'flash', sender_id: 'Robot_7', payload: {} }));
  const found = (text: string, hidden: string[] = []) =>
    stream.entries({ text, hidden: new Set(hidden) }).map((entry) => entry.seq);
  expect(found('ada')).toEqual([1]);
  expect(found('IDEA')).toEqual([1]);
  expect(found('t9')).toEqual([2]);
  expect(found('robot')).toEqual([3]);
  expect(found('', ['graph', 'news'])).toEqual([1]);
  expect(found('nowhere')).toEqual([]);
});

test('Tries to break: payloads of other programs, whatever they are, become a line.', () => {
  const stream = new Stream();
  for (const payload of [{}, { token_id: 5, metadata: null }, { deep: { x: ['y'.repeat(10_000)] } }]) {
    stream.add({ topic: 'x', type: 'token.created', timestamp: 0, payload });
    stream.add({ topic: 'x', type: 'odd', timestamp: 0, payload });
  }
  expect(stream.entries(ALL).every((entry) => entry.brief.length <= 200)).toBe(true);
});

test('Tries to break: ids that one server made in one millisecond are told apart.', () => {
  const ids = ['01a2118e-ef57-74fe-bd1a-c392dc5c03f6', '01a2118e-ef57-74fe-bd1a-c393dc5c03f6'];
  expect(new Set(ids.map(shortId)).size).toBe(2);
});

test('Tries to break: a weight of any size is told as it is, and a name that turns text around turns none.', () => {
  const stream = new Stream();
  const payload = {
    token_id: 'a',
    type: '\u202eevil',
    weight: 1e308,
    version: 1,
    metadata: { name: 'a\u2067b\ud800' },
  };
  stream.add(event(1, { type: 'token.created', payload }));
  const [entry] = stream.entries(ALL);
  expect(entry?.brief).toBe('\ufffdevil · 1e+308 · v1');
  expect(entry?.name).toBe('a\ufffdb\ufffd');
});
