/** What the server's log holds, and whether a page saw it. */

import { createWebSocket } from '@neurograph/client';
import type { SeenEvent } from './browsers.js';

export const TOPICS = ['tokens', 'graph'] as const;
export type Topic = (typeof TOPICS)[number];

/** The whole log of `topic`, read through a client of its own. */
export async function readLog(server: { readonly url: string }, topic: Topic): Promise<SeenEvent[]> {
  const ws = createWebSocket({ url: server.url });
  await ws.connect();
  const { seq: last } = await ws.subscribe(topic);
  await ws.unsubscribe(topic);
  const log: SeenEvent[] = [];
  if (last) {
    for await (const event of ws.events(topic, { since: 0 })) {
      log.push({ type: event.type, topic, epoch: event.epoch ?? '', seq: event.seq ?? -1 });
      if (event.seq === last) break;
    }
  }
  await ws.disconnect();
  return log;
}

/**
 * What is wrong with what a page received of `topic`, over all its connections: each event after its first one, once, in
 * order, as it is in the log. Nothing: an empty list.
 */
export function faultsOf(seen: readonly SeenEvent[], log: readonly SeenEvent[], topic: Topic): string[] {
  const events = seen.filter((event) => event.topic === topic);
  const first = events[0]?.seq ?? log.length + 1;
  const expected = log.slice(first - 1);
  const faults: string[] = [];
  for (let n = 0; n < Math.max(events.length, expected.length); n += 1) {
    const [was, due] = [events[n], expected[n]];
    if (was?.seq === due?.seq && was?.type === due?.type && was?.epoch === due?.epoch) continue;
    faults.push(`${topic}, event ${n}: saw ${print(was)}, the log has ${print(due)}`);
    if (faults.length === 5) break;
  }
  return faults;
}

function print(event: SeenEvent | undefined): string {
  return event ? `${event.seq} ${event.type} in ${event.epoch}` : 'nothing';
}
