import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

/** A real git repository in a temporary folder, apart from the configuration of whoever runs the tests. */
export interface ScratchRepo {
  root: string;
  /** Runs git and returns what it printed. Throws when it fails. */
  git(...args: string[]): string;
  /** Whether git succeeds. */
  tryGit(...args: string[]): boolean;
  /** Writes a file; null removes it. */
  write(path: string, content: string | Uint8Array | null, mode?: number): void;
  /** Commits everything, also when nothing changed. */
  commit(message: string): string;
  dispose(): void;
}

/** Makes an empty repository with the branch main. */
export function scratchRepo(): ScratchRepo {
  const root = mkdtempSync(join(tmpdir(), 'cdl-core-'));
  const env = {
    PATH: process.env.PATH,
    HOME: root,
    GIT_CONFIG_GLOBAL: '/dev/null',
    GIT_CONFIG_SYSTEM: '/dev/null',
    GIT_AUTHOR_NAME: 'Test',
    GIT_AUTHOR_EMAIL: 'test@example.org',
    GIT_COMMITTER_NAME: 'Test',
    GIT_COMMITTER_EMAIL: 'test@example.org',
  };
  const git = (...args: string[]): string =>
    execFileSync('git', args, { cwd: root, env, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
  git('init', '-q', '-b', 'main');
  return {
    root,
    git,
    tryGit: (...args) => spawnSync('git', args, { cwd: root, env, stdio: 'ignore' }).status === 0,
    write(path, content, mode = 0o644) {
      const full = join(root, path);
      rmSync(full, { force: true });
      if (content === null) return;
      mkdirSync(dirname(full), { recursive: true });
      writeFileSync(full, content, { mode });
    },
    commit(message) {
      git('add', '-A');
      git('commit', '-q', '--allow-empty', '-m', message);
      return git('rev-parse', 'HEAD').trim();
    },
    dispose: () => rmSync(root, { recursive: true, force: true }),
  };
}
