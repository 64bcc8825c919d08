import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    globalSetup: 'test/support/build-folder.ts',
    pool: 'forks',
    maxWorkers: 2,
    // Many tests run real programs; a loaded machine must not fail them.
    testTimeout: 120_000,
    hookTimeout: 120_000,
  },
});
