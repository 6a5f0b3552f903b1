import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

const at = (path: string) => fileURLToPath(new URL(path, import.meta.url));

export default defineConfig({
  root: at('.'),
  resolve: {
    alias: {
      '#socket': at('../../../typescript/src/socket/lazy.ts'),
      '@neurograph/client': at('../../../typescript/src/index.ts'),
    },
  },
  test: {
    include: ['*.e2e.ts'],
    globalSetup: ['setup.ts'],
    // Each file has a browser, and the machines of CI have two cores.
    fileParallelism: false,
    testTimeout: 30_000,
    hookTimeout: 40_000,
    expect: { poll: { timeout: 10_000 } },
  },
});
