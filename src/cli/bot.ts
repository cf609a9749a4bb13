import { UserError } from '../core/error.ts';
import type { CommandInput } from './types.ts';

/**
 * `cdl bot`, `cdl bot install` and `cdl bot queue`: the one place where the command line reaches into `bot/`, and only when
 * it is called.
 * Throws UserError usage.
 */
export async function bot(input: CommandInput): Promise<number> {
  const [action] = input.args;
  if (action === 'install') {
    const { installHooks } = await import('../../bot/main.ts');
    const { text, data, isSound } = await installHooks(input.env);
    input.console.print(text, data);
    return isSound ? 0 : 69;
  }
  const { attached, replay, drop } = input.options;
  if (action === 'queue') {
    const { tendQueue } = await import('../../bot/main.ts');
    const { text, data } = await tendQueue(input.env, {
      replay: typeof replay === 'string' ? replay : null,
      drop: typeof drop === 'string' ? drop : null,
    });
    input.console.print(text, data);
    return 0;
  }
  if (action !== undefined)
    throw new UserError('usage', `cdl bot takes install, queue or nothing, not ${action}`);
  if (replay !== undefined || drop !== undefined) {
    throw new UserError('usage', '--replay and --drop belong to cdl bot queue');
  }
  const { main } = await import('../../bot/main.ts');
  if (attached) {
    // Whoever started it is gone, however that one ended.
    process.stdin.resume().once('end', () => process.kill(process.pid, 'SIGTERM'));
  }
  return main(input.env);
}
