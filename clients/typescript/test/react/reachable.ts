/** A real server, and what it says of who is connected. */

import { get } from 'node:http';
import { json } from 'node:stream/consumers';
import { TestServer } from '../server.js';

interface Stats {
  active_connections: number;
  topics: Record<string, number>;
}

export interface Reachable {
  readonly ws: string;
  stats(): Promise<Stats>;
  stop(): Promise<void>;
}

/** One of its own: who counts connections can't share. */
export async function startReachable(): Promise<Reachable> {
  const server = await TestServer.start();
  return {
    ws: server.url,
    // Not `fetch`: in a test's window that is a browser's, with its rule of the same origin.
    stats: () =>
      new Promise((resolve, reject) => {
        const request = get(`${server.http}/ws/stats`, (answer) => {
          json(answer).then((stats) => resolve(stats as Stats), reject);
        });
        request.on('error', reject);
      }),
    stop: () => server.stop(),
  };
}
