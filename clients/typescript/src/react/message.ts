/** Handlers of messages that come and go with a component. */

import { useEffect } from 'react';
import type { MessageEnvelope, NeuroGraphWebSocket } from '../index.js';
import { useLatest } from './latest.js';

/**
 * Call `handler` with each message of `type` (`'*'`: with each message) that comes while the component is mounted.
 *
 * There is one registration, however often the component renders; the handler that is called is that of the last
 * render, so it sees the props and the state of then, and need not be memoized.
 *
 * @param ws The client; null: nothing is listened to.
 */
export function useWebSocketMessage<Type extends string>(
  ws: NeuroGraphWebSocket | null | undefined,
  type: Type,
  handler: (message: MessageEnvelope<Type>) => void,
): void {
  const latest = useLatest(handler);
  useEffect(() => ws?.on(type, (message) => latest.current(message)), [ws, type, latest]);
}
