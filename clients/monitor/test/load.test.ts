import { CommandError, NotFound, RequestTimeout } from '@neurograph/client';
import { expect, test } from 'vitest';
import { Edges } from '../src/state/edges';
import { Load, type Wire } from '../src/state/load';
import { Tokens } from '../src/state/tokens';
import type { Edge, Event, Neighbor, Token } from '../src/wire';
import { edgeOf, tokenOf } from './samples';

type Page = { tokens: Token[]; next: string | null; seq: number };

/** A server's answers, by hand: pages in order, what the graph's log holds, and edges per token. */
class FakeWire {
  pages: (Page | Error)[] = [{ tokens: [], next: null, seq: 0 }];
  replay: number | null = 0;
  neighbors: Record<string, { edges: Edge[]; seq: number } | Error> = {};
  /** Topics that may not be followed. */
  closed: string[] = [];
  beforePage: () => void = () => {};
  asked: string[] = [];

  wire(): Wire {
    return {
      subscribe: async (topic: string) => {
        this.asked.push(`subscribe ${topic}`);
        if (this.closed.includes(topic)) throw forbidden();
        const recovered = topic === 'graph' && this.replay !== null;
        return { topic, success: true, durable: true, epoch: 'e', seq: 0, recovered, replay: this.replay ?? 0 };
      },
      listTokens: async () => {
        this.asked.push('list');
        this.beforePage();
        const page = this.pages.shift();
        if (page instanceof Error) throw page;
        const { tokens, next, seq } = page as Page;
        return { tokens, count: 0, offset: 0, total: null, next, position: { topic: 'tokens', epoch: 'e', seq } };
      },
      getNeighbors: async (id: string) => {
        this.asked.push(`neighbors ${id}`);
        const found = this.neighbors[id] ?? { edges: [], seq: 0 };
        if (found instanceof Error) throw found;
        const neighbors = found.edges.map((edge): Neighbor => ({ ...edge, neighbor_id: edge.target_id }));
        return { token_id: id, neighbors, count: 0, position: { topic: 'graph', epoch: 'e', seq: found.seq } };
      },
    } as Wire;
  }
}

function made(limit?: number) {
  const fake = new FakeWire();
  const tokens = new Tokens(limit);
  const edges = new Edges(tokens);
  const load = new Load(
    fake.wire(),
    tokens,
    edges,
    () => {},
    async () => {},
  );
  return { fake, tokens, edges, load };
}

function event(type: string, seq: number, payload: object): Event {
  return { type, topic: type.startsWith('graph') ? 'graph' : 'tokens', seq, timestamp: 0, payload };
}

test('Tries to break: events between the pages are neither lost nor undone by a page that is older.', async () => {
  const { fake, tokens, load } = made();
  fake.pages = [
    { tokens: [tokenOf('c'), tokenOf('b', { weight: 1 })], next: 'more', seq: 10 },
    { tokens: [tokenOf('a')], next: null, seq: 11 },
  ];
  let page = 0;
  fake.beforePage = () => {
    if (page++ !== 1) return;
    load.apply(event('token.updated', 11, tokenOf('b', { weight: 5 })));
    load.apply(event('token.created', 12, tokenOf('d')));
    load.apply(event('token.deleted', 13, { token_id: 'a' }));
  };
  await load.begin();
  expect(tokens.count).toBe(3);
  expect(tokens.weights[tokens.slotOf('b')]).toBe(5);
  expect(tokens.slotOf('a')).toBe(-1);
});

test('Tries to break: an event that a page has already is not applied over what came later.', async () => {
  const { fake, tokens, load } = made();
  fake.pages = [{ tokens: [tokenOf('a', { weight: 9 })], next: null, seq: 20 }];
  await load.begin();
  load.apply(event('token.updated', 19, tokenOf('a', { weight: 1 })));
  load.apply(event('token.deleted', 18, { token_id: 'a' }));
  expect(tokens.weights[tokens.slotOf('a')]).toBe(9);
});

test('Tries to break: the edges are there when the replay is through, not before, and no token is asked.', async () => {
  const { fake, edges, load } = made();
  fake.replay = 3;
  await load.begin();
  expect(load.loading.edges).toBe('replaying');
  load.apply(event('graph.connected', 1, edgeOf('e1', 'a', 'b')));
  load.apply(event('graph.connected', 2, edgeOf('e2', 'b', 'c')));
  load.apply(event('graph.disconnected', 3, edgeOf('e1', 'a', 'b')));
  expect(load.loading.edges).toBe('done');
  expect(edges.count).toBe(1);
  expect(fake.asked.some((line) => line.startsWith('neighbors'))).toBe(false);
});

test('Tries to break: where the log no longer begins at the beginning, each token is asked for its edges.', async () => {
  const { fake, edges, load } = made();
  fake.replay = null;
  fake.pages = [{ tokens: [tokenOf('a'), tokenOf('b')], next: null, seq: 1 }];
  const both = edgeOf('e1', 'a', 'b');
  fake.neighbors = { a: { edges: [both], seq: 5 }, b: { edges: [both, edgeOf('e2', 'b', 'a')], seq: 6 } };
  await load.begin();
  expect(edges.count).toBe(2);
  expect(load.loading.edges).toBe('done');
});

test('Tries to break: an edge that is removed while tokens are asked does not come back with an old answer.', async () => {
  const { fake, edges, load } = made();
  fake.replay = null;
  fake.pages = [{ tokens: [tokenOf('a')], next: null, seq: 1 }];
  fake.neighbors = { a: { edges: [edgeOf('e1', 'a', 'b')], seq: 5 } };
  fake.beforePage = () => load.apply(event('graph.disconnected', 6, edgeOf('e1', 'a', 'b')));
  await load.begin();
  expect(edges.count).toBe(0);
});

