import { mkdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { shortDigest } from '../core/digest.ts';
import type { ModelConfig } from '../core/project.ts';
import { ownerName } from '../exec/owner.ts';
import { cloneAt, type Snapshot, takeSnapshot } from '../exec/snapshot.ts';
import { renderTerminal } from '../report/terminal.ts';
import { createContext, readProject } from '../steps/context.ts';
import { openHandover } from '../steps/handover.ts';
import { steps } from '../steps/index.ts';
import { parseParameters } from '../steps/parameters.ts';
import { runStep, type StepResult } from '../steps/run-step.ts';
import { modelOf } from '../steps/subject.ts';
import { type Ctx, outputDigest } from '../steps/types.ts';
import { count } from './data-text.ts';
import type { CommandInput } from './types.ts';

/** The steps up to a trained model, as the starter pipeline has them, each with its subject. */
export function stepsOf(
  project: Ctx['project'],
  model: string,
  config: ModelConfig,
): { step: string; params: Record<string, string> }[] {
  const { data } = config;
  const { item, clean, rules } = project.datasets[data]!;
  const ofData = (step: string) => ({ step, params: { dataset: data } });
  const ofModel = (step: string) => ({ step, params: { model } });
  return [
    ofData('ingest'),
    ...(clean !== undefined || rules.check !== undefined ? [ofData('clean')] : []),
    ofData('validate'),
    ...(item === 'tensor' ? [] : [ofModel('transform')]),
    ...(config.tune ? [ofModel('tune')] : []),
    ofModel('train'),
  ];
}

/** What a snapshot is, in one line. */
export function snapshotText({ commit, isNew, untracked }: Snapshot): string {
  const short = commit.slice(0, 12);
  if (!isNew) return `nothing differs from commit ${short}`;
  const shown = untracked.slice(0, 5).join(', ');
  const more = untracked.length > 5 ? ` and ${untracked.length - 5} more` : '';
  const added = untracked.length > 0 ? `, with ${count(untracked.length, 'new file')}: ${shown}${more}` : '';
  return `snapshot ${short} of your worktree${added}`;
}

/**
 * `cdl run [MODEL]`: the steps up to a trained model, on a snapshot of the worktree, so that it may be edited meanwhile. Exit 4
 * when a step said no.
 */
export async function runHere(input: CommandInput): Promise<number> {
  const started = performance.now();
  const ctx = await createContext(input.cwd, input.env, input.console);
  const { model } = modelOf(ctx, input.args[0] ?? '');
  const snapshot = await takeSnapshot(ctx.root, input.env);
  ctx.log(snapshotText(snapshot));
  const folder = join(tmpdir(), `cdl-run-${ownerName()}`);
  await mkdir(folder, { mode: 0o700 });
  try {
    const clone = join(folder, 'clone');
    await cloneAt(ctx.root, snapshot.commit, clone);
    const project = await readProject(clone);
    const handover = openHandover(join(folder, 'handover'));
    const there: Ctx = { ...ctx, root: clone, ref: 'HEAD', project, handover };
    const { config } = modelOf(there, model);
    const done: (StepResult & { step: string })[] = [];
    for (const { step: name, params } of stepsOf(project, model, config)) {
      there.signal.throwIfAborted();
      const at = performance.now();
      const step = await steps.find((one) => one.name === name)!.load();
      const result = await runStep(step, there, parseParameters(step.params, params));
      const how = result.cached ? 'cached' : `${((performance.now() - at) / 1000).toFixed(1)} s`;
      ctx.log(`${name} ${result.subject}: ${result.report.verdict}, ${how}`);
      done.push({ ...result, step: name });
      if (result.report.verdict === 'fail') break;
    }
    return tell(input, snapshot, model, done, (performance.now() - started) / 1000);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

function tell(
  input: CommandInput,
  snapshot: Snapshot,
  model: string,
  done: readonly (StepResult & { step: string })[],
  seconds: number,
): number {
  const last = done.at(-1)!;
  const run = last.step === 'train' ? outputDigest(last.outputs, 'run') : null;
  const next = run
    ? `\nrun ${shortDigest(run)}: cdl runs show ${run.slice(7, 15)}, and cdl reproduce --run ${run.slice(7, 15)} makes it again`
    : '';
  input.console.print(`${renderTerminal(last.report, input.console)}${next}`, {
    model,
    commit: snapshot.commit,
    snapshot: snapshot.isNew,
    run,
    verdict: last.report.verdict,
    summary: last.report.summary,
    steps: done.map(({ step, subject, cached, outputs, report }) => ({
      step,
      subject,
      cached,
      verdict: report.verdict,
      outputs,
    })),
    seconds: Number(seconds.toFixed(3)),
  });
  return last.report.verdict === 'fail' ? 4 : 0;
}
