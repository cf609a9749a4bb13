import { defineConfig } from 'vitest/config';

/** Folders whose files leave nothing behind in their process: many of them share one, which saves its start. */
const sharing = ['core', 'data', 'forge', 'report', 'serve', 'store'];
const inFolders = (folders: readonly string[]) => folders.map((folder) => `test/${folder}/**/*.spec.ts`);

export default defineConfig({
  test: {
    pool: 'forks',
    // One more than the cores of a small machine: most files wait for child processes half of their time.
    maxWorkers: 3,
    testTimeout: 120_000,
    hookTimeout: 120_000,
    // What is polled for comes at once on an idle machine; a busy one is given time (a second is the default).
    expect: { poll: { timeout: 60_000, interval: 20 } },
    env: { TZ: 'UTC' },
    // They start in the order of their names: what takes longest first, so that no worker is left with it in the end.
    projects: [
      { extends: true, test: { name: 'end-to-end', include: inFolders(['e2e']) } },
      {
        extends: true,
        test: {
          name: 'processes',
          include: ['test/**/*.spec.ts'],
          exclude: inFolders(['e2e', ...sharing]),
        },
      },
      { extends: true, test: { name: 'units', include: inFolders(sharing), isolate: false } },
    ],
  },
});
