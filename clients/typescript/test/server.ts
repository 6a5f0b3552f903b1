/** A real ngos server in a process of its own, on a Postgres and a data directory of its own. */

import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const ROOT = fileURLToPath(new URL('../../..', import.meta.url));
const NGOS = join(ROOT, '.venv/bin/ngos');
const PYTHON = join(ROOT, '.venv/bin/python');
/** Nothing here takes this long; what hangs fails by it. */
const LIMIT_MS = 60_000;

/** With NGOS_TEST_DATABASE_URL: a scratch database there, which the server keeps over its restarts. */
const CREATE = `
import sys, psycopg
from psycopg.conninfo import make_conninfo
url, name = sys.argv[1:]
with psycopg.connect(url, autocommit=True) as admin:
    admin.execute(f'create database {name} template template0')
print(make_conninfo(url, dbname=name))
`;
const DROP = `
import sys, psycopg
url, name = sys.argv[1:]
with psycopg.connect(url, autocommit=True) as admin:
    admin.execute(f'drop database if exists {name} with (force)')
`;

export interface ServerOptions {
  /** More flags of `ngos serve`, as in `--heartbeat-interval-s 1`. */
  flags?: readonly string[];
}

/** A server that is ready. Ends with the process that started it, whatever happens. */
export class TestServer {
  /** ws://127.0.0.1:PORT/ws, the same over restarts. */
  readonly url: string;
  /** http://127.0.0.1:PORT */
  readonly http: string;
  readonly #port: number;
  readonly #directory: string;
  readonly #flags: readonly string[];
  readonly #database: Database | null;
  #child: ChildProcess | null;

  private constructor(directory: string, flags: readonly string[], database: Database | null, started: Started) {
    this.#directory = directory;
    this.#flags = flags;
    this.#database = database;
    this.#child = started.child;
    this.#port = started.port;
    this.http = `http://127.0.0.1:${started.port}`;
    this.url = `ws://127.0.0.1:${started.port}/ws`;
  }

  /** Start one and wait until it is ready. */
  static async start({ flags = [] }: ServerOptions = {}): Promise<TestServer> {
    // Short, so that Postgres's socket fits.
    const directory = await mkdtemp(join(tmpdir(), 'ngos-'));
    const database = await createDatabase();
    const started = await serve(directory, database?.conninfo ?? null, 0, flags);
    return new TestServer(directory, flags, database, started);
  }

  /** End it as a crash does. Clients see a connection that breaks. */
  async kill(): Promise<void> {
    await this.#end('SIGKILL');
  }

  /** Ask it to stop: it drains, and says 1012. */
  async drain(): Promise<void> {
    await this.#end('SIGTERM');
  }

  /** Start it again: same port, same data. After `kill`, `drain`, or of one that runs (then it is killed first). */
  async restart(): Promise<void> {
    await this.#end('SIGKILL');
    const started = await serve(this.#directory, this.#database?.conninfo ?? null, this.#port, this.#flags);
    this.#child = started.child;
  }

  /** End it, and leave nothing behind. */
  async stop(): Promise<void> {
    await this.#end('SIGTERM');
    if (this.#database !== null) await python(DROP, this.#database.url, this.#database.name);
    await rm(this.#directory, { recursive: true, force: true, maxRetries: 5 });
  }

  async #end(signal: 'SIGKILL' | 'SIGTERM'): Promise<void> {
    const child = this.#child;
    this.#child = null;
    if (child === null || child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, 'exit');
    child.kill(signal);
    const late = setTimeout(() => child.kill('SIGKILL'), LIMIT_MS / 2);
    await ended;
    clearTimeout(late);
    running.delete(child);
  }
}

interface Database {
  url: string;
  name: string;
  conninfo: string;
}

interface Started {
  child: ChildProcess;
  port: number;
}

const running = new Set<ChildProcess>();
// A runner that is interrupted or fails leaves no server behind.
process.on('exit', () => {
  for (const child of running) child.kill('SIGTERM');
});

async function serve(
  directory: string,
  conninfo: string | null,
  port: number,
  flags: readonly string[],
): Promise<Started> {
  const environment = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('NGOS_')));
  if (conninfo !== null) environment.NGOS_DATABASE_URL = conninfo;
  const args = ['serve', '--port', String(port), '--data-dir', join(directory, 'data'), ...flags];
  const child = spawn(NGOS, args, { env: environment, stdio: ['ignore', 'pipe', 'pipe'] });
  running.add(child);
  child.once('exit', () => running.delete(child));
  let log = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    log = (log + text).slice(-20_000);
  });
  const ready = new Promise<number>((resolve, reject) => {
    let printed = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      printed += text;
      const address = /^http:\/\/[^:]+:(\d+)\s/m.exec(printed);
      if (address !== null) resolve(Number(address[1]));
    });
    child.once('error', reject);
    child.once('exit', (code) => reject(new Error(`ngos serve ended with ${code}:\n${log}`)));
    setTimeout(() => reject(new Error(`ngos serve is not ready after ${LIMIT_MS} ms:\n${log}`)), LIMIT_MS).unref();
  });
  return { child, port: await ready };
}

async function createDatabase(): Promise<Database | null> {
  const url = process.env.NGOS_TEST_DATABASE_URL;
  if (!url) return null;
  const name = `ngos_node_${Math.random().toString(36).slice(2, 14)}`;
  return { url, name, conninfo: (await python(CREATE, url, name)).trim() };
}

async function python(program: string, ...args: string[]): Promise<string> {
  const { stdout } = await promisify(execFile)(PYTHON, ['-c', program, ...args]);
  return stdout;
}
