// Starts a server on a database of its own, or takes the one whose URL was given.
import { execFileSync, spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const NGOS = fileURLToPath(new URL('../../../.venv/bin/ngos', import.meta.url));
const READY_MS = 60_000;

async function freePort() {
  const probe = net.createServer();
  await new Promise((listening) => probe.listen(0, '127.0.0.1', listening));
  const { port } = probe.address();
  await new Promise((closed) => probe.close(closed));
  return port;
}

export async function startServer({ port, dataDir, flags = [] } = {}) {
  const at = port ?? (await freePort());
  const directory = dataDir ?? (await mkdtemp(join(tmpdir(), 'ngos-page-')));
  // One client loads here what many do elsewhere.
  const fast = ['--commands-per-s', '1e9', '--bytes-per-s', '1e12'];
  const child = spawn(NGOS, ['serve', '--port', String(at), ...fast, ...flags], {
    env: { ...process.env, NGOS_DATA_DIR: directory },
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  const url = `http://127.0.0.1:${at}`;
  const until = Date.now() + READY_MS;
  for (;;) {
    if (child.exitCode !== null) throw new Error(`the server ended with ${child.exitCode}`);
    const ready = await fetch(`${url}/readyz`).then(
      (response) => response.ok,
      () => false,
    );
    if (ready) break;
    if (Date.now() > until) throw new Error('the server was not ready in time');
    await new Promise((later) => setTimeout(later, 100));
  }
  const stop = async (signal = 'SIGTERM') => {
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill(signal);
    await ended;
  };
  const end = async () => {
    if (child.exitCode === null) await stop();
    if (!dataDir) await rm(directory, { recursive: true, force: true });
  };
  return { url, port: at, dataDir: directory, stop, end };
}

/** A secret in a folder of its own; the flags of a server that asks for its tokens, and those tokens. */
export async function makeIssuer() {
  const folder = await mkdtemp(join(tmpdir(), 'ngos-secret-'));
  const secret = join(folder, 'secret');
  const ngos = (...args) => execFileSync(NGOS, ['token', ...args], { encoding: 'utf8' }).trim();
  ngos('secret', secret);
  return {
    flags: ['--auth-mode', 'jwt', '--auth-secret-file', secret, '--auth-leeway-s', '0'],
    token: (subject, lifetimeS, ...grant) =>
      ngos('issue', subject, '--secret-file', secret, '--lifetime-s', String(lifetimeS), ...grant),
    end: () => rm(folder, { recursive: true, force: true }),
  };
}
