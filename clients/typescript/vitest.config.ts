import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

export default defineConfig({
  resolve: {
    alias: {
      '#socket': fileURLToPath(new URL('./src/socket/lazy.ts', import.meta.url)),
      '@neurograph/client/react': fileURLToPath(new URL('./src/react/index.ts', import.meta.url)),
      '@neurograph/client': fileURLToPath(new URL('./src/index.ts', import.meta.url)),
    },
  },
  test: {
    include: ['test/**/*.test.ts', 'test/**/*.test.tsx'],
    globalSetup: ['test/setup.ts'],
    // All files share one server, and some say what the latest tokens on it are.
    fileParallelism: false,
    testTimeout: 30_000,
    hookTimeout: 90_000,
  },
});
