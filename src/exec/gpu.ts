import { run } from './run.ts';

/** The NVIDIA GPUs of this machine. */
export interface Gpus {
  /** `2 × NVIDIA H100 80GB HBM3`; different ones one after the other. */
  names: string;
  driver: string;
}

/** What `nvidia-smi` lists for programs with this environment; null where there is none, or no GPU. */
export async function gpusHere(env: NodeJS.ProcessEnv): Promise<Gpus | null> {
  const query = ['--query-gpu=name,driver_version', '--format=csv,noheader'];
  const listed = await run('nvidia-smi', query, { env }).catch(() => null);
  if (listed?.code !== 0) return null;
  const rows = [...listed.stdout.toString().matchAll(/^(.+?), *([\w.]+)\r?$/gm)];
  if (rows.length === 0) return null;
  const counts = new Map<string, number>();
  for (const [, name = ''] of rows) counts.set(name, (counts.get(name) ?? 0) + 1);
  const names = [...counts].map(([name, count]) => (count === 1 ? name : `${count} × ${name}`));
  return { names: names.join(', ').slice(0, 200), driver: rows[0]![2]! };
}
