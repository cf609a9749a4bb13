import { join } from 'node:path';
import { shortDigest } from '../core/digest.ts';
import { UpstreamError, UserError } from '../core/error.ts';
import type { DatasetConfig } from '../core/project.ts';
import type { LabelsConfig } from '../core/project-labels.ts';
import { nearest } from '../core/suggest.ts';
import { historyOf, type LabelScope, votesAsOf } from '../data/label-history.ts';
import { agreementOfVotes, resolveVotes, type Vote, votesByItem } from '../data/label-set.ts';
import { openLabelStudio } from '../data/label-studio.ts';
import { projectTitle, type SyncInput, type SyncResult, syncLabels } from '../data/label-sync.ts';
import { hookHeader, watchLabels } from '../data/label-watch.ts';
import { openDatabase } from '../db/index.ts';
import type { Database } from '../db/types.ts';
import { cacheFolder, createContext } from '../steps/context.ts';
import { datasetNamed } from '../steps/subject.ts';
import type { Ctx } from '../steps/types.ts';
import type { CommandInput } from './types.ts';

interface Subject {
  ctx: Ctx;
  scope: LabelScope;
  dataset: DatasetConfig;
  labels: LabelsConfig;
}

const actions = ['sync', 'show', 'history', 'conflicts', 'agreement'];

async function subjectOf(input: CommandInput): Promise<Subject> {
  const ctx = await createContext(input.cwd, input.env, input.console);
  const { dataset: name, config } = datasetNamed(ctx, String(input.options.dataset ?? ''));
  if (!config.labels) {
    throw new UserError(
      'config-invalid',
      `datasets.${name} has no labels:`,
      'say in cdl.yaml how it is labelled',
    );
  }
  const side = input.options.side === 'test' ? 'test' : 'train';
  return {
    ctx,
    scope: { project: ctx.project.project, dataset: name, side },
    dataset: config,
    labels: config.labels,
  };
}

/** The label database is for long-lived processes, protected jobs and people, never for a job that runs a change's code. */
function mayUseDatabase(ctx: Ctx): void {
  const { ci } = ctx;
  if (!ci) return;
  if (ci.change !== null || ci.source.startsWith('merge_request') || ci.source.startsWith('pull_request')) {
    throw new UserError(
      'not-permitted',
      'cdl labels does not run in the pipeline of a change',
      'run it on a protected branch, or as a long-lived process',
    );
  }
  if (!ci.protectedRef) throw new UserError('not-protected', 'cdl labels runs on protected branches only');
}

function need(input: CommandInput, name: string): string {
  const value = input.env[name];
  if (value) return value;
  throw new UserError('environment-missing', `${name} is not set`);
}

const told = (done: SyncResult) =>
  `${done.tasks} tasks: ${done.created} new, ${done.updated} changed, ${done.deleted} deleted labels${done.imported > 0 ? `, ${done.imported} imported ones not taken` : ''}; label set ${shortDigest(done.labels)}${done.changed ? '' : ' (as before)'}`;

async function sync(input: CommandInput, subject: Subject, database: Database): Promise<number> {
  const { ctx, scope, labels, dataset } = subject;
  if (dataset.item !== 'text' && dataset.item !== 'image') {
    throw new UserError(
      'config-invalid',
      `datasets.${scope.dataset}: items that people label are texts or images`,
    );
  }
  const work: SyncInput = {
    scope,
    config: labels,
    kind: dataset.item,
    classes: dataset.classes,
    server: openLabelStudio({
      url: need(input, 'CDL_LABEL_STUDIO_URL'),
      token: need(input, 'CDL_LABEL_STUDIO_TOKEN'),
    }),
    database,
    zone: await ctx.zone('trusted'),
    now: () => new Date(),
  };
  if (input.options.once === true) {
    const done = await syncLabels(work);
    input.console.print(told(done), done);
    return 0;
  }
  const url = input.options.hookUrl as string | undefined;
  const seconds = Number(input.options.poll);
  const port = Number(input.options.port);
  if (!(seconds >= 1) || !(port >= 0 && port < 65536)) {
    throw new UserError('usage', '--poll takes seconds (1 or more), --port a port');
  }
  const secret = url === undefined ? null : need(input, 'CDL_LABEL_HOOK_TOKEN');
  const watch = await watchLabels({
    seconds,
    signal: input.console.signal,
    hook: secret === null ? null : { host: String(input.options.host), port, secret },
    async look() {
      try {
        const done = await syncLabels(work);
        if (done.changed) input.console.log(told(done));
      } catch (error) {
        if (!(error instanceof UpstreamError && error.retryable)) throw error;
        input.console.log(`${error.message}; looking again in ${seconds} s`);
      }
    },
  });
  if (url !== undefined && secret !== null) {
    const { server } = work;
    const project = await server.ensureProject(
      projectTitle(labels, scope.side),
      dataset.item,
      dataset.classes,
      labels.multiple,
    );
    await server.ensureWebhook(project, url, { [hookHeader]: secret });
  }
  input.console.print(
    `labels of ${scope.dataset} (${scope.side}): looking every ${seconds} s${watch.port === null ? '' : `, webhooks at port ${watch.port}`}`,
    { dataset: scope.dataset, side: scope.side, port: watch.port },
  );
  await watch.ended;
  return 0;
}

