import type { CommandInput } from './types.ts';

/** `cdl bot`: the one place where the command line reaches into `bot/`, and only when it is called. */
export async function bot(input: CommandInput): Promise<number> {
  const { main } = await import('../../bot/main.ts');
  return main(input.env);
}
