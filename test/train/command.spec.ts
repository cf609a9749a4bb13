import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { build } from 'esbuild';
import { describe, expect, it } from 'vitest';
import { isProcessAlive } from '../../src/exec/owner.ts';
import { packageRoot } from '../../src/exec/root.ts';
import type { CommandTraining } from '../../src/train/command.ts';
import { commandTraining, limits, train } from './command-fixtures.ts';
import { inFolder } from './fixtures.ts';

/** What the programs below begin with: the job, and functions to tell something and to keep a checkpoint. */
const preamble = `
import { appendFileSync, existsSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { spawn } from 'node:child_process';
const job = JSON.parse(readFileSync(process.env.CDL_JOB, 'utf8'));
const tell = (event) => appendFileSync(process.env.CDL_EVENTS, JSON.stringify(event) + '\\n');
const keep = (name, content) => {
  mkdirSync(job.output + '/' + name, { recursive: true });
  writeFileSync(job.output + '/' + name + '/weights.safetensors', content);
  return name;
};
const forever = () => setInterval(() => {}, 1000);
`;

const done = `keep('model', 'final'); tell({ kind: 'done', model: 'model', metrics: { accuracy: 0.9 } });`;

const trainingOf = (folder: string, body: string, more: Partial<CommandTraining> = {}) =>
  commandTraining(folder, process.execPath, ['train.mjs', preamble + body], more);

const runBody = (body: string, more: Partial<CommandTraining> = {}) =>
  inFolder(async (folder) => train(await trainingOf(folder, body, more)));

