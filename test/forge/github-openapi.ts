import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { packageRoot } from '../../src/exec/root.ts';
import { run } from '../../src/exec/run.ts';

/**
 * GitHub's published OpenAPI description (not a dependency: the npm package @octokit/openapi weighs 385 MB, so the script
 * takes the one file out of it, into the cache). Null with a reason where it cannot be had: skip by name then.
 */
export async function githubOpenapi(): Promise<{ description: unknown } | { skipped: string }> {
  const script = join(packageRoot(), 'test', 'services', 'github-openapi.sh');
  const made = await run('bash', [script], {});
  if (made.code !== 0) return { skipped: made.stderr.toString().trim().split('\n').at(-1) ?? 'no answer' };
  return { description: JSON.parse(await readFile(made.stdout.toString().trim(), 'utf8')) };
}
