/** The network between a browser and the server: it can be cut, and stay cut. */

import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';

export interface Network {
  readonly http: string;
  /** Reset every connection; new ones are refused until `mend`. */
  cut(): void;
  mend(): void;
  stop(): Promise<void>;
}

export async function startNetwork(http: string): Promise<Network> {
  const { hostname, port } = new URL(http);
  const ends = new Set<Socket>();
  let isCut = false;
  const listener = createServer((near) => {
    if (isCut) {
      near.resetAndDestroy();
      return;
    }
    const far = connect(Number(port), hostname);
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      ends.add(from);
      from.pipe(to);
      from.on('error', () => to.destroy());
      from.on('close', () => {
        ends.delete(from);
        to.destroy();
      });
    }
  });
  listener.listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const address = listener.address();
  if (!address || typeof address === 'string') throw new Error('no port');

  function cut(): void {
    isCut = true;
    for (const end of ends) end.resetAndDestroy();
  }

  return {
    http: `http://127.0.0.1:${address.port}`,
    cut,
    mend() {
      isCut = false;
    },
    async stop() {
      cut();
      listener.close();
      await once(listener, 'close');
    },
  };
}
