/** One real server for all files that leave it running; tests get its addresses by `inject('server')`. */

import type { TestProject } from 'vitest/node';
import { TestServer } from '../../../typescript/test/server.js';
import { hasChromium } from './browsers.js';

export default async function setup(project: TestProject): Promise<(() => Promise<void>) | undefined> {
  project.provide('server', { url: '', http: '' });
  const isThere = hasChromium();
  project.provide('hasChromium', isThere);
  if (!isThere) return undefined;
  const server = await TestServer.start();
  project.provide('server', { url: server.url, http: server.http });
  return () => server.stop();
}

declare module 'vitest' {
  export interface ProvidedContext {
    /** ws://127.0.0.1:PORT/ws and http://127.0.0.1:PORT. */
    server: { url: string; http: string };
    /** Where there is none, nothing is tested. */
    hasChromium: boolean;
  }
}
