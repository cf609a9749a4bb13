import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Digest } from '../core/digest.ts';
import { UserError } from '../core/error.ts';
import { parseProject, projectFile } from '../core/project.ts';
import { openDataset } from '../data/dataset.ts';
import { readRawItems } from '../data/shards.ts';
import { packageRoot } from '../exec/root.ts';
import { openEncoder } from '../model/encoder.ts';
import { trainNaiveBayes } from '../model/naive-bayes.ts';
import { cacheFolder, openZone } from '../steps/context.ts';
import { readCandidate, readEvaluation } from '../steps/trusted.ts';
import type { Zone } from '../store/types.ts';
import type { ModelCode } from '../train/types.ts';
import { approveAndMerge, deployed, proposeChange } from './demo-chapters.ts';
import { labelArticles } from './demo-labels.ts';
import { modelOf, type Workplace } from './demo-work.ts';
import type { Rig } from './rig.ts';
import type { Story } from './story.ts';
import type { CommandInput } from './types.ts';

/** A text nobody wrote for a newspaper, in the words of one of its sections. */
const ownText =
  'The striker scored twice in the second half as the champions won the cup final, and the coach praised his injured captain.';

/**
 * Where the archive of BBC news is on this machine: given, or in the folder `shared` beside this package; null when the
 * example's own source has it. Throws UserError not-available when it cannot be had at all.
 */
export async function newsArchive(input: CommandInput): Promise<string | null> {
  const given = input.options.data as string | undefined;
  if (given) {
    const path = resolve(input.cwd, given);
    if (existsSync(path)) return path;
    throw new UserError('file-missing', `there is no ${path}`);
  }
  const shared = input.env.CDL_SHARED ?? join(packageRoot(), '..', 'shared');
  const beside = resolve(shared, 'data', 'bbc', 'bbc-fulltext.zip');
  if (existsSync(beside)) return beside;
  const text = await readFile(join(packageRoot(), 'templates', 'news', projectFile), 'utf8');
  const source = Object.values(parseProject(text).datasets)[0]!.sources[0]!;
  const pin = [source.sha256].flat()[0]!;
  if (existsSync(join(cacheFolder(input.env), 'sources', pin))) return null;
  const url = source.https![0]!;
  const why = await fetch(url, { method: 'HEAD', signal: AbortSignal.timeout(10_000) }).then(
    (response) => (response.ok ? null : `HTTP ${response.status}`),
    (error: Error) => (error.cause instanceof Error ? error.cause.message : error.message),
  );
  if (why === null) return null;
  throw new UserError(
    'not-available',
    `the BBC news archive cannot be had here: ${url}: ${why}`,
    'bring bbc-fulltext.zip to this machine and run cdl demo news --data bbc-fulltext.zip',
  );
}

/** The withheld articles with their sections, as indices into `classes`. */
export interface Withheld {
  texts: string[];
  y: number[];
  classes: string[];
}

/** The withheld articles, as an operator of the trusted zone may read them. */
export async function withheldTexts(trusted: Zone, testset: Digest, folder: string): Promise<Withheld> {
  await trusted.saveArtifact(testset, folder);
  const classes = JSON.parse(await readFile(join(folder, 'classes.json'), 'utf8')) as string[];
  const texts: string[] = [];
  const y: number[] = [];
  for await (const item of readRawItems(folder)) {
    if (item.label === null) continue;
    texts.push(Buffer.from(item.bytes).toString('utf8'));
    y.push(item.label);
  }
  return { texts, y, classes };
}

/**
 * How many of the withheld articles naive Bayes tells right, trained on the very counts the network was trained on. The package
 * is the network's: its code counts the words. `folder` is for both, in `transform` and `package`.
 */
export async function bayesRight(
  transform: { zone: Zone; digest: Digest },
  packaged: { zone: Zone; digest: Digest },
  withheld: Withheld,
  folder: string,
): Promise<number> {
  await transform.zone.saveArtifact(transform.digest, join(folder, 'transform'));
  await packaged.zone.saveArtifact(packaged.digest, join(folder, 'package'));
  const train = await openDataset(join(folder, 'transform'));
  const code = (await import(pathToFileURL(join(folder, 'package', 'code.mjs')).href)) as Partial<ModelCode>;
  const encoder = (await openEncoder(join(folder, 'package'), code))!;
  const bayes = trainNaiveBayes({ x: train.x, y: train.y, width: train.shape[0]! }, withheld.classes.length);
  const told = bayes(await encoder.encode(withheld.texts.map((text) => Buffer.from(text, 'utf8'))));
  return told.filter((label, index) => label === withheld.y[index]).length;
}

