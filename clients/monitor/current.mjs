// Says whether ngos/web/page is what these sources build, and whether the page's JavaScript is still small.
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { build } from 'vite';

const JS_GZ_MOST = 150_000;
const COMMITTED = fileURLToPath(new URL('../../ngos/web/page', import.meta.url));

/** The files under a folder, by their path in it; none where there is no folder. */
async function filesOf(folder) {
  const found = new Map();
  const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => []);
  for (const entry of entries) {
    if (!entry.isFile()) continue;
    const path = join(entry.parentPath ?? entry.path, entry.name);
    found.set(relative(folder, path), await readFile(path));
  }
  return found;
}

const fresh = await mkdtemp(join(tmpdir(), 'ngos-page-'));
try {
  // vite.config.ts reads it.
  process.env.NGOS_PAGE_DIR = fresh;
  await build({ root: fileURLToPath(new URL('.', import.meta.url)), logLevel: 'error' });
  const [built, committed] = await Promise.all([filesOf(fresh), filesOf(COMMITTED)]);
  const same =
    built.size === committed.size && [...built].every(([path, bytes]) => committed.get(path)?.equals(bytes) === true);
  if (!same) {
    console.error('ngos/web/page is not what clients/monitor builds: run scripts/npm run build');
    process.exitCode = 1;
  }
  let size = 0;
  for (const [path, bytes] of built) if (path.endsWith('.js')) size += gzipSync(bytes).length;
  console.log(`the page's JavaScript: ${(size / 1000).toFixed(1)} kB gzipped, of ${JS_GZ_MOST / 1000} kB`);
  if (size > JS_GZ_MOST) {
    console.error(`the page's JavaScript is above ${JS_GZ_MOST / 1000} kB gzipped`);
    process.exitCode = 1;
  }
} finally {
  await rm(fresh, { recursive: true, force: true });
}
