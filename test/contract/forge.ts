import { describe, expect, it } from 'vitest';
import { UserError } from '../../src/core/error.ts';
import type { Forge, Person } from '../../src/forge/types.ts';

/** A forge with one open change, and what people other than the bot can do there. */
export interface ForgeBench {
  /** The project as the bot sees it. */
  forge: Forge;
  /** The same project with a token nobody knows. */
  stranger: Forge;
  change: number;
  branch: string;
  head: string;
  author: Person;
  /** Writes a comment as the author. */
  say(body: string): Promise<string>;
  /** Bodies of all comments, in order. */
  bodies(): string[];
  /** Statuses of a name, oldest first, with the description unless canceled. */
  statuses(name: string): string[];
  /** What {@link statuses} are after "pending: one" became "pending: two": some forges replace, some keep both. */
  renewed: readonly string[];
  /** Answers are in the thread of what they answer; elsewhere they link to it. */
  threads: boolean;
  /** Longest comment, in characters. */
  longest: number;
  /** Markdown that shows `chart.png`. */
  picture: RegExp;
  /** Issues of the project, oldest first. */
  issues(): { title: string; text: string; open: boolean }[];
  /** The bot's threads on lines of the change; null where a status shows problems at lines. */
  lineThreads: (() => { path: string; line: number; resolved: boolean }[]) | null;
  /** A group whose only member is the author. */
  group: string;
  /** The author presses the forge's button that approves. */
  press(): Promise<void>;
  /** Where the forge is, as its driver is told. */
  url: string;
  /** The same project for the bot, by way of another address. */
  at(url: string): Promise<Forge>;
  /** Writes a comment as the bot, past the driver. */
  double(body: string): Promise<void>;
}

