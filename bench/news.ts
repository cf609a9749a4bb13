import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { packageRoot } from '../src/exec/root.ts';
import { run } from '../src/exec/run.ts';
import type { Row } from './row.ts';

/**
 * The news example on BBC news: what its transform costs the first time and when it is looked up, and the network beside
 * multinomial naive Bayes on the same withheld articles, as `cdl demo news` has them. No rows where the archive is not.
 */
export async function benchNews(): Promise<Row[]> {
  const cli = join(packageRoot(), 'bin', 'cdl.js');
  const shared = process.env.CDL_SHARED ?? join(packageRoot(), '..', 'shared');
  const archive = resolve(shared, 'data', 'bbc', 'bbc-fulltext.zip');
  const folder = await mkdtemp(join(tmpdir(), 'cdl-bench-news-'));
  const project = join(folder, 'news');
  const cdl = async (cwd: string, ...args: string[]) => {
    const start = performance.now();
    const result = await run(process.execPath, [cli, ...args], {
      cwd,
      env: { ...process.env, CDL_CACHE: join(folder, 'cache') },
    });
    if (result.code !== 0) throw new Error(`cdl ${args.join(' ')}: ${result.stderr}${result.stdout}`);
    return { ms: performance.now() - start, stdout: result.stdout.toString() };
  };
  try {
    await cdl(folder, 'init', 'news', project);
    const file = join(project, 'cdl.yaml');
    const text = await readFile(file, 'utf8');
    await writeFile(file, text.replace(/- https:\n.*\n/, `- file: [${archive}]\n`));
    await cdl(project, 'ingest');
    const first = await cdl(project, 'transform', '--json');
    await writeFile(
      file,
      (await readFile(file, 'utf8')).replace('learning_rate: 0.0005', 'learning_rate: 0.001'),
    );
    const again = await cdl(project, 'transform', '--json');
    const demo = await cdl(folder, 'demo', 'news', '--json');
    const told = demo.stdout
      .split('\n')
      .flatMap((line) => (line.includes('"compared"') ? [JSON.parse(line)] : []))[0] as {
      items: number;
      network: number;
      naive_bayes: number;
    };
    return [
      {
        name: 'cdl transform with another learning rate (looked up), beside the first run',
        value: again.ms,
        unit: 'ms',
        baseline: first.ms,
        ratio: again.ms / first.ms,
      },
      {
        name: `accuracy on ${told.items} withheld articles: the network, beside multinomial naive Bayes`,
        value: told.network / told.items,
        unit: 'share right',
        baseline: told.naive_bayes / told.items,
        ratio: told.network / told.naive_bayes,
      },
    ];
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