function standingRows(subject: Subject, votes: readonly Vote[]) {
  return [...votesByItem(votes)].map(([item, list]) => ({
    item,
    votes: list.length,
    resolution: resolveVotes(list, subject.labels, subject.dataset.classes),
  }));
}

function describe(resolution: ReturnType<typeof resolveVotes>): string {
  switch (resolution.kind) {
    case 'labelled':
      return resolution.label;
    case 'conflict':
      return `conflict: ${resolution.choices.map(([choice, count]) => `${count} × ${choice}`).join(', ')}`;
    case 'scarce':
      return 'not enough votes';
    case 'unknown-choice':
      return `not a class: ${resolution.choice}`;
  }
}

const figure = (value: number | null) => (value === null ? 'not defined' : value.toFixed(3));

/**
 * `cdl labels sync | show | history <item> | conflicts | agreement`. Throws UserError not-permitted in the pipeline of a
 * change, not-protected on other branches.
 */
export async function labels(input: CommandInput): Promise<number> {
  const action = input.args[0] ?? 'show';
  if (!actions.includes(action)) {
    const guess = nearest(action, actions);
    throw new UserError(
      'usage',
      `cdl labels takes ${actions.join(', ')}, not ${action}${guess ? ` — did you mean ${guess}?` : ''}`,
    );
  }
  const subject = await subjectOf(input);
  mayUseDatabase(subject.ctx);
  const asOf = input.options.asOf === undefined ? null : new Date(String(input.options.asOf));
  if (asOf && Number.isNaN(asOf.getTime())) {
    throw new UserError(
      'usage',
      `--as-of takes a time like 2026-03-01T12:00:00Z, not ${String(input.options.asOf)}`,
    );
  }
  const database = await openDatabase({
    url: input.env.CDL_DATABASE || null,
    folder: join(cacheFolder(input.env), 'database'),
  });
  try {
    if (action === 'sync') return await sync(input, subject, database);
    if (action === 'history') {
      const item = input.args[1];
      if (!item)
        throw new UserError('usage', 'cdl labels history takes an item (its sha256, or how it starts)');
      const lines = await historyOf(database, subject.scope, item);
      const text = lines.map((one) =>
        [
          one.at,
          shortDigest(one.item),
          one.kind.padEnd(7),
          `${one.previous ? `${one.previous.join(' + ')} → ` : ''}${one.choices.join(' + ') || '–'}`,
          `by ${one.labeler ?? 'unknown'}`,
        ].join('  '),
      );
      input.console.print(text.join('\n') || 'nobody has labelled it', lines);
      return 0;
    }
    const votes = await votesAsOf(database, subject.scope, asOf ? { time: asOf } : {});
    if (action === 'agreement') {
      const found = agreementOfVotes(votes);
      const text = [
        `items with two votes or more  ${found.items}`,
        `percent agreement             ${figure(found.percent)}`,
        ...(found.cohen === null ? [] : [`Cohen's kappa                 ${figure(found.cohen)}`]),
        `Fleiss' kappa                 ${figure(found.fleiss)}`,
        `Krippendorff's alpha          ${figure(found.alpha)}`,
      ].join('\n');
      input.console.print(text, found);
      return 0;
    }
    const rows = standingRows(subject, votes).filter(
      ({ resolution }) => action === 'show' || resolution.kind === 'conflict',
    );
    const text = rows.map(
      ({ item, votes: count, resolution }) =>
        `${shortDigest(item)}  ${count} vote${count === 1 ? ' ' : 's'}  ${describe(resolution)}`,
    );
    input.console.print(
      text.join('\n') || (action === 'show' ? 'there are no labels yet' : 'no conflicts'),
      rows,
    );
    return 0;
  } finally {
    await database.close();
  }
}
