/** Real servers, each with a directory and a Postgres of its own; they can be killed and come back as they were. */

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

const CHECKOUT = join(import.meta.dirname, '../../../..');
const START_MS = 30_000;

export interface Server {
  /** Where its page is, with a slash at the end. */
  readonly page: string;
  readonly host: string;
  readonly ws: string;
  /** SIGKILL: it says goodbye to nobody. Resolves when it is gone. */
  kill(): Promise<void>;
  /** Start it again, on the same port, with what it had written. */
  restart(): Promise<void>;
  /** SIGTERM, and what it kept is deleted. */
  stop(): Promise<void>;
  /** What it has logged, over all its lives. */
  log(): string;
}

export async function startServer(...flags: string[]): Promise<Server> {
  const directory = await mkdtemp(join(tmpdir(), 'ngos-e2e-'));
  const port = await freePort();
  let log = '';
  let child: ChildProcess | null = null;

  async function start(): Promise<void> {
    const environment = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('NGOS_')));
    const started = spawn(
      join(CHECKOUT, '.venv/bin/python'),
      ['-m', 'ngos', 'serve', '--port', String(port), '--data-dir', directory, ...flags],
      { cwd: CHECKOUT, env: environment, stdio: ['ignore', 'pipe', 'pipe'] },
    );
    child = started;
    started.stderr.on('data', (text) => {
      log += text;
    });
    const deadline = setTimeout(() => started.kill('SIGKILL'), START_MS);
    // Its address is printed once connections are answered.
    for await (const _ of createInterface(started.stdout)) {
      clearTimeout(deadline);
      started.stdout.resume();
      return;
    }
    throw new Error(`the server did not start:\n${log}`);
  }

  async function end(signal: 'SIGKILL' | 'SIGTERM'): Promise<void> {
    const ending = child;
    child = null;
    if (!ending || ending.exitCode !== null || ending.signalCode !== null) return;
    const gone = once(ending, 'exit');
    ending.kill(signal);
    await gone;
  }

  await start();
  const host = `127.0.0.1:${port}`;
  return {
    page: `http://${host}/`,
    host,
    ws: `ws://${host}/ws`,
    kill: () => end('SIGKILL'),
    restart: start,
    log: () => log,
    async stop() {
      // A server that was killed has left its Postgres running: the next life is what stops it.
      if (!child) await start();
      await end('SIGTERM');
      await rm(directory, { recursive: true, force: true });
    },
  };
}

/** A port that was free a moment ago; it has to be known before the start, for the server comes back to it. */
async function freePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const address = probe.address();
  probe.close();
  await once(probe, 'close');
  if (!address || typeof address === 'string') throw new Error('no port');
  return address.port;
}
