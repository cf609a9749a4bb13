import { UserError } from '../core/error.ts';
import { plural } from '../core/plural.ts';
import { openMlflow } from '../model/mlflow.ts';
import { mirrorRun, mirrorVersion } from '../model/mlflow-mirror.ts';
import { listVersions } from '../model/registry.ts';
import type { RunsDesk } from './runs.ts';
import type { CommandInput } from './types.ts';

/**
 * `cdl runs mirror [RUN…]`: sends runs (without any, all), and the versions made of them, to the MLflow server of
 * CDL_MLFLOW_URL, oldest first. What is there is not sent again. Throws UserError environment-missing, forge-denied, and
 * UpstreamError.
 */
export async function mirror(input: CommandInput, desk: RunsDesk, what: readonly string[]): Promise<number> {
  const { ctx, work } = desk;
  const access = ctx.mlflow();
  if (!access) {
    throw new UserError(
      'environment-missing',
      'CDL_MLFLOW_URL is not set: where is the MLflow server?',
      'for GitLab: https://gitlab.example.com/api/v4/projects/<id>/ml/mlflow, with a token in CDL_MLFLOW_TOKEN',
    );
  }
  const server = openMlflow(access);
  const { project } = ctx.project;
  const chosen = (await desk.chosen(what)).toReversed();
  const ids = new Map<string, string>();
  let [runs, versions] = [0, 0];
  for (const [index, run] of chosen.entries()) {
    ctx.signal.throwIfAborted();
    input.console.progress('runs', index / chosen.length);
    const done = await mirrorRun(server, work, project, run);
    ids.set(run.digest, done.id);
    if (done.state === 'sent') runs += 1;
  }
  for (const model of new Set(chosen.map(({ facts }) => facts.model))) {
    for (const version of await listVersions(work, project, model)) {
      const id = ids.get(version.run);
      if (id && (await mirrorVersion(server, work, version, id)) === 'sent') versions += 1;
    }
  }
  input.console.progress('runs', 1);
  const there = chosen.length - runs;
  input.console.print(
    `${plural(runs, 'run')} and ${plural(versions, 'version')} sent to ${new URL(access.url).host}${there > 0 ? `, ${plural(there, 'run')} there already` : ''}`,
    { sent: { runs, versions }, there },
  );
  return 0;
}
