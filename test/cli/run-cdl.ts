import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { packageRoot } from '../../src/exec/root.ts';

/** How a command ended. */
export interface Ended {
  code: number | null;
  stdout: string;
  stderr: string;
}

/** Starts the built command line as people do: `bin/cdl.js` in a process of its own. */
export function startCdl(
  args: readonly string[],
  { input, ...options }: { cwd: string; env: NodeJS.ProcessEnv; input?: Buffer },
) {
  const child = spawn(process.execPath, [join(packageRoot(), 'bin', 'cdl.js'), ...args], {
    ...options,
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  child.stdin.end(input);
  const said = { stdout: '', stderr: '' };
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    said.stdout += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    said.stderr += text;
  });
  const ended = new Promise<Ended>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, ...said }));
  });
  return { child, said, ended };
}

/** Runs a command to its end. */
export const runCdl = (args: readonly string[], options: { cwd: string; env: NodeJS.ProcessEnv }) =>
  startCdl(args, options).ended;
