import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { stopLocalTarget } from '../deploy/index.ts';

// Cleans up after a rig whose process was killed: what was deployed runs on its own, on purpose, and would stay. Its stdin
// is a pipe that the rig holds, so that its end is noticed however it came.
const [folder, targetFolder, temporary] = process.argv.slice(2) as [string, string, string];

// Ctrl-C in a terminal reaches everybody; this process is the last to go.
for (const signal of ['SIGINT', 'SIGHUP'] as const) process.on(signal, () => {});
process.stdin.resume();
process.stdin.once('end', async () => {
  await stopLocalTarget(targetFolder);
  const moved = await readFile(join(folder, 'bot', 'database', 'moved-to'), 'utf8').catch(() => null);
  const gone = { recursive: true, force: true, maxRetries: 20, retryDelay: 250 };
  if (moved) await rm(moved.trim(), gone);
  if (temporary === 'temporary') await rm(folder, gone);
  process.exit();
});
