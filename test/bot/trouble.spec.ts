import { describe, expect, it } from 'vitest';
import { reportRecovery, reportTrouble } from '../../bot/trouble.ts';
import { type Report, renderMarkdown, UserError } from '../../src/index.ts';

const told = async (work: (context: Parameters<typeof reportTrouble>[0]) => Promise<void>) => {
  const said: { change: number; key: string; text: string }[] = [];
  const cursors = new Map<string, string>();
  const state = { cursor: async (name: string) => cursors.get(name) ?? null };
  const forge = { getChange: async () => ({ draft: false, state: 'open' }) };
  const effects = {
    setCursor: async (name: string, value: string) => void cursors.set(name, value),
    comment: async (change: number, key: string, report: Report) => {
      said.push({ change, key, text: renderMarkdown(report) });
    },
  };
  await work({ effects, state, forge } as never);
  return said;
};

describe('what a change hears of the bot being stuck', () => {
  it('is the message and the next step, in one comment that later says it goes on', async () => {
    const error = new UserError(
      'forge-denied',
      'POST /pipeline: 400 Pipeline filtered out by workflow rules',
    );
    const [stuck, better, ...more] = await told(async (context) => {
      for (let i = 0; i < 2; i++) await reportTrouble(context, 7, error);
      for (let i = 0; i < 2; i++) await reportRecovery(context, 7);
    });
    expect(more).toEqual([]);
    expect(stuck).toMatchObject({ change: 7, key: 'trouble' });
    expect(stuck!.text).toContain('Pipeline filtered out by workflow rules');
    expect(stuck!.text).toContain('check that the token is valid');
    expect(better).toMatchObject({ change: 7, key: 'trouble' });
    expect(better!.text).toContain('goes on');
  });

  it('holds no trace and no inner message of a bug', async () => {
    const [stuck] = await told((context) =>
      reportTrouble(context, 7, new TypeError('x.secret is undefined')),
    );
    expect(stuck!.text).not.toMatch(/secret|TypeError|at /);
    expect(stuck!.text).toContain('log of the bot');
  });
});
