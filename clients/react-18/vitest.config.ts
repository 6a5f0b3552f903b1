import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

const at = (path: string) => fileURLToPath(new URL(path, import.meta.url));

export default defineConfig({
  root: at('../typescript'),
  resolve: {
    alias: [
      // Its modules, not its CommonJS: only their imports can be led to another React.
      {
        find: /^@testing-library\/react$/,
        replacement: at('../node_modules/@testing-library/react/dist/@testing-library/react.esm.js'),
      },
      { find: /^(react|react-dom)(\/.*)?$/, replacement: `${at('./node_modules')}/$1$2` },
      { find: /^#socket$/, replacement: at('../typescript/src/socket/lazy.ts') },
      { find: /^@neurograph\/client$/, replacement: at('../typescript/src/index.ts') },
      { find: /^@neurograph\/client\/react$/, replacement: at('../typescript/src/react/index.ts') },
    ],
  },
  test: {
    include: ['test/react/**/*.test.tsx'],
    server: { deps: { inline: [/@testing-library\/react/] } },
    env: { NGOS_REACT: '18' },
  },
});