/**
 * The chapters of `cdl demo news` after the project was pushed, whatever trains the network; with `withLabels`, people label
 * articles at the end. Returns where the model answers.
 */
export async function tellNews(
  story: Story,
  rig: Rig,
  place: Workplace,
  withLabels: boolean,
): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'cdl-demo-news-'));
  try {
    const change = await proposeChange(story, rig, place, {
      branch: 'first-network',
      title: 'A little more dropout',
      told: 'Dana, the data scientist, pushes a network with a little more dropout',
      parameters: { dropout: 0.4 },
      items: 'articles',
      tell: [
        {
          job: 'ingest',
          line: /left out +(\d+)[\s\S]*same as another +(\d+)/,
          say: ([, copies, alike]) =>
            `${copies} exact copies left out; ${alike} articles nearly the same as another stay on its side of the split`,
        },
        {
          job: 'transform',
          line: /(\d+) items of (\d+) numbers each/,
          say: ([, items, stems]) =>
            `${items} articles as counts of ${stems} stems, a vocabulary of the training side alone`,
        },
      ],
    });
    const trusted = await openZone(rig.botEnvironment, 'trusted', null);
    const evaluation = await readEvaluation(trusted, change.evaluation);
    const withheld = await withheldTexts(trusted, evaluation.testset, join(folder, 'test'));
    await story.chapter('Multinomial naive Bayes learns from the same counts, for comparison', async () => {
      const candidate = await readCandidate(trusted, evaluation.candidate);
      const count = withheld.y.length;
      const work = await openZone(rig.botEnvironment, 'work', null);
      const bayes = await bayesRight(
        { zone: work, digest: candidate.transform! },
        { zone: trusted, digest: candidate.package },
        withheld,
        folder,
      );
      const network = Math.round(evaluation.scores.metrics.accuracy!.value * count);
      story.milestone('compared', { items: count, network, naive_bayes: bayes });
      if (network < bayes) {
        throw new UserError(
          'gate-refused',
          `the network tells ${network} of ${count} articles right, naive Bayes ${bayes}: it is not worth its keep`,
        );
      }
      const share = (right: number) => `${(right / count).toFixed(4)}  ${right} of ${count} right`;
      return { text: `network      ${share(network)}\nnaive Bayes  ${share(bayes)}`, value: null };
    });
    await approveAndMerge(story, rig, change.mr.iid, change);
    const endpoint = await deployed(story, rig);
    await classify(story, rig, endpoint, withheld);
    if (!withLabels) return endpoint;
    const labels = join(folder, 'labels');
    await mkdir(labels);
    const some = {
      texts: withheld.texts.slice(0, 50),
      y: withheld.y.slice(0, 50),
      classes: withheld.classes,
    };
    await labelArticles(story, { folder: labels, path: rig.botEnvironment.PATH ?? '' }, some);
    return endpoint;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Asks the served model about withheld articles and a text of our own, through both protocols. */
async function classify(story: Story, rig: Rig, endpoint: string, withheld: Withheld): Promise<void> {
  await story.chapter('The served model reads plain text, through both protocols', async () => {
    const { texts, y, classes } = withheld;
    const v2 = await post(`${endpoint}/v2/models/${modelOf(rig)}/infer`, {
      inputs: [{ name: 'input', datatype: 'BYTES', shape: [texts.length], data: texts }],
    });
    const answer = (await v2.json()) as { outputs: { name: string; data: string[] }[] };
    const labels = answer.outputs.find((output) => output.name === 'label')!.data;
    const right = labels.filter((label, index) => label === classes[y[index]!]).length;
    const seldon = await post(`${endpoint}/api/v1.0/predictions`, { strData: ownText });
    const { data } = (await seldon.json()) as { data: { names: string[]; ndarray: number[][] } };
    const row = data.ndarray[0]!;
    const best = row.indexOf(Math.max(...row));
    const version = v2.headers.get('x-cdl-version');
    story.milestone('predicted', {
      endpoint,
      items: texts.length,
      right,
      served_version: version,
      v2: v2.status,
      seldon: seldon.status,
      own_text: data.names[best],
    });
    const lines = [
      `${right} of ${texts.length} withheld articles told right by version ${version}`,
      `“${ownText}”`,
      `→ ${data.names[best]} (${row[best]!.toFixed(3)})`,
    ];
    return { text: lines.join('\n'), value: null };
  });
}

async function post(url: string, body: object): Promise<Response> {
  const response = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  if (!response.ok)
    throw new UserError('deploy-failed', `${url}: ${response.status} ${await response.text()}`);
  return response;
}
