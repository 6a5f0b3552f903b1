/**
 * `subscribe` and `unsubscribe` as commands of `send` and `request`. They are the methods of that name: what is followed
 * would else be forgotten after a break, or the rug be pulled from under others who follow it.
 */

import type { Envelope } from './envelope.js';
import type { NgosError } from './errors.js';
import { checkTopic, startOf } from './options.js';
import type { Subscribed } from './protocol.js';
import type { Outcome } from './requests.js';
import type { Topics } from './topics.js';

export interface SubscribeOptions {
  /** Start after this event of a durable topic; where it is followed already, go back, or on, to there. */
  since?: number | undefined;
  /** The log that `since` counts in. */
  epoch?: string | undefined;
}

/** The payload of either. */
export interface Wanted extends SubscribeOptions {
  topic: string;
}

/** What is not one of these is the server's to explain. */
export function isSubscription(type: string, payload: object): payload is Wanted {
  const { topic } = (payload ?? {}) as { topic?: unknown };
  return (type === 'subscribe' || type === 'unsubscribe') && typeof topic === 'string';
}

/** Do one; `done` hears of a reply, the server's where it gave one to this. Returns what stops the wait for it. */
export function subscription(
  topics: Topics,
  type: string,
  wanted: Wanted,
  done: (outcome: Outcome) => void,
  id?: string,
): () => void {
  const { topic } = wanted;
  const reply = { id: '', timestamp: Date.now() };
  if (type === 'unsubscribe') {
    const payload = { topic, success: topics.agreement(topic) !== null };
    const left = (answer?: Outcome) =>
      done(answer instanceof Error ? answer : { ...reply, ...answer, type: 'unsubscribed', payload });
    topics.unsubscribe(topic, left, id);
    return () => {};
  }
  const agreed = (subscribed: Subscribed): Envelope => ({
    ...reply,
    ...topics.agreement(topic),
    type: 'subscribed',
    payload: { ...subscribed },
  });
  return subscribe(topics, topic, wanted, (outcome) => done(outcome instanceof Error ? outcome : agreed(outcome)), id);
}

/** Let handlers hear a topic; `done` hears of the server's agreement. Returns what ends it. Throws as `startOf` does. */
export function subscribe(
  topics: Topics,
  topic: string,
  options: SubscribeOptions,
  done: (outcome: Subscribed | NgosError) => void,
  id?: string,
): () => void {
  checkTopic(topic);
  topics.subscribe(topic, startOf(options), done, id);
  return () => topics.unsubscribe(topic, () => {});
}
