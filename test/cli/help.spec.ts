import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { commands } from '../../src/cli/commands.ts';
import { catalogue } from '../../src/core/error.ts';
import { packageRoot } from '../../src/exec/root.ts';
import { steps } from '../../src/steps/index.ts';
import { runCdl } from './run-cdl.ts';

const place = { cwd: tmpdir(), env: { PATH: process.env.PATH, HOME: tmpdir() } };

describe('help', () => {
  it('of the whole names every step and command, in the order of the workflow', async () => {
    const { code, stdout, stderr } = await runCdl(['--help'], place);
    expect([code, stderr]).toEqual([0, '']);
    await expect(stdout).toMatchFileSnapshot('../golden/cli/help.txt');
    const named = [...stdout.matchAll(/^ {2}([a-z]+) {2,}/gm)].map((match) => match[1]);
    expect(named).toEqual([...steps, ...commands].map((one) => one.name));
  });

  it('is what cdl alone prints', async () => {
    const [alone, asked] = await Promise.all([runCdl([], place), runCdl(['--help'], place)]);
    expect(alone).toEqual(asked);
  });

  it('names every exit code that an error of the catalogue can have', async () => {
    const { stdout } = await runCdl(['--help'], place);
    const said = stdout.slice(stdout.indexOf('Exit codes:'));
    for (const [code, { exit }] of Object.entries(catalogue))
      expect(said, code).toMatch(new RegExp(`\\b${exit} `));
  });

  it.each(['train', 'evaluate', 'ingest', 'serve', 'lock', 'bot'])('of %s', async (name) => {
    const { code, stdout } = await runCdl([name, '--help'], place);
    expect(code).toBe(0);
    await expect(stdout).toMatchFileSnapshot(`../golden/cli/help-${name}.txt`);
  });
});

it('cdl --version prints the version of the package and nothing else', async () => {
  const { version } = JSON.parse(await readFile(join(packageRoot(), 'package.json'), 'utf8'));
  for (const flag of ['--version', '-V']) {
    expect(await runCdl([flag], place)).toEqual({ code: 0, stdout: `${version}\n`, stderr: '' });
  }
});
