// The shapes of protocol.md that the page reads.
import type { Edge, EdgeKey, EventEnvelope, Neighbor, Token } from './standin';

export type { Edge, EdgeKey, EventEnvelope, Neighbor, Token };

export const LEVELS = ['physical', 'sensory', 'motor', 'emotional', 'cognitive', 'social', 'temporal', 'abstract'] as const;
export const LEVEL_COUNT = LEVELS.length;
