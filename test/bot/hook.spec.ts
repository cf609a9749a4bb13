import { describe, expect, it } from 'vitest';
import { createHookKeeper, planHook, tellHook } from '../../bot/hook.ts';
import { createMetrics } from '../../bot/metrics.ts';
import { type Hook, UserError } from '../../src/index.ts';

const well: Hook = { health: 'working', until: null, signed: true, missing: [] };
const wanted = { url: 'https://bot.example.com/webhooks/gitlab', token: null, signingToken: 'whsec_' };

describe('what a webhook calls for', () => {
  it.each([
    [null, 'install'],
    [well, 'nothing'],
    [{ ...well, health: 'off' as const }, 'revive'],
    [{ ...well, health: 'resting' as const, missing: ['push_events'] }, 'revive'],
    [{ ...well, missing: ['push_events'] }, 'repair'],
    [{ ...well, signed: false }, 'repair'],
  ])('%o: %s', (found, plan) => expect(planHook(found, true)).toBe(plan));

  it('is nothing on a GitLab that never signed', () => {
    expect(planHook({ ...well, signed: false }, false)).toBe('nothing');
  });
});

describe('what is said of a webhook', () => {
  it('tells the fallback to the secret token, and the lack of both', () => {
    const unsigned = { done: 'install' as const, hook: { ...well, signed: false }, test: null };
    expect(tellHook('acme/a', { ...wanted, token: 'secret' }, unsigned).join()).toContain(
      'they carry CDL_WEBHOOK_SECRET instead',
    );
    expect(tellHook('acme/a', wanted, unsigned).join()).toContain('the bot will refuse them all');
  });
});

describe('a keeper', () => {
  it('says once what it cannot do, says it again when that changes, and goes on', async () => {
    const said: string[] = [];
    const log = { warn: (_: object, text: string) => said.push(text), info: () => {} };
    const metrics = createMetrics();
    let answer: () => Promise<Hook | null> = async () => {
      throw new UserError('forge-denied', 'gitlab refused: 403');
    };
    const keep = createHookKeeper({
      project: 'acme/a',
      forge: {
        findHook: () => answer(),
        ensureHook: async () => well,
        testHook: async () => ({ delivered: true, detail: 'taken' }),
      },
      wanted,
      repairs: metrics.hookRepairs,
      log: log as never,
    });
    for (let i = 0; i < 3; i++) await keep();
    expect(said).toEqual(['the webhook cannot be looked after: gitlab refused: 403']);
    answer = async () => null;
    await keep();
    expect(await metrics.hookRepairs.get()).toMatchObject({ values: [] });
    await keep();
    expect(said.slice(1)).toEqual(['webhook was put right']);
    expect((await metrics.hookRepairs.get()).values).toMatchObject([
      { value: 1, labels: { what: 'install', outcome: 'works' } },
    ]);
  });
});
