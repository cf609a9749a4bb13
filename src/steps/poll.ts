import { join } from 'node:path';
import { z } from 'zod';
import { type DataNews, dataNewsSchema, type PinChange } from '../core/data-news.ts';
import { canonicalJson, type Digest } from '../core/digest.ts';
import { UserError } from '../core/error.ts';
import { recordedSides } from '../data/carried.ts';
import { parseMemory, pollSources } from '../data/poll.ts';
import { datasetNamed, datasetParameter } from './subject.ts';
import type { Step } from './types.ts';

const params = z.object({ dataset: datasetParameter });

/**
 * Looks whether the sources have something newer than what `cdl.yaml` pins, and hands the finding on. It changes nothing:
 * the job needs no right but to the work zone, and the bot opens the change.
 */
export const poll: Step<typeof params> = {
  name: 'poll',
  summary: 'Look whether the sources of a data set have something new',
  epoch: 1,
  stage: 'data',
  params,
  async inputs(ctx, given) {
    const { dataset } = datasetNamed(ctx, given.dataset);
    return { subject: dataset, zone: 'work', key: {}, files: [], artifacts: [], cache: false };
  },
  async run(ctx, given, folder) {
    const { dataset, config } = datasetNamed(ctx, given.dataset);
    const zone = await ctx.zone('work');
    const key = `poll/${ctx.project.project}/${dataset}.json`;
    const record = await zone.readRecord(key);
    const common = {
      root: ctx.root,
      npmRegistry: (await ctx.npmRegistry()) ?? 'https://registry.npmjs.org/',
      signal: ctx.signal,
    };
    const polled = await pollSources(
      config.sources,
      parseMemory(record?.value),
      { ...common, ...(await ctx.sourceAccess('train')), cacheFolder: ctx.cacheFolder },
      // What is withheld stays out of the cache that jobs of changes use, too.
      { ...common, ...(await ctx.sourceAccess('test')), cacheFolder: join(folder, '.sources') },
    );
    // Another poll at the same moment writes the same; what loses only reads once more.
    await zone.writeRecord(key, polled.memory, record ? { ifMatch: record.etag } : { ifAbsent: true });
    const away = polled.seen.filter((one) => one.state === 'unreachable');
    const looked = polled.seen.some((one) => one.state === 'unchanged' || one.state === 'new');
    const named = away.map((one) => `${one.name}: ${one.detail}`);
    if (away.length > 0 && !looked) {
      throw new UserError(
        'source-unreachable',
        `none of the pinned sources could be looked at\n${named.join('\n')}`,
      );
    }
    const { after = null } = config.split;
    const sides =
      polled.changes.length > 0
        ? await recordedSides(zone, { project: ctx.project.project, dataset }, config)
        : null;
    const changes: PinChange[] = [
      ...polled.changes,
      ...(sides !== null && sides !== after
        ? [{ kind: 'after' as const, from: after as Digest | null, to: sides }]
        : []),
    ];
    const news: DataNews | null =
      changes.length > 0 ? dataNewsSchema.parse({ v: 1, dataset, changes }) : null;
    return {
      outputs: { news: news ? canonicalJson(news) : '' },
      report: {
        key: `poll:${dataset}`,
        title: `${dataset}: sources`,
        verdict: away.length > 0 ? 'warn' : 'pass',
        summary: [
          news ? 'There is something new.' : 'Nothing is new.',
          ...(away.length > 0
            ? [`${away.length} of ${polled.seen.length} could not be looked at: ${named.join('; ')}.`]
            : []),
        ].join(' '),
        blocks: [
          {
            kind: 'table',
            head: ['source', 'state', 'now'],
            align: ['left', 'left', 'left'],
            rows: polled.seen.map((one) => [one.name, one.state, one.detail]),
          },
        ],
      },
    };
  },
};
