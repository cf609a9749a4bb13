import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { bayesRight, withheldTexts } from '../src/cli/demo-news.ts';
import type { Digest } from '../src/core/digest.ts';
import { writePacked } from '../src/data/packed.ts';
import { packageRoot } from '../src/exec/root.ts';
import { run } from '../src/exec/run.ts';
import { predictIsolated } from '../src/model/predict.ts';
import { openZone } from '../src/steps/context.ts';
import type { Row } from './row.ts';

/**
 * The news example on BBC news: what its transform costs the first time and when it is looked up, and the network beside
 * multinomial naive Bayes on the same counts and withheld articles. The steps alone, as somebody runs them on his machine:
 * about a minute, where `cdl demo news` with its forge takes several.
 */
export async function benchNews(): Promise<Row[]> {
  const cli = join(packageRoot(), 'bin', 'cdl.js');
  const shared = process.env.CDL_SHARED ?? join(packageRoot(), '..', 'shared');
  const archive = resolve(shared, 'data', 'bbc', 'bbc-fulltext.zip');
  const folder = await mkdtemp(join(tmpdir(), 'cdl-bench-news-'));
  const project = join(folder, 'news');
  const env = { PATH: process.env.PATH ?? '', HOME: folder, CDL_CACHE: join(folder, 'cache') };
  const cdl = async (cwd: string, ...args: string[]) => {
    const start = performance.now();
    const result = await run(process.execPath, [cli, ...args, '--json'], { cwd, env });
    if (result.code !== 0) throw new Error(`cdl ${args.join(' ')}: ${result.stderr}${result.stdout}`);
    const told = JSON.parse(result.stdout.toString()) as { outputs?: Record<string, Digest> };
    return { ms: performance.now() - start, outputs: told.outputs ?? {} };
  };
  try {
    await cdl(folder, 'init', 'news', project);
    const file = join(project, 'cdl.yaml');
    const text = await readFile(file, 'utf8');
    await writeFile(file, text.replace(/- https:\n.*\n/, `- file: [${archive}]\n`));
    await cdl(project, 'ingest');
    await cdl(project, 'clean');
    const first = await cdl(project, 'transform');
    await cdl(project, 'train');
    const packaged = await cdl(project, 'package');
    await writeFile(
      file,
      (await readFile(file, 'utf8')).replace('learning_rate: 0.0005', 'learning_rate: 0.001'),
    );
    const again = await cdl(project, 'transform');
    await cdl(project, 'ingest', '--side', 'test');
    const testset = await cdl(project, 'clean', '--side', 'test');

    const work = await openZone(env, 'work', project);
    const trusted = await openZone(env, 'trusted', project);
    const withheld = await withheldTexts(trusted, testset.outputs.dataset!, join(folder, 'test'));
    const bayes = await bayesRight(
      { zone: work, digest: first.outputs.transform! },
      { zone: work, digest: packaged.outputs.package! },
      withheld,
      folder,
    );
    const count = withheld.y.length;
    const classes = withheld.classes.length;
    const items = join(folder, 'items.bin');
    await writePacked(
      items,
      (async function* () {
        for (const one of withheld.texts) yield Buffer.from(one, 'utf8');
      })(),
    );
    const { probabilities } = await predictIsolated({
      packageFolder: join(folder, 'package'),
      items,
      count,
      classes,
      out: null,
    });
    const told = withheld.y.map((_, index) => {
      const row = probabilities.subarray(index * classes, (index + 1) * classes);
      return row.indexOf(Math.max(...row));
    });
    const network = told.filter((label, index) => label === withheld.y[index]).length;
    return [
      {
        name: 'cdl transform with another learning rate (looked up), beside the first run',
        value: again.ms,
        unit: 'ms',
        baseline: first.ms,
        ratio: again.ms / first.ms,
      },
      {
        name: `accuracy on ${count} withheld articles: the network, beside multinomial naive Bayes`,
        value: network / count,
        unit: 'share right',
        baseline: bayes / count,
        ratio: network / bayes,
      },
    ];
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
