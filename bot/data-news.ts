import { isMap, isScalar, isSeq, parseDocument } from 'yaml';
import {
  codeSpan,
  type DataNews,
  dataNewsSchema,
  digestJson,
  pinPath,
  projectFile,
  shortDigest,
  UserError,
} from '../src/index.ts';
import { setPins } from './edit.ts';
import { botEmail } from './effects.ts';
import type { BotContext } from './types.ts';

/** How many pipelines of the default branch are looked through for a poll that has ended. */
const lookBack = 10;

/** What stands at a path of cdl.yaml; null when it is no plain text. */
function pinAt(text: string, path: readonly string[]): string | null {
  let node: unknown = parseDocument(text).contents;
  for (const key of path) {
    node = isMap(node) ? node.get(key, true) : isSeq(node) ? node.get(Number(key), true) : null;
  }
  return isScalar(node) && typeof node.value === 'string' ? node.value : null;
}

/**
 * The text of cdl.yaml with the new pins; null when there is nothing to do: a pin is another one by now, so that the
 * finding is about an older cdl.yaml, or all are there already. Pure.
 */
export function applyNews(text: string, news: DataNews): string | null {
  const pins: { path: string[]; value: string }[] = [];
  for (const change of news.changes) {
    const path = pinPath(news.dataset, change);
    const now = pinAt(text, path);
    if (now === change.to) continue;
    if (now !== change.from) return null;
    pins.push({ path, value: change.to });
  }
  return pins.length === 0 ? null : setPins(text, pins);
}

/** The newest finding for each data set that a job of the default branch handed on. */
async function readNews(
  context: BotContext,
  branch: string,
  datasets: readonly string[],
): Promise<DataNews[]> {
  const { forge } = context;
  const found = new Map<string, DataNews | null>();
  const pipelines = await forge.branchPipelines(branch);
  for (const pipeline of pipelines.filter((one) => one.state === 'success').slice(0, lookBack)) {
    const jobs = (await forge.jobs(pipeline.id)).filter((job) => /^poll\b/.test(job.name));
    for (const job of jobs) {
      for (const dataset of datasets) {
        if (found.has(dataset)) continue;
        const file = await forge.artifact(job.id, `.cdl/${dataset}.poll.outputs.json`);
        if (file) found.set(dataset, parseNews(file, dataset));
      }
    }
  }
  return [...found.values()].filter((news) => news !== null);
}

/** A finding; null when there is none, or it is none: a job wrote it. */
function parseNews(file: Buffer, dataset: string): DataNews | null {
  try {
    const outputs = JSON.parse(file.toString()) as { news?: unknown } | null;
    if (typeof outputs?.news !== 'string' || outputs.news === '') return null;
    const parsed = dataNewsSchema.safeParse(JSON.parse(outputs.news));
    return parsed.success && parsed.data.dataset === dataset ? parsed.data : null;
  } catch (error) {
    if (error instanceof SyntaxError) return null;
    throw error;
  }
}

/**
 * Keeps one open change for each data set whose sources have something new: opens it, or brings the open one up to date. One
 * that has commits of people stays as it is, and says so.
 * The same finding is proposed once: who closes the change has said no. Throws UpstreamError and UserError.
 */
export async function proposeNews(context: BotContext, datasets: readonly string[]): Promise<void> {
  const { forge, mirror, state, effects } = context;
  const branch = await forge.defaultBranch();
  const tip = await mirror.head(branch);
  const text = tip ? await mirror.readFile(tip, projectFile) : null;
  if (tip === null || text === null) return;
  for (const news of await readNews(context, branch, datasets)) {
    const cursor = `data-news/${news.dataset}`;
    const digest = digestJson(news);
    if ((await state.cursor(cursor)) === digest) continue;
    const written = applyNews(text, news);
    if (written === null) continue;
    const prefix = `cdl/data-${news.dataset}-`;
    const open = (await forge.listChanges({ state: 'open' })).find(
      (change) => !change.fork && change.sourceBranch.startsWith(prefix),
    );
    const source = open?.sourceBranch ?? `${prefix}${shortDigest(digest)}`;
    await mirror.ensureBranch(source, tip);
    const parent = (await mirror.head(source)) ?? tip;
    const self = await forge.self();
    const email = botEmail(self.username);
    if (open) {
      const people = (await forge.commitAuthors(open.id)).filter((author) => author.email !== email);
      if (people.length > 0) {
        await forge.ensureComment(open.id, 'data-news', leftAlone(news));
        await effects.setCursor(cursor, digest);
        continue;
      }
    }
    const title = `data(${news.dataset}): what its sources have now`;
    const pushed = await mirror.fastForward({
      branch: source,
      parent,
      files: { [projectFile]: written },
      message: `${title}\n`,
      author: { name: self.name, email },
    });
    if (pushed === 'moved') throw new UserError('lock-conflict', `${source} moved while the bot wrote to it`);
    await forge.ensureChange({ source, target: branch, title, description: describe(news) });
    await effects.setCursor(cursor, digest);
  }
}

function describe(news: DataNews): string {
  return [
    `The sources of ${news.dataset} have something newer than what ${projectFile} pins. The pipeline of this change collects, checks and trains with it; closing it says no to just this state of the sources.`,
    pinLines(news),
  ].join('\n\n');
}

/** What people read on a change that has commits of theirs, which nothing may write over. Pure. */
export function leftAlone(news: DataNews): string {
  return [
    `The sources of ${news.dataset} have something newer again. This branch has commits that are not the bot’s, so it was left as it is. Write the pins there yourself (\`cdl data pin ${news.dataset} --force\`), or close this change: the next look at the sources that finds something opens a new one.`,
    pinLines(news),
  ].join('\n\n');
}

const pinLines = (news: DataNews): string =>
  news.changes
    .map((change) => {
      const to = codeSpan(change.to.slice(0, 80));
      if (change.kind === 'after') return `- \`split.after\` ${to}: no item that was there changes sides`;
      return `- ${codeSpan(change.from.slice(0, 80))} → ${to}`;
    })
    .join('\n\n');
