import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Digest, digestBytes } from '../../src/core/digest.ts';
import { planDeployment } from '../../src/deploy/plan.ts';
import type { Plan, Progress, Target } from '../../src/deploy/types.ts';
import type { TinyPackage } from '../serve/tiny-package.ts';

/** A target under test, with packages it can run. */
export interface TargetUnderTest {
  target: Target;
  /** A good package whose answers depend on `bias`. */
  good(bias: number): Promise<TinyPackage>;
  /** A package that does not start, answers wrong shapes, or answers no numbers. */
  bad(fault: 'crash' | 'shape' | 'nan'): Promise<TinyPackage>;
  stop(): Promise<void>;
}

/** A made-up candidate for a number. */
export function candidate(number: number): Digest {
  return digestBytes(`candidate ${number}`);
}

/** A plan for the tiny model. */
export function planOf(
  tiny: TinyPackage,
  from: number | null,
  to: number,
  more: { environment?: string; traffic?: number[]; replicas?: number; model?: string } = {},
): Plan {
  return planDeployment({
    project: 'tests',
    model: more.model ?? 'tiny',
    environment: more.environment ?? 'production',
    from: from === null ? null : candidate(from),
    fromPackage: null,
    to: candidate(to),
    package: tiny.digest,
    version: to,
    bytes: tiny.bytes,
    environmentConfig: {
      target: 'local',
      replicas: more.replicas ?? 1,
      traffic: more.traffic ?? [50, 100],
      max_error_rate: 0.01,
    },
    resources: null,
  });
}

/** Applies a plan to its end. */
export async function applyAll(target: Target, plan: Plan, folder: string): Promise<Progress[]> {
  const steps: Progress[] = [];
  for await (const step of target.apply(plan, folder, new AbortController().signal)) steps.push(step);
  return steps;
}

/** Asks for one answer; the version that gave it and its first probability. */
export async function ask(endpoint: string, model = 'tiny'): Promise<{ version: string; first: number }> {
  const response = await fetch(`${endpoint}/v2/models/${model}/infer`, {
    method: 'POST',
    body: JSON.stringify({
      inputs: [{ name: 'input', datatype: 'UINT8', shape: [1, 2, 2], data: [1, 2, 3, 4] }],
    }),
  });
  if (response.status !== 200) throw new Error(`${response.status}: ${await response.text()}`);
  const body = (await response.json()) as { model_version: string; outputs: { data: number[] }[] };
  return { version: body.model_version, first: body.outputs[0]!.data[0]! };
}

/** What every target does. */
export function targetContract(name: string, open: () => Promise<TargetUnderTest>): void {
  describe(`target ${name}`, () => {
    let under: TargetUnderTest;
    beforeAll(async () => {
      under = await open();
    });
    afterAll(() => under.stop());

    test('has nothing live before the first deployment', async () => {
      expect(await under.target.live('tiny', 'production')).toBeNull();
    });

    test('a first version that does not start leaves nothing behind', async () => {
      const steps = await applyAll(
        under.target,
        planOf(await under.bad('crash'), null, 90),
        (await under.bad('crash')).folder,
      );
      expect(steps.at(-1)).toMatchObject({
        kind: 'restored',
        endpoint: null,
        reason: expect.stringContaining('this package does not start'),
      });
      expect(await under.target.live('tiny', 'production')).toBeNull();
    });

    test('a first version gets all requests and answers at the endpoint', async () => {
      const tiny = await under.good(0);
      const steps = await applyAll(under.target, planOf(tiny, null, 1), tiny.folder);
      const last = steps.at(-1)!;
      expect(steps.findLast((step) => step.kind === 'step')).toMatchObject({ traffic: 100 });
      if (last.kind !== 'ready') throw new Error(JSON.stringify(last));
      expect(await under.target.live('tiny', 'production')).toEqual({
        candidate: candidate(1),
        endpoint: last.endpoint,
      });
      expect((await ask(last.endpoint)).version).toBe('1');
    });

    test('the same plan again changes nothing', async () => {
      const tiny = await under.good(0);
      const before = await under.target.live('tiny', 'production');
      const steps = await applyAll(under.target, planOf(tiny, null, 1), tiny.folder);
      expect(steps.at(-1)).toMatchObject({ kind: 'ready' });
      expect(await under.target.live('tiny', 'production')).toEqual(before);
    });

    test('a next version takes the traffic step by step and answers differently at the same endpoint', async () => {
      const before = (await under.target.live('tiny', 'production'))!;
      const old = await ask(before.endpoint);
      const tiny = await under.good(2);
      const steps = await applyAll(under.target, planOf(tiny, 1, 2), tiny.folder);
      const traffic = steps.flatMap((step) => (step.kind === 'step' ? [step.traffic] : []));
      expect(traffic).toEqual([...traffic].sort((a, b) => a - b));
      expect(traffic).toContain(50);
      expect(traffic.at(-1)).toBe(100);
      expect(await under.target.live('tiny', 'production')).toEqual({ ...before, candidate: candidate(2) });
      const fresh = await ask(before.endpoint);
      expect(fresh.version).toBe('2');
      expect(fresh.first).not.toBe(old.first);
    });

    for (const fault of ['crash', 'shape', 'nan'] as const) {
      test(`a version with the fault "${fault}" is taken back, and the one before keeps answering`, async () => {
        const before = (await under.target.live('tiny', 'production'))!;
        const tiny = await under.bad(fault);
        const steps = await applyAll(under.target, planOf(tiny, 2, 91), tiny.folder);
        expect(steps.at(-1)).toMatchObject({ kind: 'restored', endpoint: before.endpoint });
        expect(await under.target.live('tiny', 'production')).toEqual(before);
        expect((await ask(before.endpoint)).version).toBe('2');
      });
    }

    test('environments are apart', async () => {
      const tiny = await under.good(5);
      const steps = await applyAll(
        under.target,
        planOf(tiny, null, 7, { environment: 'staging' }),
        tiny.folder,
      );
      const last = steps.at(-1)!;
      if (last.kind !== 'ready') throw new Error(JSON.stringify(last));
      expect((await ask(last.endpoint)).version).toBe('7');
      const production = (await under.target.live('tiny', 'production'))!;
      expect((await ask(production.endpoint)).version).toBe('2');
    });

    test('an aborted deployment says so, keeps answering, and goes on when applied again', async () => {
      const before = (await under.target.live('tiny', 'production'))!;
      const tiny = await under.good(3);
      const plan = planOf(tiny, 2, 3);
      const controller = new AbortController();
      const aborted = async () => {
        for await (const step of under.target.apply(plan, tiny.folder, controller.signal)) {
          if (step.kind === 'step' && step.traffic === 50) controller.abort();
        }
      };
      await expect(aborted()).rejects.toMatchObject({ code: 'interrupted' });
      expect((await under.target.live('tiny', 'production'))!.candidate).toBe(candidate(2));
      await ask(before.endpoint);
      expect((await applyAll(under.target, plan, tiny.folder)).at(-1)).toMatchObject({ kind: 'ready' });
      expect((await ask(before.endpoint)).version).toBe('3');
    });
  });
}
