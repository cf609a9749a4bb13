import type { CommandInput } from './program.ts';

/** `cdl bot`: the one place where the command line reaches into `bot/`, and only when it is called. */
export async function bot(input: CommandInput): Promise<number> {
  const { runBot } = await import('../../bot/main.ts');
  await runBot(input.env, input.console.signal);
  return 0;
}
