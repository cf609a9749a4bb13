/** When trials are judged and how many go on. */
export interface AshaSettings {
  /** Epochs of a trial that is never stopped (R of the paper). */
  maxEpochs: number;
  /** Epochs at the lowest rung (r). */
  grace: number;
  /** One in so many goes on (η). */
  reduction: number;
}

/** What a scheduler must know of a trial. */
export interface TrialState {
  id: number;
  /** Loss at each rung it has reached, from the lowest; lower is better. */
  losses: readonly number[];
  /** `running`: some worker has it. `failed`: it never goes on. */
  state: 'running' | 'waiting' | 'failed';
}

/** Epochs at which trials are judged, ascending: grace·ηᵏ below the most, then the most. */
export function rungs({ maxEpochs, grace, reduction }: AshaSettings): number[] {
  const levels: number[] = [];
  for (let epochs = grace; epochs < maxEpochs; epochs *= reduction) levels.push(epochs);
  return [...levels, maxEpochs];
}

/** What a free worker does next. */
export type Decision = { kind: 'promote'; trial: number; rung: number } | { kind: 'new' };

/**
 * Asynchronous successive halving (Li et al. 2018, algorithm 2, `get_job`): from the highest rung down, a trial that is
 * among the best ⌊n/η⌋ of the n that completed the rung and has not gone on yet is promoted; if there is none, a new
 * configuration begins at the lowest rung. Of equal losses the earlier trial is the better one. Pure.
 */
export function decide(trials: readonly TrialState[], settings: AshaSettings): Decision {
  const top = rungs(settings).length - 1;
  for (let rung = top - 1; rung >= 0; rung--) {
    const done = trials
      .filter((trial) => trial.losses.length > rung)
      .sort((a, b) => a.losses[rung]! - b.losses[rung]! || a.id - b.id);
    const promotable = done
      .slice(0, Math.floor(done.length / settings.reduction))
      .find((trial) => trial.losses.length === rung + 1 && trial.state === 'waiting');
    if (promotable) return { kind: 'promote', trial: promotable.id, rung: rung + 1 };
  }
  return { kind: 'new' };
}
