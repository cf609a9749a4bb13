import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { UpstreamError, UserError } from '../../src/core/error.ts';
import type { Forge } from '../../src/forge/types.ts';
import { type Fault, type FaultProxy, startFaultProxy } from '../bot/soak/chaos.ts';
import type { ForgeBench } from './forge.ts';

/** What a forge may answer instead of what it should. */
const faults: readonly Fault[] = [
  ...[401, 403, 404, 409, 500].map((status) => ({ kind: 'status' as const, status })),
  { kind: 'status', status: 429, headers: { 'retry-after': '0' } },
  { kind: 'status', status: 503, headers: { 'retry-after': '0' } },
  { kind: 'half' },
  { kind: 'status', status: 200, headers: { 'content-type': 'text/html' }, body: '<html>sign in</html>' },
  { kind: 'status', status: 200, body: '{}' },
  { kind: 'status', status: 200, body: '[[[' },
];

/** One question or command of the port; `n` makes a write a new one. */
type Use = (forge: Forge, bench: ForgeBench, n: string) => Promise<unknown>;

const uses: Readonly<Record<string, Use>> = {
  getChange: (forge, { change }) => forge.getChange(change),
  listChanges: (forge) => forge.listChanges({ state: 'open' }),
  changedFiles: (forge, { change }) => forge.changedFiles(change),
  commitAuthors: (forge, { change }) => forge.commitAuthors(change),
  readFile: (forge, { head }) => forge.readFile('model.ts', head),
  member: (forge, { author }) => forge.member(author.id),
  groupMembers: (forge, { group }) => forge.groupMembers(group),
  approvers: (forge, { change }) => forge.approvers(change),
  changePipelines: (forge, { change }) => forge.changePipelines(change),
  branchPipelines: (forge, { branch }) => forge.branchPipelines(branch),
  listComments: async (forge, { change }) => (await forge.listComments(change)).length > 0,
  ensureComment: async (forge, { change }, n) =>
    void (await forge.ensureComment(change, `fault:${n}`, 'report')),
  ensureReply: async (forge, { change }, n) => {
    const [comment] = await forge.listComments(change);
    await forge.ensureReply(change, comment!, `fault:${n}`, 'answer');
  },
  react: async (forge, { change }) => {
    const [comment] = await forge.listComments(change);
    await forge.react(change, comment!.id, 'eyes');
  },
  setStatus: (forge, { head }, n) =>
    forge.setStatus(head, {
      name: `fault-${n}`,
      state: 'pending',
      description: n,
      url: null,
      pipeline: null,
    }),
  upload: async (forge, _bench, n) => void (await forge.upload('chart.png', Buffer.from(n))),
  ensureIssue: async (forge, _bench, n) =>
    void (await forge.ensureIssue(`fault:${n}`, { title: `fault ${n}`, description: n, labels: ['cdl'] })),
  ensureRelease: async (forge, { head }, n) =>
    void (await forge.ensureRelease({
      tag: `fault/${n}`,
      commit: head,
      title: `fault ${n}`,
      description: n,
    })),
};

const stride = Number(process.env.CDL_WALK ?? 0) === 1 ? 1 : 4;

/** What an answer may become: never an exception of ours, never a token in words, and tried again only where that may help. */
function judge(error: unknown, fault: Fault, method: string, what: string): void {
  if (!(error instanceof UserError || error instanceof UpstreamError)) throw error;
  expect(String(error), what).not.toMatch(/glpat-|ghp_/);
  if (fault.kind === 'half') return void expect(error, what).toMatchObject({ retryable: true });
  const { status } = fault as { status: number };
  if (status === 401 || status === 403)
    return void expect(error, what).toMatchObject({ code: 'forge-denied' });
  expect(error, what).toBeInstanceOf(UpstreamError);
  const { retryable } = error as UpstreamError;
  if (status === 409 || status === 500) expect(retryable, what).toBe(true);
  if (status === 404) expect(retryable, what).toBe(false);
  // Too much at a time: nothing was done, so it was sent again. A gateway's word: only what changes nothing twice.
  expect(status, what).not.toBe(429);
  if (status === 503) expect([method, retryable], what).toEqual([expect.stringMatching(/POST|PATCH/), true]);
}

/** What every forge driver makes of a forge that does not answer as it should, at each request of each thing it does. */
export function forgeFaults(name: string, bench: () => ForgeBench): void {
  describe(`the forge ${name} that answers one request in another way (${stride === 1 ? 'all of them' : 'some of them; CDL_WALK=1 takes all'})`, () => {
    let proxy: FaultProxy;
    let forge: Forge;
    beforeAll(async () => {
      const { at, say } = bench();
      const target = new URL(bench().url);
      proxy = await startFaultProxy(target.origin);
      forge = await at(`${proxy.url}${target.pathname}`);
      await forge.self();
      await say('something to answer');
    });
    afterAll(() => proxy?.close());

    let offset = Math.floor(Math.random() * stride);
    it.each(Object.entries(uses))('%s', { timeout: 120_000 }, async (key, use) => {
      const from = proxy.requests.length;
      const undisturbed = await use(forge, bench(), `${key}-first`);
      const requests = proxy.requests.slice(from);
      expect(requests.length).toBeGreaterThan(0);
      for (const [at, { method, path }] of requests.entries()) {
        for (const [index, fault] of faults.entries()) {
          if (offset++ % stride !== 0) continue;
          const n = `${key}-${at}-${index}`;
          const what = `${JSON.stringify(fault)} to ${method} ${path}`;
          const start = proxy.requests.length;
          // How many pages a list has changes on the way: what is hit is known when it is.
          let hit = method;
          proxy.fault = (entry, now) => {
            if (now - start !== at) return null;
            hit = entry.method;
            return fault;
          };
          const during = await use(forge, bench(), n).then(
            (value) => ({ value }),
            (error: unknown) => judge(error, fault, hit, what),
          );
          // What is no answer is not taken for one; that there is no such thing may be true.
          const isNothing = fault.kind === 'status' && fault.status === 404;
          if (during && !isNothing) expect(during.value, what).toEqual(undisturbed);
          proxy.fault = () => null;
          // Once more, and it is as if nothing had been: done, and done once.
          expect(await use(forge, bench(), n), what).toEqual(undisturbed);
          const marked = bench()
            .bodies()
            .filter((body) => body.includes(`<!-- cdl:fault:${n} `));
          if (key === 'ensureComment' || key === 'ensureReply') expect(marked, what).toHaveLength(1);
          const issues = bench()
            .issues()
            .filter((one) => one.title === `fault ${n}`);
          if (key === 'ensureIssue') expect(issues, what).toHaveLength(1);
          if (key === 'setStatus') expect(bench().statuses(`fault-${n}`), what).toEqual([`pending: ${n}`]);
        }
      }
    });
  });
}
