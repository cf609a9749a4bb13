import type { CommandInput } from './types.ts';

/** `cdl bot`: the one place where the command line reaches into `bot/`, and only when it is called. */
export async function bot(input: CommandInput): Promise<number> {
  const { main } = await import('../../bot/main.ts');
  if (input.options.attached) {
    // Whoever started it is gone, however that one ended.
    process.stdin.resume().once('end', () => process.kill(process.pid, 'SIGTERM'));
  }
  return main(input.env);
}
