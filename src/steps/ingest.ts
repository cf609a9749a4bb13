import { join } from 'node:path';
import { z } from 'zod';
import { type Digest, shortDigest } from '../core/digest.ts';
import type { Block } from '../core/report.ts';
import { readSides, recordSides } from '../data/carried.ts';
import { collect } from '../data/collect.ts';
import { buildDataset } from '../data/dataset.ts';
import { placesOf } from '../data/in-place.ts';
import { noteMade } from '../data/made.ts';
import { isSensitive, masked } from '../data/mask.ts';
import { buildRawDataset, type Conflict } from '../data/raw-dataset.ts';
import { readItems } from '../data/read.ts';
import { type FetchOptions, progressText } from '../data/source/options.ts';
import { pinsOf, sourceNames, sourcesOfSide } from '../data/sources.ts';
import { datasetNamed, datasetParameter, sideParameter } from './subject.ts';
import type { Step } from './types.ts';

const params = z.object({
  dataset: datasetParameter,
  side: sideParameter,
});

/** Collects one side of a data set. The withheld side goes to the trusted zone and never leaves it. */
export const ingest: Step<typeof params> = {
  name: 'ingest',
  summary: 'Collect data from pinned sources and store it as a data version',
  epoch: 7,
  stage: 'data',
  params,
  async inputs(ctx, given) {
    const { dataset, config } = datasetNamed(ctx, given.dataset);
    const {
      rules: _rules,
      description: _description,
      sensitive,
      poll: _poll,
      test_version: _test,
      ...content
    } = config;
    return {
      subject: dataset,
      zone: given.side === 'test' ? 'trusted' : 'work',
      // The name is part of what is made: two data sets of the same bytes are two artifacts.
      key: {
        dataset,
        side: given.side,
        content,
        // What the report tells: the data is the same.
        ...(isSensitive(sensitive, 'path') && { hidden: true }),
      },
      files: [],
      artifacts: ['dataset'],
      // What nobody pinned is looked at each time: it may have changed, which is an error and no hit.
      cache: sourcesOfSide(config.sources, given.side).every((source) => pinsOf(source) !== null),
    };
  },
  async run(ctx, given, folder) {
    const { dataset, config } = datasetNamed(ctx, given.dataset);
    const zone = await ctx.zone(given.side === 'test' ? 'trusted' : 'work');
    const npmRegistry = await ctx.npmRegistry();
    const scope = { project: ctx.project.project, dataset };
    const sources = sourcesOfSide(config.sources, given.side);
    // Jobs of changes use the same cache: what is withheld by being another source never gets there.
    const isWithheld = sources.some((source) => source.side === 'test');
    const options: FetchOptions = {
      cacheFolder: isWithheld ? join(folder, '.sources') : ctx.cacheFolder,
      root: ctx.root,
      ...(npmRegistry && { npmRegistry }),
      ...(await ctx.sourceAccess(given.side)),
      signal: ctx.signal,
      onProgress: (progress) => ctx.progress(...progressText(progress)),
    };
    const { fetched, pinned } = await collect(zone, scope, sources, options);
    const progress = (done: number, total: number) => ctx.progress(`reading ${dataset}`, done / total);
    const { after } = config.split;
    const before = after ? await readSides([zone, await ctx.zone('work')], after as Digest) : undefined;
    const made =
      config.item === 'tensor'
        ? await buildDataset(
            dataset,
            config,
            fetched.source,
            await readItems(config, fetched, progress),
            given.side,
            zone,
          )
        : await buildRawDataset(
            dataset,
            config,
            fetched,
            given.side,
            zone,
            before,
            await placesOf(fetched, options),
          );
    const { digest, meta } = made;
    const sides = 'sides' in made ? (made.sides as Digest | null) : null;
    const conflicts = 'conflicts' in made && given.side === 'train' ? (made.conflicts as Conflict[]) : [];
    if (sides !== null) await recordSides(zone, scope, config, sides);
    await noteMade(zone, ctx.project.project, `${dataset}-${given.side}`, digest);
    const source = sourceNames(fetched.source).join(', ');
    return {
      outputs: { dataset: digest, items: String(meta.count) },
      report: {
        key: `ingest:${dataset}`,
        title: `${dataset}: data version ${shortDigest(digest)}`,
        verdict: pinned ? 'pass' : 'warn',
        summary: [
          `${meta.count} items of the ${given.side} side from ${source}.`,
          ...(pinned
            ? []
            : [
                `cdl.yaml does not pin it: what was seen first is recorded. Pin it with cdl data pin ${dataset}.`,
              ]),
        ].join(' '),
        blocks: [
          {
            kind: 'facts',
            facts: [
              ['source', source],
              ...(pinned
                ? []
                : ([['recorded sha256', (pinsOf(fetched.source) ?? []).join(', ')]] as [string, string][])),
              ['exact duplicates left out', String(meta.duplicates)],
              ...(meta.alike === undefined
                ? []
                : ([['nearly the same as another', `${meta.alike}, kept on its side`]] as [
                    string,
                    string,
                  ][])),
              ...(meta.groups === undefined
                ? []
                : ([['declared groups', `${meta.groups}, each whole on one side`]] as [string, string][])),
              ...(sides === null ? [] : ([['split.after of the next', sides]] as [string, string][])),
              ...Object.entries(meta.quarantined).map(([reason, count]): [string, string] => [
                `quarantined: ${reason}`,
                String(count),
              ]),
            ],
          },
          ...conflictTable(conflicts, isSensitive(config.sensitive, 'path')),
        ],
      },
    };
  },
};

/**
 * Copies with different labels, those of one item one after the other; people have to say which is right. Where the names of
 * files are sensitive the item's id alone says which it is.
 */
function conflictTable(conflicts: readonly Conflict[], hidePlaces: boolean): Block[] {
  if (conflicts.length === 0) return [];
  return [
    {
      kind: 'table',
      head: ['copies with different labels, all set aside', 'where', 'label'],
      align: ['left', 'left', 'left'],
      rows: conflicts.map(({ id, position, label }) => [
        shortDigest(id),
        hidePlaces ? masked : position,
        label ?? 'none',
      ]),
    },
  ];
}
