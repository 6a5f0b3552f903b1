/** Handlers of messages that come and go with a component. */

import { useEffect } from 'react';
import type { NeuroGraphWebSocket } from '../index.js';
import { useLatest } from './latest.js';

/** The arguments of `on`, told apart from its overloads by the type that is listened for. */
type HandlerOf<Type extends string> = Parameters<typeof NeuroGraphWebSocket.prototype.on<Type>>[1];

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
  handler: HandlerOf<Type>,
): void {
  const latest = useLatest(handler);
  useEffect(() => {
    // A function of its own per registration: two components may give the very same handler.
    return ws?.on(type, (message: Parameters<HandlerOf<Type>>[0]) => latest.current(message));
  }, [ws, type, latest]);
}
