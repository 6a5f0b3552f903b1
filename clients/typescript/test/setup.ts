/** One real server for the whole run; tests get its address by `inject('serverUrl')`. */

import type { TestProject } from 'vitest/node';
import { TestServer } from './server.js';

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const server = await TestServer.start();
  project.provide('serverUrl', server.url);
  return () => server.stop();
}

declare module 'vitest' {
  export interface ProvidedContext {
    /** ws://127.0.0.1:PORT/ws of the run's server. */
    serverUrl: string;
  }
}
