/** Topics that are followed while components that want them are mounted. */

import { useCallback, useEffect, useState, useSyncExternalStore } from 'react';
import type { Gap, NeuroGraphWebSocket } from '../index.js';

/** What a component knows of a topic that it follows. */
export interface Subscription {
  /** Whether the server has confirmed it, on the connection that there is now. */
  readonly subscribed: boolean;
  /**
   * The last hole in the events since this component has followed the topic: fetch the state anew. Each hole is an
   * object of its own, so an effect that depends on it runs once per hole.
   */
  readonly gap: Gap | null;
}

/** A topic of one client, held once for all components that follow it. */
class Followed {
  readonly listeners = new Set<() => void>();
  subscribed = false;
  private readonly ends: (() => void)[];

  constructor(ws: NeuroGraphWebSocket, topic: string) {
    this.ends = [
      ws.on('subscribed', ({ payload }) => payload.topic === topic && this.tell(true)),
      ws.on('unsubscribed', ({ payload }) => payload.topic === topic && this.tell(false)),
      ws.onEvent('state', (state) => state !== 'connected' && this.tell(false)),
      ws.hold(topic),
    ];
  }

  end(): void {
    for (const end of this.ends.reverse()) end();
  }

  private tell(subscribed: boolean): void {
    if (subscribed === this.subscribed) return;
    this.subscribed = subscribed;
    for (const listener of [...this.listeners]) listener();
  }
}

const followedOf = new WeakMap<NeuroGraphWebSocket, Map<string, Followed>>();

/** Follow until the function that is returned is called; `changed` is called when `isSubscribed` may differ. */
function follow(ws: NeuroGraphWebSocket, topic: string, changed: () => void): () => void {
  const topics = followedOf.get(ws) ?? new Map<string, Followed>();
  followedOf.set(ws, topics);
  const followed = topics.get(topic) ?? new Followed(ws, topic);
  topics.set(topic, followed);
  // A function of its own: React may give the same one twice.
  const listener = () => changed();
  followed.listeners.add(listener);
  return () => {
    followed.listeners.delete(listener);
    // Not before the commit is over: StrictMode, or a component that takes the place of another one, follows again at
    // once, and nothing that comes in between may be missed.
    queueMicrotask(() => {
      if (followed.listeners.size > 0 || topics.get(topic) !== followed) return;
      topics.delete(topic);
      followed.end();
    });
  };
}

function isSubscribed(ws: NeuroGraphWebSocket | null, topic: string): boolean {
  return (ws && followedOf.get(ws)?.get(topic)?.subscribed) ?? false;
}

/**
 * Follow `topic` while the component is mounted and `enabled` is true: over all connections, resumed after breaks.
 *
 * Counted: a topic that several components follow is subscribed to once, and left with the last of them. Its events
 * come to `useWebSocketMessage`. Safe at any time, before the connection too.
 *
 * @param ws The client; null: nothing is followed.
 */
export function useWebSocketSubscription(
  ws: NeuroGraphWebSocket | null | undefined,
  topic: string,
  enabled = true,
): Subscription {
  const client = (enabled && ws) || null;
  const subscribe = useCallback(
    (changed: () => void) => (client ? follow(client, topic, changed) : () => {}),
    [client, topic],
  );
  const subscribed = useSyncExternalStore(
    subscribe,
    () => isSubscribed(client, topic),
    () => false,
  );
  const [seen, setSeen] = useState<{ client: NeuroGraphWebSocket; gap: Gap } | null>(null);
  useEffect(() => {
    const off = client?.onEvent('gap', (gap) => {
      if (gap.topic === topic) setSeen({ client, gap });
    });
    return () => {
      off?.();
      setSeen(null);
    };
  }, [client, topic]);
  // Until the effect of a render has run, what was seen may still be of the client or topic before.
  const gap = seen && seen.client === client && seen.gap.topic === topic ? seen.gap : null;
  return { subscribed, gap };
}