describe.concurrent('a training by a command', () => {
  it('tells epochs, checkpoints and the model, under the names of the built-in trainer', async () => {
    const { messages, error } = await runBody(`
      tell({ kind: 'step', epoch: 1, step: 1, metrics: { loss: 2 }, samples_per_second: 10 });
      tell({ kind: 'epoch', epoch: 1, step: 5, metrics: { loss: 1, validation_loss: 1.5 }, checkpoint: keep('at/1', 'x') });
      tell({ kind: 'log', message: process.cwd() === import.meta.dirname ? 'in the code' : process.cwd() });
      keep('model', 'final');
      tell({ kind: 'done', model: 'model', metrics: { validation_accuracy: 0.9 }, environment: { torch: '2' } });
    `);
    expect(error).toBeNull();
    expect(messages).toEqual([
      { kind: 'step', epoch: 1, step: 1, metrics: { loss: 2 }, samplesPerSecond: 10 },
      {
        kind: 'epoch',
        epoch: 1,
        step: 5,
        metrics: { loss: 1, validationLoss: 1.5 },
        samplesPerSecond: 0,
        checkpoint: expect.stringMatching(/output\/at\/1$/),
      },
      { kind: 'log', message: 'in the code' },
      {
        kind: 'done',
        epoch: 1,
        step: 5,
        bestEpoch: null,
        stoppedEarly: false,
        metrics: { validationAccuracy: 0.9 },
        model: expect.stringMatching(/output\/model$/),
        environment: { torch: '2' },
      },
    ]);
  });

  it('has the epoch for a step where it counts none, so that no value takes the place of another', async () => {
    const { messages } = await runBody(`
      tell({ kind: 'epoch', epoch: 1, metrics: { loss: 2 } });
      tell({ kind: 'epoch', epoch: 2, metrics: { loss: 1 } });
      ${done}
    `);
    expect(messages.flatMap((one) => (one.kind === 'epoch' ? [one.step] : []))).toEqual([1, 2]);
  });

  it.each([
    ['ends with 0 and no model', '', /exit code 0 and without a model/],
    ['names a model that is not there', "tell({ kind: 'done', model: 'model' })", /"model" does not exist/],
    [
      'names an empty folder',
      "mkdirSync(job.output + '/m'); tell({ kind: 'done', model: 'm' })",
      /"m" holds no file/,
    ],
    [
      'names a folder through a link',
      "symlinkSync('/etc', job.output + '/m'); tell({ kind: 'done', model: 'm' })",
      /"m" is reached through a link/,
    ],
    [
      'hides a link in its model',
      "keep('m', ''); symlinkSync('/etc/passwd', job.output + '/m/x'); tell({ kind: 'done', model: 'm' })",
      /"m" holds x, which is neither/,
    ],
    [
      'has a loss that is no number',
      "tell({ kind: 'epoch', epoch: 3, metrics: { loss: 1 / 0 - 1 / 0 } }); forever()",
      /^epoch 3: loss is NaN$/,
    ],
    [
      'fails',
      "console.error('Traceback: no such layer'); process.exit(3)",
      /exit code 3:\n[\s\S]*Traceback: no such layer/,
    ],
    [
      'throws',
      'console.error(\'Traceback (most recent call last):\\n  File "t.py"\\nnumpy.core.ShapeError: (3, 4)\'); process.exit(1)',
      /exit code 1: numpy\.core\.ShapeError: \(3, 4\)\nTraceback/,
    ],
    ['throws in JavaScript', "throw new TypeError('no layer')", /exit code 1: TypeError: no layer\n/],
    ['says done and fails after all', `${done} process.exit(1)`, /exit code 1/],
    ['kills itself', "process.kill(process.pid, 'SIGKILL'); forever()", /ended by SIGKILL/],
  ])('that %s has failed, and is told why', async (_what, body, message) => {
    const { error } = await runBody(body);
    expect(error).toMatchObject({ code: 'training-failed', message: expect.stringMatching(message) });
  });

  it('that floods events is ended, whether they are events or not', async () => {
    for (const line of [
      "JSON.stringify({ kind: 'step', metrics: { loss: 1 } }) + '\\n'",
      "'x'.repeat(100)",
    ]) {
      const { error } = await runBody(
        `const many = (${line}).repeat(1000); for (;;) appendFileSync(process.env.CDL_EVENTS, many);`,
      );
      expect(error?.message).toMatch(/more than 0.25 MiB of events/);
    }
  });

  it('whose events weigh more than its files may is not taken for one that fills the disk', async () => {
    const event = "JSON.stringify({ kind: 'step', metrics: { loss: 1 } }) + '\\n'";
    const { error } = await runBody(
      `appendFileSync(process.env.CDL_EVENTS, (${event}).repeat(2000)); setTimeout(() => process.exit(4), 2500);`,
      { limits: { ...limits, disk: 20_000 } },
    );
    expect(error?.message).toMatch(/exit code 4/);
  });

  it('that fills the disk is ended', async () => {
    const { error } = await runBody("keep('big', Buffer.alloc(3 << 20)); forever()", {
      limits: { ...limits, disk: 2 << 20 },
    });
    expect(error).toMatchObject({
      code: 'training-failed',
      message: expect.stringMatching(/more than 2 MiB$/),
    });
  });

  it('is weighed whatever became of the file of its events', async () => {
    const events = 'process.env.CDL_EVENTS';
    const [removed, linked] = await Promise.all([
      runBody(`rmSync(${events}); setTimeout(() => process.exit(4), 2500);`),
      // Were the link followed, what it leads to would be taken from what was written.
      runBody(
        `keep('big', Buffer.alloc(3 << 20)); rmSync(${events}); symlinkSync(process.execPath, ${events});
        setTimeout(() => process.exit(4), 20_000);`,
        { limits: { ...limits, disk: 2 << 20 } },
      ),
    ]);
    expect(removed.error?.message).toMatch(/exit code 4/);
    expect(linked.error?.message).toMatch(/more than 2 MiB$/);
  });

  it('that runs out of memory is told what to lower, and whose memory it was', async () => {
    const saying = (line: string) => runBody(`console.error(${JSON.stringify(line)}); process.exit(1)`);
    const [gpu, machine] = await Promise.all([
      saying('torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB.'),
      saying('MemoryError'),
    ]);
    expect(gpu.error).toMatchObject({
      message:
        'the training command ended with exit code 1: torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB.',
      hint: expect.stringMatching(/^the GPU is out of memory: lower batch_size/),
    });
    expect(machine.error?.hint).toMatch(/^out of memory\? lower batch_size/);
  });

  it('whose program is not there says so', async () => {
    const { error } = await runBody('', { command: ['no-such-python', 'train.py'] });
    expect(error).toMatchObject({
      code: 'config-invalid',
      message: expect.stringMatching(/no-such-python.*ENOENT/),
    });
  });

  it('leaves no process behind, not even one with a session of its own', () =>
    inFolder(async (folder) => {
      const training = await trainingOf(
        folder,
        `const sleep = ['-e', 'setInterval(() => {}, 1000)'];
        const pids = [false, true].map((detached) => spawn(process.execPath, sleep, { detached, stdio: 'inherit' }).pid);
        writeFileSync(import.meta.dirname + '/pids', pids.join());
        ${done} process.exit();`,
      );
      expect((await train(training)).error).toBeNull();
      const pids = (await readFile(join(folder, 'pids'), 'utf8')).split(',').map(Number);
      expect(pids).toHaveLength(2);
      await expect.poll(() => pids.filter(isProcessAlive)).toEqual([]);
    }));

  it('ends with the process that started it, also when that is killed', () =>
    inFolder(async (folder) => {
      const bundle = join(folder, 'parent.mjs');
      await build({
        stdin: {
          contents: `import { startGroup } from './src/exec/group.ts';
            const [, , program, cwd] = process.argv;
            startGroup([process.execPath, program], { cwd, environment: {}, mark: { name: 'CDL_JOB', value: cwd } });`,
          resolveDir: packageRoot(),
        },
        outfile: bundle,
        bundle: true,
        format: 'esm',
        platform: 'node',
      });
      const program = join(folder, 'train.mjs');
      await writeFile(
        program,
        `import { spawn } from 'node:child_process';
        const { pid } = spawn('sleep', ['1000'], { detached: true, stdio: 'ignore' });
        console.log(process.pid + ' ' + pid);
        setInterval(() => {}, 1000);`,
      );
      const parent = spawn(process.execPath, [bundle, program, folder], {
        stdio: ['ignore', 'ignore', 'pipe'],
      });
      const pids = String((await once(parent.stderr, 'data'))[0])
        .split(' ')
        .map(Number);
      expect(pids.map(isProcessAlive)).toEqual([true, true]);
      parent.kill('SIGKILL');
      await expect.poll(() => pids.filter(isProcessAlive)).toEqual([]);
    }));

  it('that is done but does not end is believed after the grace', async () => {
    const { messages, error } = await runBody(`${done} forever();`, { limits: { ...limits, grace: 0.2 } });
    expect(error).toBeNull();
    expect(messages.at(-1)?.kind).toBe('done');
  });

  it('is stopped by SIGTERM, and what it keeps then is told', () =>
    inFolder(async (folder) => {
      const training = await trainingOf(
        folder,
        `process.on('SIGTERM', () => {
          tell({ kind: 'checkpoint', path: keep('at/2', 'two'), epoch: 2, step: 9 });
          process.exit(0);
        });
        tell({ kind: 'epoch', epoch: 1, metrics: {}, checkpoint: keep('at/1', 'one') });
        forever();`,
      );
      const { messages, error } = await train(training, (message, stop) => {
        if (message.kind === 'epoch') stop();
      });
      expect(error?.code).toBe('interrupted');
      expect(messages.at(-1)).toEqual({
        kind: 'stopped',
        epoch: 2,
        step: 9,
        checkpoint: expect.stringMatching(/at\/2$/),
      });
    }));

  it('that ignores SIGTERM is killed after the grace, and goes on from its last checkpoint the next time', () =>
    inFolder(async (folder) => {
      const training = await trainingOf(
        folder,
        `process.on('SIGTERM', () => {});
        if (job.resume) { keep('model', readFileSync(job.resume + '/weights.safetensors')); tell({ kind: 'done', model: 'model' }); }
        else { tell({ kind: 'epoch', epoch: 1, metrics: {}, checkpoint: keep('at/1', 'one') }); forever(); }`,
        { limits: { ...limits, grace: 0.2 } },
      );
      const first = await train(training, (message, stop) => {
        if (message.kind === 'epoch') stop();
      });
      const last = first.messages.at(-1)!;
      expect(last.kind).toBe('stopped');
      const resume = 'checkpoint' in last ? last.checkpoint : null;
      const second = await train({ ...training, job: { ...training.job, resume } });
      expect(second.error).toBeNull();
      expect(await readFile(join(folder, 'output', 'model', 'weights.safetensors'), 'utf8')).toBe('one');
    }));

  it('that fails goes on from a checkpoint it made, and is given up when it makes none', async () => {
    const body = `
      const from = job.resume ? Number(readFileSync(job.resume + '/weights.safetensors', 'utf8')) : 0;
      if (from === 2) { ${done} process.exit(0); }
      if (job.hyperparameters.stuck && from === 1) process.exit(8);
      tell({ kind: 'epoch', epoch: from + 1, metrics: {}, checkpoint: keep('at/' + (from + 1), String(from + 1)) });
      process.exit(7);`;
    const { messages, error } = await runBody(body, { restarts: 5 });
    expect(error).toBeNull();
    expect(messages.map((one) => one.kind)).toEqual(['epoch', 'log', 'epoch', 'log', 'done']);
    const stuck = await inFolder(async (folder) => {
      const training = await trainingOf(folder, body, { restarts: 5 });
      return train({ ...training, job: { ...training.job, hyperparameters: { stuck: true } } });
    });
    expect(stuck.messages.map((one) => one.kind)).toEqual(['epoch', 'log']);
    expect(stuck.error?.message).toMatch(/exit code 8/);
  });
});
