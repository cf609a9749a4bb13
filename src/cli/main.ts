import { readFileSync } from 'node:fs';
import { describeError, UserError } from '../core/error.ts';
import { createRedactor, environmentSecrets } from '../core/redact.ts';
import { steps } from '../steps/index.ts';
import { createConsole } from './console.ts';

/** The version of this package, from its package.json. */
export function version(): string {
  for (const path of ['../../package.json', '../package.json']) {
    try {
      // Read, not required: that would look for it by all the rules of modules, which takes milliseconds.
      const text = readFileSync(new URL(path, import.meta.url), 'utf8');
      const manifest = JSON.parse(text) as { name?: string; version?: string };
      if (manifest.name === 'cdl' && manifest.version) return manifest.version;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
  }
  throw new Error('package.json of cdl was not found beside the program');
}

/** Runs the command line and returns the exit code. A user's mistake never shows a stack trace. */
export async function main(argv: readonly string[], env: NodeJS.ProcessEnv): Promise<number> {
  if (argv.length === 1 && (argv[0] === '--version' || argv[0] === '-V')) {
    process.stdout.write(`${version()}\n`);
    return 0;
  }
  const stop = new AbortController();
  const json = argv.includes('--json');
  const redact = createRedactor(environmentSecrets(env));
  const console = createConsole({ json, env, redact, signal: stop.signal });
  const onSignal = () => {
    if (stop.signal.aborted) process.exit(130);
    stop.abort();
  };
  process.on('SIGINT', onSignal).on('SIGTERM', onSignal);
  try {
    const { createProgram } = await import('./program.ts');
    return await createProgram({ argv, env, console, steps, version: version() });
  } catch (error) {
    console.end();
    // Whatever broke while everything was being stopped is not what the person wants to read.
    const isTold = error instanceof UserError && error.code === 'interrupted';
    const told = stop.signal.aborted && !isTold ? new UserError('interrupted', 'stopped') : error;
    const { exit, code, message, hint } = describeError(told);
    if (json) process.stdout.write(`${redact(JSON.stringify({ error: { code, message, hint } }))}\n`);
    else process.stderr.write(redact(`cdl: ${message}\n${hint ? `  → ${hint}\n` : ''}`));
    return exit;
  } finally {
    console.end();
    process.off('SIGINT', onSignal).off('SIGTERM', onSignal);
  }
}

// Whoever reads the output may have had enough (`cdl … | head`); that is no failure of ours (128 + SIGPIPE, as a shell has it).
for (const stream of [process.stdout, process.stderr]) {
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(141);
    throw error;
  });
}
// Exit as soon as the output is written: idle connection pools must not keep a finished command alive.
process.exitCode = await main(process.argv.slice(2), process.env);
await Promise.all(
  [process.stdout, process.stderr].map(
    (stream) => new Promise<void>((done) => stream.write('', () => done())),
  ),
);
process.exit();
