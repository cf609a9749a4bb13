import type { Plan, Target } from './types.ts';

export type { Plan, Progress, Target } from './types.ts';

/** Which target, and for `local` where its folder is and which address it listens on. */
export type TargetConfig =
  | { target: 'local'; folder: string; host?: string; port?: number }
  | { target: 'seldon' };

/** Opens the target of an environment by its name. The driver is loaded on use. */
export async function openTarget(config: TargetConfig): Promise<Target> {
  if (config.target === 'seldon') return (await import('./seldon.ts')).openSeldonTarget();
  const { openLocalTarget } = await import('./local.ts');
  const { target: _target, ...options } = config;
  return openLocalTarget(options);
}

/** The traffic steps of a plan as people read them: `20 % → 100 %`. */
export function describeTraffic(plan: Pick<Plan, 'traffic'>): string {
  return plan.traffic.map((share) => `${share} %`).join(' → ');
}

/** Stops the gateway and every server of a `local` target; what was deployed comes back with the next deployment. */
export async function stopLocalTarget(folder: string): Promise<void> {
  const { openLocalTarget } = await import('./local.ts');
  await openLocalTarget({ folder }).stop();
}
