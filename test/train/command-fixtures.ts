import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type CommandMessage, type CommandTraining, trainByCommand } from '../../src/train/command.ts';
import type { CommandJob } from '../../src/train/command-protocol.ts';
import { launchHere } from '../../src/train/launch.ts';

/** Limits that tests reach in no time. */
export const limits = { grace: 5, disk: 2 ** 30, events: 2 ** 18 };

/** Writes a program `name` into a folder, and says how to train with it: by the given interpreter, on no data. */
export async function commandTraining(
  folder: string,
  interpreter: string,
  [name, text]: [name: string, text: string],
  more: Partial<CommandTraining> = {},
): Promise<CommandTraining> {
  const program = join(folder, name);
  await writeFile(program, text);
  const scratch = join(folder, 'scratch');
  await mkdir(scratch, { recursive: true });
  const numbers = { items: '', labels: '', count: 0 };
  const job: CommandJob = {
    v: 1,
    model: 'm',
    hyperparameters: { epochs: 3 },
    seed: 1,
    classes: ['a', 'b'],
    data: { shape: [1], type: 'uint8', train: numbers, validation: numbers },
    pretrained: null,
    output: join(folder, 'output'),
    resume: null,
    resources: { gpu: 0, cpu: 1, memory: '1Gi' },
  };
  const environment = { PATH: process.env.PATH ?? '' };
  return {
    command: [interpreter, program],
    launch: launchHere,
    folder,
    scratch,
    environment,
    job,
    restarts: 0,
    limits,
    ...more,
  };
}

/** Runs a program to its end; `seen` is told every message, and may stop it. */
export async function train(
  training: CommandTraining,
  seen: (message: CommandMessage, stop: () => void) => void = () => {},
): Promise<{ messages: CommandMessage[]; error: { code: string; message: string; hint: string } | null }> {
  const stop = new AbortController();
  const messages: CommandMessage[] = [];
  try {
    for await (const message of trainByCommand(training, stop.signal)) {
      messages.push(message);
      seen(message, () => stop.abort());
    }
    return { messages, error: null };
  } catch (error) {
    const { code, message, hint } = error as { code: string; message: string; hint: string };
    return { messages, error: { code, message, hint } };
  }
}
