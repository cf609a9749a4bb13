import { UserError } from '../core/error.ts';
import type { CommandInput } from './types.ts';

/**
 * `cdl bot` and `cdl bot install`: the one place where the command line reaches into `bot/`, and only when it is called.
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
  if (action !== undefined) throw new UserError('usage', `cdl bot takes install or nothing, not ${action}`);
  const { main } = await import('../../bot/main.ts');
  if (input.options.attached) {
    // Whoever started it is gone, however that one ended.
    process.stdin.resume().once('end', () => process.kill(process.pid, 'SIGTERM'));
  }
  return main(input.env);
}
