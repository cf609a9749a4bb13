import {
  decodeStepFailure,
  type Forge,
  type Job,
  keepNewest,
  keptFor,
  type StepFailure,
  stepFailurePath,
  UserError,
} from '../src/index.ts';

/** Most jobs of a pipeline whose words are shown. */
const mostJobs = 3;

/** What jobs said, by job: one that has ended says nothing else later. */
const heard = new WeakMap<Forge, Map<string, StepFailure | null>>();

/** What the steps of failed jobs said they failed of, by job. A job whose step said nothing that can be read is left out. */
export async function readFailures(
  forge: Forge,
  failed: readonly Job[],
): Promise<ReadonlyMap<string, StepFailure>> {
  const known = keptFor(heard, forge);
  const said = new Map<string, StepFailure>();
  for (const { id } of failed.filter((job) => job.state === 'failed').slice(0, mostJobs)) {
    let failure = known.get(id);
    if (failure === undefined) {
      const bytes = await forge.artifact(id, stepFailurePath, 16_384).catch((error: unknown) => {
        if (error instanceof UserError) return null;
        throw error;
      });
      failure = keepNewest(known, 1000, id, bytes ? decodeStepFailure(bytes) : null);
    }
    if (failure) said.set(id, failure);
  }
  return said;
}
