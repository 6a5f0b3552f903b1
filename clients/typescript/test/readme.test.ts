/** The examples of README.md, against the package as npm packs it, in plain node, with a real server. */

import { execFile, spawn } from 'node:child_process';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import * as client from '@neurograph/client';
import { afterAll, beforeAll, expect, inject, it } from 'vitest';

const HERE = join(import.meta.dirname, '..');
const ID = '[0-9a-f-]{36}';
/** What each example prints, in their order. */
const PRINTED = [
  new RegExp(`^New token: ${ID}\n$`),
  /^weight 2\nconflict\n$/,
  new RegExp(`^deleted ${ID} as number \\d+\n$`),
  /^listed \d+\nthen late\n$/,
  /^connected to ngos\nidle connecting connected ended\n$/,
  /^known as me\n$/,
];
const run = promisify(execFile);

let readme = '';
let directory = '';
let examples: string[] = [];

const tsc = (...flags: string[]) =>
  run(join(HERE, '../node_modules/.bin/tsc'), ['--strict', '--target', 'es2022', ...flags], { cwd: directory }).catch(
    (error) => {
      throw new Error(`tsc ${flags.join(' ')}:\n${error.stdout}`);
    },
  );

beforeAll(async () => {
  readme = await readFile(join(HERE, 'README.md'), 'utf8');
  examples = [...readme.matchAll(/^```ts\n(.*?)^```/gms)].map(([, code = '']) =>
    code.replaceAll('ws://localhost:8000/ws', inject('serverUrl')),
  );
  directory = await mkdtemp(join(tmpdir(), 'ngos-readme-'));
  const { stdout } = await run('npm', ['pack', '--silent', '--pack-destination', directory], { cwd: HERE });
  const installed = join(directory, 'node_modules/@neurograph/client');
  await mkdir(installed, { recursive: true });
  await run('tar', ['-xzf', join(directory, stdout.trim()), '-C', installed, '--strip-components=1']);
  await writeFile(join(directory, 'package.json'), '{"type": "module"}');
  await Promise.all(examples.map((code, n) => writeFile(join(directory, `example${n}.ts`), code)));
});
afterAll(() => rm(directory, { recursive: true, force: true }));

/** What a program prints until that is `printed`, or its end. */
async function outputOf(file: string, printed: RegExp): Promise<string> {
  const child = spawn(process.execPath, [join(directory, file)], { stdio: ['ignore', 'pipe', 'pipe'] });
  let errors = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    errors += text;
  });
  // Its debug lines go to the standard output too.
  let output = '';
  const done = new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output = `${output}${text}`.replace(/^\[ngos\] .*\n/gm, '');
    // The user's program stays connected, as a program that watches does.
    if (file === 'example0.js' && printed.test(output)) child.kill('SIGKILL');
  });
  const code = await done;
  if (code !== 0 && code !== null) throw new Error(`${file} ended with ${code}:\n${output}\n${errors}`);
  return output;
}

it('Tries to break: every example passes a strict compiler, and prints what it should in plain node.', async () => {
  expect(examples.length).toBe(PRINTED.length);
  const files = examples.map((_, n) => `example${n}.ts`);
  await tsc('--module', 'nodenext', '--lib', 'es2023,dom', '--types', '', ...files);
  for (const [n, printed] of PRINTED.entries()) expect(await outputOf(`example${n}.js`, printed)).toMatch(printed);
});

it('Tries to break: a bundler resolves the types of both entries, as it does those of react.', async () => {
  const code = `import { useWebSocketMessage } from '@neurograph/client/react';
    import { createWebSocket } from '@neurograph/client';
    const weight: Promise<number> = createWebSocket('ws://h/ws').createToken().then((token) => token.weight);
    export const all = [useWebSocketMessage, weight];`;
  await writeFile(join(directory, 'bundled.ts'), code);
  await tsc('--module', 'esnext', '--moduleResolution', 'bundler', '--lib', 'es2023,dom', '--noEmit', 'bundled.ts');
});

it('Tries to break: the package holds what runs and what explains it, and nothing else.', async () => {
  const installed = join(directory, 'node_modules/@neurograph/client');
  expect((await readdir(installed)).sort()).toEqual(['README.md', 'dist', 'docs', 'package.json']);
  const files = await readdir(join(installed, 'dist'), { recursive: true });
  expect(files.filter((file) => file.includes('.') && !/\.(js|d\.ts)$/.test(file))).toEqual([]);
});

it('Tries to break: the tables name every option with its default, and every error.', async () => {
  const options = await readFile(join(HERE, 'src/options.ts'), 'utf8');
  const fields = options.slice(options.indexOf('interface Options'), options.indexOf('\n}'));
  const named = [...fields.matchAll(/^ {2}(\w+)\?:/gm)].map(([, name]) => name);
  const rows = (heading: string) => [...section(heading).matchAll(/^\| `(\w+)` +\|/gm)].map(([, name]) => name);
  expect(rows('Options')).toEqual(named);
  const source = await readFile(join(HERE, 'src/client.ts'), 'utf8');
  for (const [, name, value] of section('Options').matchAll(/^\| `(\w+)` +\| `([\d_ *]+)`/gm)) {
    expect(source).toContain(`options.${name} ?? ${value}`);
  }
  const errors = Object.entries(client).filter(([, value]) => Object(value).prototype instanceof Error);
  expect(rows('Errors').sort()).toEqual(errors.map(([name]) => name).sort());
});

function section(heading: string): string {
  return readme.split(/^## /m).find((text) => text.startsWith(`${heading}\n`)) ?? '';
}