test('Tries to break: after a gap what is gone goes, what stayed is kept in place, and edges are asked anew.', async () => {
  const { fake, tokens, edges, load } = made();
  fake.pages = [{ tokens: [tokenOf('a'), tokenOf('b')], next: null, seq: 5 }];
  await load.begin();
  load.apply(event('graph.connected', 1, edgeOf('e1', 'a', 'b')));
  const slot = tokens.slotOf('b');
  // Another epoch: its numbers begin anew.
  fake.pages = [{ tokens: [tokenOf('b', { weight: 3 })], next: null, seq: 1 }];
  fake.neighbors = { b: { edges: [], seq: 1 } };
  await load.anew('tokens');
  await load.anew('graph');
  expect([tokens.slotOf('a'), tokens.slotOf('b'), edges.count]).toEqual([-1, slot, 0]);
  expect(tokens.weights[slot]).toBe(3);
});

test('Tries to break: a database that is away, and an answer that is late, are asked again.', async () => {
  const { fake, tokens, load } = made();
  const away = { payload: { code: 'unavailable', message: 'away', retryable: true, details: {} } };
  fake.pages = [
    new CommandError(away as unknown as ConstructorParameters<typeof CommandError>[0]),
    new RequestTimeout('token.list', 30_000),
    { tokens: [tokenOf('a')], next: null, seq: 1 },
  ];
  await load.begin();
  expect(tokens.count).toBe(1);
});

test('Tries to break: a refusal is told once and not asked again.', async () => {
  const { fake, load } = made();
  fake.pages = [new Error('no')];
  await expect(load.begin()).rejects.toThrow('no');
  expect([load.loading.tokens, load.failed]).toEqual(['failed', true]);
});

test('Tries to break: a token that is deleted while it is asked for edges ends nothing.', async () => {
  const { fake, load } = made();
  fake.replay = null;
  fake.pages = [{ tokens: [tokenOf('a'), tokenOf('b')], next: null, seq: 1 }];
  fake.neighbors = { a: new NotFound('a') };
  await load.begin();
  expect(load.loading.edges).toBe('done');
});

test('Tries to break: above the cap no page is asked for, and the page says that there is more.', async () => {
  const { fake, tokens, load } = made(2);
  fake.pages = [{ tokens: [tokenOf('c'), tokenOf('b')], next: 'more', seq: 1 }];
  await load.begin();
  expect([tokens.count, load.loading.capped]).toEqual([2, true]);
  load.apply(event('token.created', 2, tokenOf('d')));
  expect([tokens.slotOf('b'), tokens.count, tokens.evicted]).toEqual([-1, 2, 1]);
});

test('Tries to break: begun again after it failed, the edges are there when all of the replay is through, not before.', async () => {
  const { fake, edges, load } = made();
  fake.replay = 1;
  fake.pages = [{ tokens: ['a', 'b', 'c'].map((id) => tokenOf(id)), next: null, seq: 3 }];
  await load.begin();
  load.apply(event('graph.connected', 1, edgeOf('e1', 'a', 'b')));
  fake.neighbors = { a: new Error('no') };
  await expect(load.anew('graph')).rejects.toThrow('no');
  expect(load.failed).toBe(true);
  fake.replay = 2;
  fake.pages = [{ tokens: [tokenOf('a'), tokenOf('b')], next: null, seq: 3 }];
  await load.begin();
  expect([load.loading.edges, edges.count]).toEqual(['replaying', 1]);
  load.apply(event('graph.connected', 1, edgeOf('e1', 'a', 'b')));
  expect(load.loading.edges).toBe('replaying');
  load.apply(event('graph.connected', 2, edgeOf('e2', 'b', 'a')));
  expect([load.loading.edges, edges.count]).toEqual(['done', 2]);
});

function forbidden(): CommandError {
  const payload = { code: 'forbidden', message: 'the token does not allow it', retryable: false, details: {} };
  return new CommandError({ payload } as unknown as ConstructorParameters<typeof CommandError>[0]);
}

test('Tries to break: topics that may not be followed are read once, and the load waits for nothing.', async () => {
  const { fake, tokens, edges, load } = made();
  fake.closed = ['tokens', 'graph'];
  fake.pages = [{ tokens: [tokenOf('a'), tokenOf('b')], next: null, seq: 5 }];
  fake.neighbors = { a: { edges: [edgeOf('e', 'a', 'b')], seq: 5 } };
  await load.begin();
  expect([tokens.count, edges.count]).toEqual([2, 1]);
  expect(load.loading).toMatchObject({ tokens: 'done', edges: 'done', denied: ['tokens', 'graph'] });
});

test('Tries to break: who may follow and not read is shown what changes, and nothing that it has to wait for.', async () => {
  const { fake, tokens, load } = made();
  fake.pages = [forbidden()];
  await load.begin();
  expect(load.loading).toMatchObject({ tokens: 'done', edges: 'done', denied: ['read'] });
  load.apply(event('token.created', 1, tokenOf('a')));
  expect(tokens.count).toBe(1);
});

test('Tries to break: what one token did not allow, and the next one does, is brought, without what is gone.', async () => {
  const { fake, tokens, load } = made();
  fake.closed = ['tokens'];
  fake.pages = [{ tokens: [tokenOf('a')], next: null, seq: 5 }];
  await load.begin();
  fake.closed = [];
  fake.pages = [{ tokens: [tokenOf('b')], next: null, seq: 7 }];
  await load.begin();
  expect(tokens.faces.flatMap((face) => (face ? [face.id] : []))).toEqual(['b']);
  expect(load.loading).toMatchObject({ tokens: 'done', edges: 'done', denied: [] });
});
