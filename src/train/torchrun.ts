import { basename } from 'node:path';
import { signalName } from '../exec/group.ts';
import { type Launch, launchHere } from './launch.ts';

/** Every process but the first tells its events to nobody: two that append to one file would be believed twice. */
const firstSpeaks = 'test "$RANK" = 0 || export CDL_EVENTS=/dev/null; exec "$@"';

/**
 * Starts a training command `processes` times on this machine by torchrun (torch.distributed.run), which sets RANK, LOCAL_RANK,
 * WORLD_SIZE, MASTER_ADDR and MASTER_PORT. Only rank 0 gets `CDL_EVENTS`. When one of them fails torchrun ends all; when it gets
 * SIGTERM it hands that on, and kills after the grace. It is the command's own Python where the command begins with one.
 */
export const launchByTorchrun =
  (processes: number): Launch =>
  (command, place) => {
    const program = command[0]!;
    const launcher = /^python[\d.]*$/.test(basename(program))
      ? [program, '-m', 'torch.distributed.run']
      : ['torchrun'];
    const shutdown = String(Math.max(1, Math.ceil(place.grace)));
    return launchHere(
      [
        ...launcher,
        // A free port of this machine, whatever its name resolves to.
        ...['--standalone', '--local-addr', '127.0.0.1', '--nproc-per-node', String(processes)],
        ...['--shutdown-timeout', shutdown, '--no-python', 'sh', '-c', firstSpeaks, 'sh', ...command],
      ],
      place,
    );
  };

/** The process whose failure ended all others: how it ended, and what it wrote. */
export interface RankFailure {
  rank: number;
  code: number | null;
  signal: string | null;
  /** Its last lines, without those of torchrun and of the processes that lost it. */
  lines: string[];
}

/** Finds the first failure in what torchrun wrote; null when there is none. */
export function torchrunFailure(output: string): RankFailure | null {
  const lines = output.split('\n');
  const mark = /torch\/distributed\/elastic\/\S+ failed \(exitcode: (-?\d+)\) local_rank: (\d+)/;
  const at = lines.findIndex((line) => mark.test(line));
  if (at < 0) return null;
  const [, status, rank] = mark.exec(lines[at]!)!;
  const before = lines.slice(0, at).filter((line) => !line.includes('torch/distributed/elastic/'));
  // What a process prints once it joined the others begins with its rank.
  const own = before.filter((line) => line.startsWith(`[rank${rank}]:`));
  const code = Number(status);
  return {
    rank: Number(rank),
    code: code < 0 ? null : code,
    signal: code < 0 ? signalName(-code) : null,
    lines: own.length > 0 ? own : before,
  };
}
