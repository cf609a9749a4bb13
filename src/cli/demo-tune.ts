import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { lockEntry, lockFile, parseLock } from '../core/lock.ts';
import { approveAndMerge, deployed, predict, proposeChange } from './demo-chapters.ts';
import { environment, modelOf, type Workplace } from './demo-work.ts';
import type { Rig } from './rig.ts';
import type { Story } from './story.ts';

/** The chapters of `cdl demo tune` after the project was pushed. Returns where the model answers. */
export async function tellSearch(story: Story, rig: Rig, place: Workplace): Promise<string> {
  const change = await proposeChange(story, rig, place, {
    branch: 'search',
    title: 'Train the best of 64 configurations',
    told: 'Dana, the data scientist, has two jobs try 64 configurations, and the best one trained',
    // As the search trained: to the end, without stopping by itself.
    parameters: { epochs: 9, patience: undefined },
    tell: [
      {
        job: 'tune',
        line: /Of (\d+) configurations the best has (\S+) ([\d.]+): ([^\n]+?)\.\s/,
        say: ([, trials, metric, value, point]) => `best of ${trials}: ${point} (${metric} ${value})`,
      },
      {
        job: 'tune',
        line: /cost +(\d+) epochs; all trials to the end would be (\d+)/,
        say: ([, spent, all]) => `${spent} epochs trained instead of ${all}: what fell behind was stopped`,
      },
    ],
  });
  await approveAndMerge(story, rig, change.mr.iid, change);
  const endpoint = await deployed(story, rig);
  await story.chapter('cdl.lock tells what was found, as data', async () => {
    await place.git(rig.people.maintainer, 'fetch', '--quiet', 'origin', 'main');
    await place.git(rig.people.maintainer, 'checkout', '--quiet', '--force', 'FETCH_HEAD');
    const lock = parseLock(await readFile(join(place.folder, lockFile), 'utf8'));
    const tuned = lockEntry(lock, modelOf(rig), environment)?.info.tuned ?? {};
    story.milestone('searched', { tuned });
    const text = Object.entries(tuned)
      .map(([name, value]) => `${name} ${value}`)
      .join(', ');
    return { text, value: null };
  });
  await predict(story, rig, endpoint);
  return endpoint;
}
