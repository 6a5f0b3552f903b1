/** The network between a browser and the server: it can be cut, and stay cut. */

import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';

export interface Proxy {
  readonly page: string;
  readonly ws: string;
  /** Reset every connection; new ones are refused until `mend`. */
  cut(): void;
  mend(): void;
  stop(): Promise<void>;
}

export async function startProxy(server: { readonly host: string }): Promise<Proxy> {
  const [name, port] = server.host.split(':');
  const ends = new Set<Socket>();
  let isCut = false;
  const listener = createServer((near) => {
    if (isCut) {
      near.resetAndDestroy();
      return;
    }
    const far = connect(Number(port), name);
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
  const host = `127.0.0.1:${address.port}`;

  function cut(): void {
    isCut = true;
    for (const end of ends) end.resetAndDestroy();
  }

  return {
    page: `http://${host}/`,
    ws: `ws://${host}/ws`,
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
