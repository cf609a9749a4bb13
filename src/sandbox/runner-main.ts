import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { describeError, UserError } from '../core/error.ts';
import { startRunner } from './runner/run.ts';

const usage = 'usage: runner-main --url URL --token TOKEN [--concurrency 2] [--builds DIR] [--path DIR]';

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      url: { type: 'string' },
      token: { type: 'string' },
      concurrency: { type: 'string', default: '2' },
      builds: { type: 'string', default: join(tmpdir(), `cdl-builds-${process.pid}`) },
      path: { type: 'string' },
    },
  });
  const concurrency = Number(values.concurrency);
  if (values.url === undefined || values.token === undefined) throw new UserError('usage', usage);
  if (!Number.isInteger(concurrency) || concurrency < 1) {
    throw new UserError('usage', `--concurrency ${values.concurrency} is not a positive number`);
  }
  const runner = await startRunner({
    url: values.url,
    token: values.token,
    concurrency,
    builds: values.builds,
    path: values.path ?? null,
    systemPath: process.env.PATH ?? '/usr/local/bin:/usr/bin:/bin',
    log: (line) => process.stderr.write(`${line}\n`),
  });
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => void runner.stop());
  await runner.done;
}

main().catch((error: unknown) => {
  const { exit, message, hint } = describeError(error);
  process.stderr.write(`${message}${hint === null ? '' : `\n  ${hint}`}\n`);
  process.exitCode = exit;
});
