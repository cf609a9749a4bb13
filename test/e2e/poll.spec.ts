import { createHash } from 'node:crypto';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { idxHeader } from '../../src/data/idx.ts';
import { openStage, type Stage } from './stage.ts';
import { cornerItems, shape } from './tiny-project.ts';

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

/** It takes half a minute. */
const long = process.env.CDL_POLL !== undefined;

let stage: Stage;
let server: Server;
let images: Buffer;
let labels: Buffer;
beforeAll(async () => {
  if (!long) return;
  stage = await openStage();
  server = createServer((request, response) => response.end(request.url === '/images.idx' ? images : labels));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
}, 120_000);
afterAll(async () => {
  const { violations, problems } = stage?.rig.sandbox ?? { violations: [], problems: [] };
  await stage?.close();
  if (server) await new Promise((resolve) => server.close(resolve));
  expect([violations, problems]).toEqual([[], []]);
});

/** What the source serves from now on. */
function publish(count: number): [string, string] {
  const { x, y } = cornerItems(count, 11);
  images = Buffer.concat([idxHeader([count, ...shape]), x]);
  labels = Buffer.concat([idxHeader([count]), y]);
  return [sha256(images), sha256(labels)];
}

/** Runs the poll job of the default branch, as a schedule does. */
async function poll(): Promise<void> {
  const { rig } = stage;
  const response = await fetch(`${rig.sandbox.url}/api/v4/projects/${rig.project.id}/pipeline`, {
    method: 'POST',
    headers: { 'private-token': rig.people.maintainer.token, 'content-type': 'application/json' },
    body: JSON.stringify({ ref: 'main', inputs: { cdl_task: 'poll' } }),
  });
  const pipeline = (await response.json()) as { id: number };
  expect(response.status, JSON.stringify(pipeline)).toBe(201);
  await stage.until('the poll', () => {
    const now = rig.project.pipelines.get(pipeline.id);
    if (now?.status === 'failed') throw new Error('the poll failed');
    return now?.status === 'success' ? true : null;
  });
}

const proposals = () =>
  [...stage.rig.project.mergeRequests.values()].filter((mr) =>
    mr.sourceBranch.startsWith('cdl/data-pictures-'),
  );

it.skipIf(!long)(
  `${long ? '' : 'skipped: CDL_POLL is not set; .ci/run sets it: '}new data at a source becomes one change that is trained on, and is brought up to date`,
  {
    timeout: 300_000,
  },
  async () => {
    const first = publish(1600);
    const { port } = server.address() as AddressInfo;
    await stage.push(
      'maintainer',
      'main',
      async ({ read, write }) => {
        const text = await read('cdl.yaml');
        await write(
          'cdl.yaml',
          text
            .replace(
              /file: \[[^\]]*\]/,
              `https: ["http://127.0.0.1:${port}/images.idx", "http://127.0.0.1:${port}/labels.idx"]`,
            )
            .replace(/sha256: \[[^\]]*\]/, `sha256: [${first.join(', ')}]`)
            .replace(/min_items: \d+, min_per_class: \d+/, 'min_items: 100, min_per_class: 10')
            .replace('    split:', '    poll: { propose: true }\n    split:'),
        );
      },
      { onTop: true },
    );
    await poll();
    expect(proposals()).toEqual([]);

    const second = publish(2000);
    await poll();
    const mr = await stage.until('the change', () => proposals()[0] ?? null);
    await stage.git('maintainer', 'fetch', '--quiet', 'origin');
    expect(await stage.git('maintainer', 'show', `origin/${mr.sourceBranch}:cdl.yaml`)).toContain(
      second.join(', '),
    );
    await stage.until('its training on the new data', () => {
      const jobs = [...stage.rig.project.jobs.values()].filter(
        (job) =>
          job.spec.name === 'train' &&
          stage.rig.project.pipelines.get(job.pipelineId)?.mergeRequestIid === mr.iid,
      );
      if (jobs.some((job) => job.status === 'failed')) throw new Error('the training failed');
      return jobs.some((job) => job.status === 'success') ? true : null;
    });

    const third = publish(2400);
    await poll();
    await stage.until('the change with the newer data', async () => {
      await stage.git('maintainer', 'fetch', '--quiet', 'origin');
      const text = await stage.git('maintainer', 'show', `origin/${mr.sourceBranch}:cdl.yaml`);
      return text.includes(third.join(', ')) ? true : null;
    });
    expect(proposals()).toHaveLength(1);
    // Only the pins differ from the default branch.
    const difference = await stage.git(
      'maintainer',
      'diff',
      '--stat',
      `origin/main...origin/${mr.sourceBranch}`,
      '--',
      'cdl.yaml',
    );
    expect(difference).toMatch(/1 insertion.*1 deletion/);

    // What people write on that branch stays.
    await stage.push('maintainer', mr.sourceBranch, async ({ write }) => write('notes.md', 'mine\n'), {
      onTop: true,
    });
    const fourth = publish(2800);
    await poll();
    const { note } = await stage.said(mr.iid, /has commits that are not the bot/);
    expect(note.body).toContain(fourth[0]);
    await stage.git('maintainer', 'fetch', '--quiet', 'origin');
    const branch = `origin/${mr.sourceBranch}`;
    expect(await stage.git('maintainer', 'show', `${branch}:notes.md`)).toBe('mine');
    expect(await stage.git('maintainer', 'show', `${branch}:cdl.yaml`)).toContain(third.join(', '));
  },
);
