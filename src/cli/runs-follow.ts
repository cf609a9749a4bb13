import { UserError } from '../core/error.ts';
import { openRemote } from './remote.ts';
import { follow } from './run.ts';
import type { RunsDesk } from './runs.ts';
import type { CommandInput } from './types.ts';

/** `cdl runs follow PIPELINE|RUN`: the logs of a pipeline as they grow, until it ends; exits as the pipeline did. */
export async function followRun(
  input: CommandInput,
  desk: RunsDesk,
  what: readonly string[],
): Promise<number> {
  const [one, ...more] = what;
  if (one === undefined || more.length > 0) {
    throw new UserError('usage', 'cdl runs follow takes one pipeline, or the run that it made');
  }
  const remote = await openRemote(input, desk.ctx.root, String(input.options.to));
  if (/^\d{1,20}$/.test(one)) return follow(input, desk.ctx, remote, one);
  const [run] = await desk.chosen([one]);
  const { pipeline } = run!.facts;
  if (pipeline !== null) return follow(input, desk.ctx, remote, pipeline);
  throw new UserError('input-missing', `run ${one} was made by no pipeline`, 'see cdl runs show');
}
