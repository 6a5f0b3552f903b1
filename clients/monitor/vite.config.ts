import react from '@vitejs/plugin-react';
import { defineConfig } from 'vitest/config';

// `vite dev` and `vite preview` show the page of a server that runs elsewhere.
const server = process.env.NGOS_URL ?? 'http://localhost:8000';
const proxy = { '/ws': { target: server, ws: true } };

export default defineConfig({
  plugins: [react()],
  build: {
    outDir: process.env.NGOS_PAGE_DIR ?? '../../ngos/web/page',
    emptyOutDir: true,
    sourcemap: false,
    target: 'es2022',
    // Inlined files would be data: URLs, which the server's policy allows for images only.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
  server: { proxy },
  preview: { proxy },
  test: { environment: 'happy-dom', include: ['test/**/*.test.{ts,tsx}'] },
});
