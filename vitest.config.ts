import { defineConfig } from 'vitest/config'

const SOURCES = ['frontend', 'authsvc', 'backend', 'shared', 'loadtest', 'client', 'bin', 'deploy']

// A bare node_modules/.bin/vitest runs on whatever Node the shell has; tests then fail, or pass, for reasons of their own.
if (Number(process.versions.node.split('.')[0]) < 24) throw new Error('Tests run on Node 24: npx vitest run PATH, or npm test -- PATH')

export default defineConfig({
  test: {
    include: ['**/*.test.ts'],
    exclude: ['**/node_modules/**', 'dist/**', 'coverage/**', 'data/**'],
    // Processes, not threads: a test may hold a native store, take a signal or crash without ending the others.
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 30_000,
    hookTimeout: 30_000,
    teardownTimeout: 10_000,
    coverage: {
      provider: 'v8',
      include: SOURCES.map(folder => `${folder}/**/*.ts`),
      exclude: ['**/*.test.ts', '**/*.bench.ts', 'shared/testing/**'],
      reporter: ['text-summary', 'html', 'json-summary'],
    },
  },
})
