import type { Gitlab } from '@gitbeaker/rest';
import { z } from 'zod';
import { digestJson, shortDigest } from '../core/digest.ts';
import { UpstreamError } from '../core/error.ts';
import { createRequester } from './gitlab-requester.ts';
import * as schema from './gitlab-schema.ts';
import { read } from './gitlab-schema.ts';
import { markerKey, withMarker } from './marker.ts';
import type { Network } from './network.ts';
import type { Forge, LineProblem } from './types.ts';

/** Number of a line in the old file, null for a line that is new, by the hunks of a unified diff. */
export function oldLineOf(diff: string, line: number): number | null {
  let [old, now] = [1, 1];
  for (const text of diff.split('\n')) {
    const hunk = /^@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@/.exec(text);
    if (hunk) {
      // A side without lines is named by the line before it.
      const [nextOld, nextNow] = [
        Number(hunk[1]) + (hunk[2] === '0' ? 1 : 0),
        Number(hunk[3]) + (hunk[4] === '0' ? 1 : 0),
      ];
      if (line < nextNow) return old + (line - now);
      [old, now] = [nextOld, nextNow];
    } else if (text.startsWith('+')) {
      if (now === line) return null;
      now++;
    } else if (text.startsWith('-')) old++;
    else if (text.startsWith(' ')) {
      if (now === line) return old;
      old++;
      now++;
    }
  }
  return old + (line - now);
}

const keyOf = ({ path, line, message }: LineProblem): string =>
  `line:${shortDigest(digestJson([path, line, message]))}`;

/** In a block of code a forge reads neither mentions nor quick actions. */
const quoted = (message: string): string => `\`\`\`text\n${message.replaceAll('`', 'ʼ')}\n\`\`\``;

/**
 * Threads at lines of a change's diff (doc: api/discussions). Sent past gitbeaker, whose `create` takes no JSON and whose
 * `resolve` names no project.
 */
export function createLineThreads(
  api: InstanceType<typeof Gitlab>,
  options: {
    project: string;
    host: string;
    token: string;
    network: Network;
    self(): Promise<{ id: string }>;
  },
): Pick<Forge, 'ensureLineThreads'> {
  const { project, host, token, network, self } = options;
  const requester = createRequester(network)({
    url: `${host}/api/v4/`,
    headers: {},
    authHeaders: { 'private-token': async () => token },
  } as never);
  const path = (change: number) =>
    `projects/${encodeURIComponent(project)}/merge_requests/${change}/discussions`;

  async function open(change: number, problem: LineProblem): Promise<void> {
    const [shown, diffs] = (await Promise.all([
      api.MergeRequests.show(project, change),
      api.MergeRequests.allDiffs(project, change, { perPage: 100 }),
    ])) as [unknown, unknown];
    const { diff_refs: refs } = read(schema.diffRefsSchema, shown, `!${change}`);
    const file = read(z.array(schema.fileDiffSchema), diffs, `diffs of !${change}`).find(
      (one) => one.new_path === problem.path,
    );
    if (!refs || !file) return;
    const old = oldLineOf(file.diff, problem.line);
    const position = {
      position_type: 'text',
      ...refs,
      old_path: file.old_path,
      new_path: file.new_path,
      new_line: problem.line,
      ...(old === null ? {} : { old_line: old }),
    };
    try {
      await requester.post(path(change), {
        body: { body: withMarker(keyOf(problem), quoted(problem.message)), position },
      });
    } catch (error) {
      // The line is none of the diff, or somebody pushed meanwhile: the report names the line all the same.
      if (!(error instanceof UpstreamError && error.status === 400)) throw error;
    }
  }

  return {
    async ensureLineThreads(change, problems) {
      const [me, all] = await Promise.all([
        self(),
        api.MergeRequestDiscussions.all(project, change, { perPage: 100 }) as Promise<unknown>,
      ]);
      const mine = read(z.array(schema.discussionSchema), all, `threads of !${change}`).flatMap((thread) => {
        const [first] = thread.notes;
        const key = first && String(first.author.id) === me.id ? markerKey(first.body) : null;
        return first && key?.startsWith('line:')
          ? [{ id: thread.id, key, resolved: first.resolved === true }]
          : [];
      });
      const wanted = new Map(problems.map((problem) => [keyOf(problem), problem]));
      for (const thread of mine) {
        const resolved = !wanted.has(thread.key);
        if (resolved === thread.resolved) continue;
        await requester.put(`${path(change)}/${thread.id}`, { body: { resolved } });
      }
      for (const [key, problem] of wanted) {
        if (!mine.some((thread) => thread.key === key)) await open(change, problem);
      }
    },
  };
}
