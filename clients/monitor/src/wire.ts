// The shapes of protocol.md that the page reads.
import { LEVELS } from '@neurograph/client';

export type { Edge, EdgeKey, Neighbor, Token } from '@neurograph/client';
export { LEVELS };
export const LEVEL_COUNT = LEVELS.length;

/** An event of any topic. */
export interface Event {
  type: string;
  topic: string;
  timestamp: number;
  payload: object;
  seq?: number;
  epoch?: string;
  sender_id?: string;
}
