// Tokens and edges for tests.
import type { Edge, Token } from '../src/wire';

export function tokenOf(id: string, fields: Partial<Token> = {}): Token {
  return {
    token_id: id,
    type: 'default',
    weight: 1,
    flags: 0,
    version: 1,
    metadata: {},
    coordinates: { x: [], y: [], z: [] },
    created_at: momentOf(id),
    updated_at: momentOf(id),
    ...fields,
  };
}

export function at(x: number, y: number, z = 0): Partial<Token> {
  return { coordinates: { x: [x], y: [y], z: [z] } };
}

export function edgeOf(id: string, source: string, target: string): Edge {
  return {
    connection_id: id,
    source_id: source,
    target_id: target,
    type: 'knows',
    weight: 1,
    bidirectional: false,
    metadata: {},
    created_at: momentOf(id),
  };
}

/** Ids ascend with the time, as the server's do. */
function momentOf(id: string): string {
  return `2026-01-01T00:00:${String(id.charCodeAt(0) % 60).padStart(2, '0')}.000000Z`;
}
