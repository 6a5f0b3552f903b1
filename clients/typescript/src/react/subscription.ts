/** Topics that are followed while components that want them are mounted. */

import { useCallback, useEffect, useState, useSyncExternalStore } from 'react';
import type { LifeEvents, NeuroGraphWebSocket } from '../index.js';
import { checkTopic } from '../options.js';

/** Where events are missing: those after `seq`; it goes on live from `now`. */
export type Gap = LifeEvents['gap'];

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
  private readonly ends: readonly (() => void)[];

  constructor(ws: NeuroGraphWebSocket, topic: string) {
    const tell = () => {
      for (const listener of [...this.listeners]) listener();
    };
    const tellOf = ({ payload }: { payload: { topic: string } }) => {
      if (payload.topic === topic) tell();
    };
    this.ends = [
      ws.on('subscribed', tellOf),
      ws.on('unsubscribed', tellOf),
      ws.onEvent('state', tell),
      // Last: what it changes is not to be missed.
      ws.hold(topic),
    ];
  }

  end(): void {
    for (const end of this.ends) end();
  }
}

const followedOf = new WeakMap<NeuroGraphWebSocket, Map<string, Followed>>();

/** Follow until the function that is returned is called; `changed` is called when `isFollowing` may differ. */
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

/**
 * Follow `topic` while the component is mounted and `enabled` is true: over all connections, resumed after breaks.
 *
 * Counted: a topic that several components follow is subscribed to once, and left with the last of them. Its events
 * come to `useWebSocketMessage`. Safe at any time, before the connection too. Throws TypeError, to the error boundary,
 * for what can't be a topic.
 *
 * @param ws The client; null: nothing is followed.
 */
export function useWebSocketSubscription(
  ws: NeuroGraphWebSocket | null | undefined,
  topic: string,
  enabled = true,
): Subscription {
  const client = (enabled && ws) || null;
  // Not left to the effect, which would leave behind what it had set up, and whose errors no boundary gets in React 18.
  if (client) checkTopic(topic);
  const subscribe = useCallback(
    (changed: () => void) => (client ? follow(client, topic, changed) : () => {}),
    [client, topic],
  );
  const subscribed = useSyncExternalStore(
    subscribe,
    () => client?.isFollowing(topic) ?? false,
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