/** What every forge driver must do. */
export function forgeContract(name: string, bench: () => ForgeBench): void {
  describe(`the forge ${name}`, () => {
    it('knows itself, the project and its members', async () => {
      const { forge, author } = bench();
      expect((await forge.self()).username).toMatch(/^cdl-bot(\[bot\])?$/);
      expect(await forge.defaultBranch()).toBe('main');
      expect(await forge.member(author.id)).toEqual({ person: author, level: 30 });
      expect(await forge.member('999999')).toBeNull();
      expect(await forge.member('../1')).toBeNull();
    });

    it('reads a change, its files and the authors of its commits', async () => {
      const { forge, change, branch, head, author } = bench();
      const read = await forge.getChange(change);
      expect(read).toMatchObject({
        id: change,
        state: 'open',
        draft: false,
        fork: false,
        sourceBranch: branch,
        targetBranch: 'main',
        head,
        author,
        mergeCommit: null,
      });
      expect(await forge.getChange(4711)).toBeNull();
      expect(await forge.changedFiles(change)).toEqual(['model.ts']);
      expect(await forge.commitAuthors(change)).toContainEqual({ name: 'Ada', email: 'ada@example.com' });
      expect(await forge.readFile('model.ts', head)).toBe('better\n');
      expect(await forge.readFile('absent.ts', head)).toBeNull();
      expect((await forge.listChanges({ state: 'open' })).map((one) => one.id)).toEqual([change]);
      expect(
        (await forge.listChanges({ updatedSince: '2020-01-01T00:00:00Z' })).map((one) => one.id),
      ).toEqual([change]);
    });

    it('keeps exactly one comment per key, found among many, and leaves an unchanged one alone', async () => {
      const { forge, change, say, bodies } = bench();
      const first = await forge.ensureComment(change, 'report:a', 'one');
      for (let i = 0; i < 120; i++) await say(`talk ${i}`);
      const other = await forge.ensureComment(change, 'report:ab', 'other');
      const second = await forge.ensureComment(change, 'report:a', 'two');
      expect(second).toMatchObject({ id: first.id, changed: true });
      expect(await forge.ensureComment(change, 'report:a', 'two')).toMatchObject({ changed: false });
      expect(other.id).not.toBe(first.id);
      for (const one of [await forge.ensureComment(change, 'report:a', 'three'), other]) {
        expect((await forge.getComment(change, one.id))!.updatedAt).toBe(one.updatedAt);
      }
      expect(bodies().filter((body) => body.includes('cdl:report:a '))).toHaveLength(1);
    });

    it('never takes somebody else’s comment for its own, and heals doubles', async () => {
      const { forge, change, say, bodies, double } = bench();
      const mine = await forge.ensureComment(change, 'report:forged', 'mine');
      const body = bodies().at(-1)!;
      await say(body);
      await double(body);
      await forge.ensureComment(change, 'report:forged', 'mine, newer');
      const now = bodies().filter((one) => one.includes('cdl:report:forged '));
      expect(now).toHaveLength(2);
      expect(now[0]).toContain('mine, newer');
      expect(now[1]).toBe(body);
      expect((await forge.ensureComment(change, 'report:forged', 'mine, newer')).id).toBe(mine.id);
    });

    it('writes one of two comments that are asked for at once', async () => {
      const { forge, change, bodies } = bench();
      const texts = ['x', 'y', 'z'];
      await Promise.all(texts.map((text) => forge.ensureComment(change, 'report:race', text)));
      expect(bodies().filter((body) => body.includes('cdl:report:race '))).toHaveLength(1);
    });

    it('answers a comment once, where it was said, and reacts once', async () => {
      const { forge, change, say, author, threads } = bench();
      const id = await say('/status');
      const comment = (await forge.getComment(change, id))!;
      expect(comment).toMatchObject({ author, body: '/status', system: false });
      for (let i = 0; i < 2; i++) {
        await forge.ensureReply(change, comment, `reply:${id}`, 'fine');
        await forge.react(change, id, 'thumbsup');
      }
      const all = await forge.listComments(change);
      const replies = all.filter((one) => one.body.includes(`cdl:reply:${id} `));
      expect(replies).toHaveLength(1);
      expect(replies[0]!.body).toContain('fine');
      if (threads) expect(replies[0]!.thread).toBe(comment.thread);
      else expect(replies[0]!.body).toMatch(new RegExp(`\\]\\(http[^)]+${id}\\)`));
      expect(await forge.getComment(change, '4711')).toBeNull();
    });

    it('shortens what is too long for a comment', async () => {
      const { forge, change, bodies, longest } = bench();
      const wanted = 'x'.repeat(1_200_000);
      await forge.ensureComment(change, 'report:long', wanted);
      const body = bodies().find((one) => one.includes('cdl:report:long '))!;
      expect(body.length).toBeLessThanOrEqual(longest);
      expect(await forge.ensureComment(change, 'report:long', wanted)).toMatchObject({ changed: false });
    });

    it('sets a status again without an error', async () => {
      const { forge, head } = bench();
      const status = {
        name: 'cdl/a',
        state: 'pending',
        description: 'x'.repeat(400),
        url: null,
        pipeline: null,
      } as const;
      await forge.setStatus(head, status);
      await forge.setStatus(head, status);
      await forge.setStatus(head, { ...status, state: 'success' });
    });

    it('says something new in the same state, and goes back from running to pending', async () => {
      const { forge, head, statuses, renewed } = bench();
      const status = {
        name: 'cdl/b',
        state: 'pending',
        description: 'one',
        url: null,
        pipeline: null,
      } as const;
      await forge.setStatus(head, status);
      await forge.setStatus(head, { ...status, description: 'two' });
      expect(statuses('cdl/b')).toEqual(renewed);
      await forge.setStatus(head, { ...status, state: 'running', description: 'three' });
      await forge.setStatus(head, { ...status, description: 'four' });
      expect(statuses('cdl/b').at(-1)).toBe('pending: four');
    });

    it('takes back what a status said', async () => {
      const { forge, head, statuses } = bench();
      const status = { name: 'cdl/c', description: 'one', url: null, pipeline: null };
      await forge.setStatus(head, { ...status, state: 'pending' });
      for (let i = 0; i < 2; i++) await forge.setStatus(head, { ...status, state: 'canceled' });
      expect(statuses('cdl/c').at(-1)).toMatch(/^(canceled|completed|error)/);
    });

    it('uploads a picture and gives the markdown that shows it', async () => {
      const { forge, picture } = bench();
      expect(await forge.upload('chart.png', new Uint8Array([1, 2, 3]))).toMatch(picture);
      const sized = await forge.upload('chart.png', new Uint8Array([1, 2, 3]), 330.5);
      // GitLab's markdown says a width, on GitHub only a tag does.
      const plain =
        forge.kind === 'gitlab'
          ? sized.replace(/\{width=331\}$/, '')
          : sized.replace(/^<img width="331" alt="([^"]*)" src="([^"]*)">$/, '![$1]($2)');
      expect(plain).not.toBe(sized);
      expect(plain).toMatch(picture);
    });

    it('opens one change and one issue for one purpose', async () => {
      const { forge, branch, change } = bench();
      const wanted = { source: branch, target: 'main', title: 'again', description: '' };
      expect((await forge.ensureChange(wanted)).id).toBe(change);
      const issue = { title: 'Drift', description: 'in production', labels: ['cdl'] };
      const first = await forge.ensureIssue('drift:a', issue);
      expect(await forge.ensureIssue('drift:a', issue)).toEqual(first);
      expect(await forge.ensureIssue('drift:b', issue)).not.toEqual(first);
    });

    it('brings an issue up to date, closes it, and opens another one the next time', async () => {
      const { forge, issues } = bench();
      const issue = { title: 'Drift', description: 'one thing', labels: ['cdl'] };
      const first = await forge.ensureIssue('nightly', issue);
      expect(
        await forge.ensureIssue('nightly', { ...issue, title: 'Two', description: 'two things' }),
      ).toEqual(first);
      const mine = () => issues().filter((one) => one.text.includes('cdl:nightly '));
      expect(mine()).toMatchObject([{ title: 'Two', open: true }]);
      expect(mine()[0]!.text).toContain('two things');
      await forge.closeIssue('nightly');
      await forge.closeIssue('nightly');
      expect(mine()).toMatchObject([{ open: false }]);
      expect(await forge.ensureIssue('nightly', issue)).not.toEqual(first);
      await forge.closeIssue('nightly');
    });

    it('keeps one thread at the line of each problem, and resolves it with the problem', async () => {
      const { forge, change, lineThreads } = bench();
      const problem = { path: 'model.ts', line: 1, message: 'not good `enough`' };
      const elsewhere = { path: 'absent.ts', line: 3, message: 'not in the diff' };
      for (let i = 0; i < 2; i++) await forge.ensureLineThreads(change, [problem, elsewhere]);
      const open = lineThreads === null ? [] : [{ path: 'model.ts', line: 1, resolved: false }];
      expect(lineThreads?.() ?? []).toEqual(open);
      await forge.ensureLineThreads(change, []);
      expect(lineThreads?.() ?? []).toEqual(open.map((one) => ({ ...one, resolved: true })));
      await forge.ensureLineThreads(change, [problem]);
      expect(lineThreads?.() ?? []).toEqual(open);
    });

    it('knows the members of a group, and that there is no such group', async () => {
      const { forge, author, group } = bench();
      expect(await forge.groupMembers(group)).toEqual([author.id]);
      expect(await forge.groupMembers('acme/nobody')).toBeNull();
    });

    it('knows who approves at the forge’s own button', async () => {
      const { forge, change, press, author } = bench();
      expect(await forge.approvers(change)).toEqual([]);
      await press();
      expect((await forge.approvers(change)).map((one) => one.person)).toEqual([author]);
      expect(await forge.approvers(4711)).toEqual([]);
    });

    it('makes one release for one tag, and corrects its text', async () => {
      const { forge, head } = bench();
      const wanted = { tag: 'model/a/v1', commit: head, title: 'a 1', description: 'first' };
      const first = await forge.ensureRelease(wanted);
      expect(await forge.ensureRelease({ ...wanted, description: 'corrected' })).toEqual(first);
    });

    it('installs its webhook once', async () => {
      const { forge } = bench();
      const hook = {
        url: 'http://127.0.0.1:9/webhooks',
        token: 'a-secret-token',
        signingToken: 'whsec_BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=',
      };
      expect(await forge.findHook(hook.url)).toBeNull();
      const first = await forge.ensureHook(hook);
      expect(first).toEqual({ health: 'working', until: null, signed: true, missing: [] });
      expect(await forge.ensureHook(hook)).toEqual(first);
      expect(await forge.findHook(hook.url)).toEqual(first);
      expect(await forge.findHook('http://127.0.0.1:9/elsewhere')).toBeNull();
    });

    it('says that a token is refused, and never which', async () => {
      const error: unknown = await bench()
        .stranger.getChange(1)
        .catch((e: unknown) => e);
      expect(error).toBeInstanceOf(UserError);
      expect(error).toMatchObject({ code: 'forge-denied' });
      expect(String(error)).not.toContain('nobody-knows');
    });
  });
}
