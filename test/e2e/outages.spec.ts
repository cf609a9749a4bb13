import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { RecordedRequest } from '../../src/sandbox/record.ts';
import type { WorldEvent } from '../../src/sandbox/state.ts';
import { openStage, type Stage } from './stage.ts';
import { model } from './tiny-project.ts';

/** Far more than it takes: the bot starts again and again, on machines that do other things. */
const timeout = 400_000;

let stage: Stage;
beforeAll(async () => {
  stage = await openStage();
});
afterAll(async () => {
  const { violations, problems } = stage?.rig.sandbox ?? { violations: [], problems: [] };
  const home = stage && (await databaseHome());
  await stage?.close();
  if (home) await expect(stat(home)).rejects.toThrow('ENOENT');
  expect(violations).toEqual([]);
  expect(problems).toEqual([]);
});

/** Where the bot's database has its files. */
async function databaseHome(): Promise<string> {
  const folder = join(stage.rig.folder, 'bot', 'database');
  const moved = await readFile(join(folder, 'moved-to'), 'utf8').catch(() => null);
  return moved?.trim() ?? join(folder, 'postgres');
}

const writes: readonly string[] = ['POST', 'PUT', 'DELETE'];

/**
 * Kills the bot right after the first write of each kind that the forge sees of it (a comment, a status, a pipeline, an
 * upload, a push …) and starts it again. `stop` resolves with
 * the kinds when no kill is under way.
 */
function killAfterEachKindOfWrite(): { stop(): Promise<string[]> } {
  const { rig } = stage;
  const { world, requests } = rig.sandbox;
  const kinds = new Set<string>();
  let turn: Promise<void> = Promise.resolve();
  let busy = false;
  const seen = (kind: string) => {
    if (busy || kinds.has(kind)) return;
    // The push comes once and right after a status: killed there, the next bot would push before it can be killed.
    if (kind.includes('/statuses/') && !kinds.has('git push')) return;
    kinds.add(kind);
    busy = true;
    rig.bot.process.kill('SIGKILL');
    turn = rig.restartBot('SIGKILL').then(() => {
      busy = false;
    });
  };
  const bots = ['cdl-bot', 'cdl-evaluation'];
  const record = requests as RecordedRequest[];
  const push = record.push.bind(record);
  record.push = (...entries) => {
    for (const { method, route, user } of entries) {
      if (writes.includes(method) && bots.includes(user ?? '')) seen(`${method} ${route}`);
    }
    return push(...entries);
  };
  const onEvent = (event: WorldEvent) => {
    if (event.kind !== 'push' || event.project !== rig.project) return;
    if (world.users.get(event.userId)?.username === 'cdl-bot') seen('git push');
  };
  world.events.on('event', onEvent);
  return {
    async stop() {
      record.push = push;
      world.events.off('event', onEvent);
      await turn;
      return [...kinds];
    },
  };
}

/** Looks until it finds something; unlike the rig's own way, a bot that is down at the moment is no failure. */
async function patiently<T>(what: string, look: () => Promise<T | null>): Promise<T> {
  const until = Date.now() + 150_000;
  for (;;) {
    const found = await look().catch(() => null);
    if (found !== null) return found;
    if (Date.now() > until) throw new Error(`${what} did not happen\n${stage.log.slice(-25).join('\n')}`);
    await new Promise<void>((resolve) => {
      const { events } = stage.rig.sandbox.world;
      const go = () => {
        clearTimeout(timer);
        events.off('event', go);
        resolve();
      };
      // The store changes without an event of the forge.
      const timer = setTimeout(go, 500);
      events.on('event', go);
    });
  }
}

async function approveLine(iid: number): Promise<string> {
  return patiently('the report', async () => {
    for (const note of await stage.botNotes(iid)) {
      const match = /\/approve [0-9a-f]{12}/.exec(note.body);
      if (match) return match[0];
    }
    return null;
  });
}

async function statusIs(iid: number, status: string, description: RegExp): Promise<void> {
  await patiently(`status ${status}`, async () => {
    const { sha } = await stage.api.maintainer.mergeRequest(iid);
    const now = await stage.status(sha);
    return now?.status === status && description.test(now.description ?? '') ? true : null;
  });
}

describe('what fails while a change is under way costs time and nothing else', { timeout }, () => {
  it('a bot killed after every kind of write leaves one report, one lock commit and one decision', async () => {
    const killer = killAfterEachKindOfWrite();
    const head = await stage.push('scientist', 'storm', { hidden: 12 });
    const { iid } = await stage.propose('scientist', 'storm', 'Through the storm');
    const line = await approveLine(iid);
    await statusIs(iid, 'pending', /0 of 1/);
    const { id } = await stage.api.validator.comment(iid, line);
    await statusIs(iid, 'success', /^approved$/);
    await patiently('the answer', async () => {
      const notes = await stage.botNotes(iid);
      return notes.some((note) => note.body.includes(`cdl:reply:${id} `)) ? true : null;
    });
    const kinds = await killer.stop();
    expect(kinds).toEqual(
      expect.arrayContaining([
        'git push',
        'POST /projects/:id/statuses/:sha',
        'POST /projects/:id/pipeline',
        'POST /projects/:id/merge_requests/:merge_request_iid/notes',
      ]),
    );
    const merged = await stage.merge(iid);
    expect(await stage.trace(await stage.deployJob(merged))).toContain('Version 1 serves all requests.');
    const decisions = await stage.until('the promotion', async () => {
      const all = await stage.decisions();
      return all.some((one) => one.decision === 'promoted') ? all : null;
    });
    await stage.said(iid, /is promoted in production/);

    const notes = await stage.botNotes(iid);
    expect(notes.filter((note) => note.body.includes(`cdl:report:${model} `))).toHaveLength(1);
    expect(notes.filter((note) => note.body.includes('cdl:reply:'))).toHaveLength(1);
    expect(decisions.map((one) => one.decision)).toEqual(['approved', 'promoted']);
    await stage.git('maintainer', 'fetch', '--quiet', 'origin');
    const log = await stage.git('maintainer', 'log', '--format=%an', `${head}..${merged}^2`);
    expect(log.split('\n')).toEqual(['CDL']);
  });

  it('a lost webhook is made up for by the next look', async () => {
    stage.rig.project.hooks.splice(0);
    await stage.push('scientist', 'unheard', { hidden: 13 });
    const { iid } = await stage.propose('scientist', 'unheard', 'Nobody tells the bot');
    const answer = await stage.ask('validator', iid, '/help');
    expect(answer).toContain('/approve');
    await stage.approveLine(iid);
    expect(stage.rig.project.hooks).toEqual([]);
  });

  it('a database killed while the bot works comes back, and nothing that was said is lost', async () => {
    const iid = [...stage.rig.project.mergeRequests.keys()].at(-1)!;
    const line = await approveLine(iid);
    const file = join(await databaseHome(), 'data', 'postmaster.pid');
    const pid = Number((await readFile(file, 'utf8')).split('\n')[0]);
    await stage.api.validator.comment(iid, line);
    process.kill(pid, 'SIGKILL');
    await statusIs(iid, 'success', /^approved$/);
    expect(stage.rig.bot.process.exitCode).toBeNull();
    const decisions = await stage.decisions();
    expect(decisions.filter((one) => one.decision === 'approved')).toHaveLength(2);
  });
});
