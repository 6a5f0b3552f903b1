/** Tokens for a server that asks for them: what an identity provider does, with a secret that the server knows. */

import { createHmac, randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface Grant {
  commands?: readonly ('read' | 'write' | 'admin')[];
  subscribe?: readonly string[];
  publish?: readonly string[];
}

export const ALL: Grant = { commands: ['read', 'write'], subscribe: ['*'], publish: ['*'] };
export const READ_ONLY: Grant = { commands: ['read'], subscribe: ['*'], publish: [] };

/** A secret in a file of its own. */
export class Issuer {
  readonly #secret = randomBytes(48).toString('base64url');
  readonly #folder = mkdtempSync(join(tmpdir(), 'ngos-secret-'));

  /** Flags of `ngos serve` that make it ask for these tokens, and end their connections when they expire. */
  get flags(): string[] {
    const file = join(this.#folder, 'secret');
    writeFileSync(file, `${this.#secret}\n`, { mode: 0o600 });
    return ['--auth-mode', 'jwt', '--auth-secret-file', file, '--auth-leeway-s', '0'];
  }

  /** A token that is good for `lifetimeS` seconds from now; below 0: that was good. */
  token(subject: string, lifetimeS: number, grant: Grant = ALL): string {
    const nowS = Date.now() / 1000;
    const claims = { sub: subject, iat: Math.floor(nowS), exp: nowS + lifetimeS, ngos: { ...NOTHING, ...grant } };
    const signed = `${encoded({ alg: 'HS256', typ: 'JWT' })}.${encoded(claims)}`;
    return `${signed}.${createHmac('sha256', this.#secret).update(signed).digest('base64url')}`;
  }

  close(): void {
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

const NOTHING: Grant = { commands: [], subscribe: [], publish: [] };

function encoded(value: object): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url');
}
