import { createHash } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import { createEntry, emptyLock, renderLock, withEntry } from '../../src/core/lock.ts';
import type { Report } from '../../src/core/report.ts';
import { escapeText, render } from '../../src/report/html.ts';
import { renderMarkdown } from '../../src/report/markdown.ts';
import { presentDeployment, presentIssue, presentJob, presentPipeline } from '../../src/sandbox/present.ts';
import { announce, type Job, type MergeRequest, type Note, type Pipeline } from '../../src/sandbox/state.ts';
import { renderLog } from '../../src/sandbox/web/ansi.ts';
import { renderPages } from '../../src/sandbox/web/pages.ts';
import { openRig, type Rig } from './forge-rig.ts';

// biome-ignore lint/suspicious/noTemplateCurlyInString: it must stay as it is
const hostile = '"><img src=x onerror=alert(1)><script>alert(1)</script>\'`${1}';
const png = Buffer.from(
  'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==',
  'base64',
);
const at = '2026-01-02T03:04:05.000Z';

let rig: Rig;
afterEach(() => rig.close());

async function open(path = ''): Promise<Rig> {
  rig = await openRig({ pages: renderPages, path });
  return rig;
}

const get = (path: string, init: RequestInit = {}) => fetch(`${rig.sandbox.url}${path}`, init);

async function read(path: string): Promise<string> {
  const answer = await get(path);
  expect([path, answer.status]).toEqual([path, 200]);
  return answer.text();
}

/** The page without its own program and style. */
const bodyOf = (page: string) => page.slice(page.indexOf('<main>'), page.indexOf('</main>'));

function addPipeline(changes: Partial<Pipeline> = {}): Pipeline {
  const { world } = rig.sandbox;
  const pipeline: Pipeline = {
    id: world.nextId('pipeline'),
    iid: 1,
    projectId: rig.project.id,
    ref: 'main',
    sha: '0'.repeat(40),
    tag: false,
    source: 'push',
    status: 'running',
    name: null,
    userId: rig.people.owner.user.id,
    mergeRequestIid: null,
    inputs: {},
    variables: [],
    yamlErrors: [],
    createdAt: at,
    startedAt: at,
    finishedAt: null,
    jobIds: [],
    stages: ['train', 'deploy'],
    ...changes,
  };
  rig.project.pipelines.set(pipeline.id, pipeline);
  return pipeline;
}

async function addJob(
  pipeline: Pipeline,
  name: string,
  log: string,
  changes: Partial<Job> = {},
): Promise<Job> {
  const id = rig.sandbox.world.nextId('job');
  const folder = join(rig.folder, 'jobs', String(id));
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, 'trace.log'), log);
  const job: Job = {
    id,
    pipelineId: pipeline.id,
    projectId: rig.project.id,
    status: 'running',
    createdAt: at,
    startedAt: at,
    finishedAt: null,
    failureReason: null,
    token: 'secret-job-token',
    folder,
    hasArtifacts: false,
    dotenv: {},
    cancelRequested: false,
    spec: {
      name,
      stage: 'train',
      variables: [],
      beforeScript: [],
      script: [],
      afterScript: [],
      needs: null,
      when: 'on_success',
      allowFailure: false,
      timeout: 60,
      retry: 0,
      retryWhen: [],
      retryExitCodes: [],
      allowFailureExitCodes: [],
      dependencies: null,
      image: null,
      release: null,
      tags: [],
      resourceGroup: null,
      environment: null,
      artifacts: null,
      interruptible: false,
    },
    ...changes,
  };
  rig.project.jobs.set(id, job);
  pipeline.jobIds.push(id);
  return job;
}

/** A merge request made through the API, from a branch with one commit. */
async function addMergeRequest(branch: string, title: string): Promise<MergeRequest> {
  const clone = await rig.clone('developer');
  await rig.git(clone, 'checkout', '--quiet', '-b', branch);
  await writeFile(join(clone, 'model.ts'), `export const a = '<b>${branch}</b>';\n`);
  await rig.git(clone, 'add', '.');
  await rig.git(clone, 'commit', '--quiet', '-m', title);
  await rig.git(clone, 'push', '--quiet', 'origin', branch);
  const made = await rig.call('developer', 'POST', `/projects/${rig.project.id}/merge_requests`, {
    source_branch: branch,
    target_branch: 'main',
    title,
  });
  expect(made.status).toBe(201);
  await rig.sandbox.settled();
  return rig.project.mergeRequests.get(made.json.iid)!;
}

async function say(mr: MergeRequest, who: keyof Rig['people'], body: string): Promise<Note> {
  const path = `/projects/${rig.project.id}/merge_requests/${mr.iid}/notes`;
  const made = await rig.call(who, 'POST', path, { body });
  expect(made.status).toBe(201);
  return mr.notes.find((note) => note.id === made.json.id)!;
}

async function upload(
  name: string,
  content: Uint8Array,
  type: string,
): Promise<{ url: string; full_path: string; markdown: string }> {
  const form = new FormData();
  form.set('file', new Blob([content], { type }), name);
  const answer = await fetch(`${rig.sandbox.url}/api/v4/projects/${rig.project.id}/uploads`, {
    method: 'POST',
    headers: { 'private-token': rig.people.developer.token.token },
    body: form,
  });
  return (await answer.json()) as { url: string; full_path: string; markdown: string };
}

/** Every address an answer of the API tells, wherever it stands. */
function addressesIn(value: unknown): string[] {
  if (Array.isArray(value)) return value.flatMap(addressesIn);
  if (typeof value !== 'object' || value === null) return [];
  return Object.entries(value).flatMap(([key, inner]) =>
    /^(web_url|details_path|full_path)$/.test(key) && typeof inner === 'string' && inner.includes('/')
      ? [inner]
      : addressesIn(inner),
  );
}

async function release(tag: string, name: string): Promise<void> {
  const body = { tag_name: tag, name, ref: 'main', description: `- **accuracy:** better\n\n${name}` };
  const made = await rig.call('developer', 'POST', `/projects/${rig.project.id}/releases`, body);
  expect(made.status).toBe(201);
}

describe('addresses', () => {
  it.each(['', '/gitlab'])(
    'every web address the API tells is a page, also below the relative URL %j',
    async (prefix) => {
      await open(prefix);
      const { world } = rig.sandbox;
      const mr = await addMergeRequest('feature/a+b', 'A change');
      await say(mr, 'developer', 'hello');
      const own = addPipeline({
        sha: mr.sha,
        ref: mr.sourceBranch,
        mergeRequestIid: mr.iid,
        source: 'merge_request_event',
      });
      const job = await addJob(own, 'train', 'log\n');
      const issue = await rig.call('developer', 'POST', `/projects/${rig.project.id}/issues`, {
        title: 'Drift',
      });
      expect(issue.status).toBe(201);
      const { full_path: uploaded } = await upload('a.png', png, 'image/png');
      rig.project.environments.push({ id: 1, name: 'production', externalUrl: null, state: 'available' });
      rig.project.deployments.push({
        id: 1,
        iid: 1,
        environmentId: 1,
        ref: 'main',
        sha: mr.sha,
        status: 'success',
        jobId: job.id,
        userId: rig.people.owner.user.id,
        createdAt: at,
        finishedAt: at,
      });
      const id = `/projects/${rig.project.id}`;
      const told = [
        `${id}`,
        `${id}/merge_requests/${mr.iid}`,
        `${id}/merge_requests`,
        `${id}/repository/commits`,
        `${id}/repository/branches`,
        `${id}/pipelines`,
        `${id}/members/all`,
        `${id}/repository/compare?from=main&to=${mr.sha}`,
      ];
      const answers = await Promise.all(told.map((path) => rig.call('maintainer', 'GET', path)));
      expect(answers.map((answer) => answer.status)).toEqual(told.map(() => 200));
      const addresses = new Set([
        ...answers.flatMap((answer) => addressesIn(answer.json)),
        ...addressesIn(presentPipeline(world, rig.project, own)),
        ...addressesIn(presentJob(world, rig.project, job)),
        ...addressesIn(presentIssue(world, rig.project, rig.project.issues.get(issue.json.iid)!)),
        ...addressesIn(presentDeployment(world, rig.project, rig.project.deployments[0]!)),
      ]);
      for (const kind of [
        'merge_requests/',
        'pipelines/',
        'jobs/',
        'issues/',
        'commit/',
        'tree/',
        'compare/',
      ]) {
        expect([...addresses].some((address) => address.includes(`/-/${kind}`))).toBe(true);
      }
      // Names of references ("team/demo!1") are no addresses.
      const real = [...addresses, uploaded, '/team/demo/-/environments'].filter((entry) =>
        /^(http|\/)/.test(entry),
      );
      for (const address of real) {
        const url = address.startsWith('http') ? address : `${world.url}${address}`;
        const answer = await fetch(url);
        expect([address, answer.status]).toEqual([address, 200]);
        await answer.arrayBuffer();
      }
    },
  );

  it('every link of a page leads somewhere', async () => {
    await open();
    const mr = await addMergeRequest('feature/links', 'Links');
    const own = addPipeline({ sha: mr.sha, ref: mr.sourceBranch, mergeRequestIid: mr.iid });
    await addJob(own, 'train', 'log\n');
    await release('model/demo/v1', 'Notes');
    const seen = new Set(['/']);
    for (const path of seen) {
      const page = await read(path);
      for (const [, href = ''] of page.matchAll(/ href="([^"#]+)/g)) {
        const url = new URL(href.replaceAll('&amp;', '&'), rig.sandbox.url);
        if (url.origin === new URL(rig.sandbox.url).origin) seen.add(url.pathname);
      }
    }
    expect(seen.size).toBeGreaterThan(20);
    expect([...seen].some((path) => path.endsWith('/blob/main/README.md'))).toBe(true);
    expect([...seen].some((path) => path.endsWith('/-/tree/model/demo/v1'))).toBe(true);
  });

  it.each([
    '/nobody',
    '/team/demo/-/merge_requests/99',
    '/team/demo/-/merge_requests/1e0',
    '/team/demo/-/jobs/99/raw',
    '/team/demo/-/pipelines/__proto__',
    '/team/demo/-/blob/main/absent',
    '/team/demo/-/blob/main/../../secret',
    '/team/demo/-/commit/--all',
    '/team/demo/-/raw/main/.git%2f..%2f..%2fHEAD',
    '/team/demo/uploads/0123/..%2f..%2fx',
    '/-/project/99/uploads/a/b',
    '/team/demo/-/tree/main%00x',
    '/team/demo/-/blob/main/:(glob)x',
    '/team/demo/-/tree/main/:(glob)x',
  ])('%s is not there', async (path) => {
    await open();
    expect((await get(path)).status).toBe(404);
  });

  it('answers HEAD without a body and nothing else than reading', async () => {
    await open();
    const head = await get('/team/demo', { method: 'HEAD' });
    expect([head.status, await head.text()]).toEqual([200, '']);
    expect((await get('/team/demo', { method: 'POST' })).status).toBe(404);
  });
});

describe('what others wrote', () => {
  it('is never markup: titles, branches, notes, statuses, jobs, files, YAML problems', async () => {
    await open();
    const mr = await addMergeRequest("feature/<img/src=x/onerror=alert(1)>'", hostile);
    mr.description = hostile;
    mr.labels = [hostile];
    const note = await say(mr, 'developer', hostile);
    note.emoji.push({ id: 1, name: hostile, userId: rig.people.owner.user.id });
    rig.people.owner.user.name = hostile;
    rig.project.settings.description = hostile;
    const own = addPipeline({
      sha: mr.sha,
      ref: mr.sourceBranch,
      mergeRequestIid: mr.iid,
      name: hostile,
      yamlErrors: [hostile],
      inputs: { [hostile]: hostile },
      stages: [hostile],
    });
    const job = await addJob(own, hostile, `${hostile}\n`, { failureReason: hostile });
    rig.project.environments.push({
      id: 1,
      name: hostile,
      externalUrl: 'javascript:alert(1)',
      state: 'available',
    });
    rig.project.statuses.push({
      id: 1,
      sha: mr.sha,
      ref: null,
      name: hostile,
      status: 'failed',
      description: hostile,
      targetUrl: 'javascript:alert(1)',
      pipelineId: null,
      authorId: 1,
      createdAt: at,
    });
    await release('model/demo/v1', hostile);
    const root = '/team/demo';
    const branch = encodeURIComponent(mr.sourceBranch);
    const pages = [
      '/',
      '/team',
      '/owner',
      root,
      ...['merge_requests', 'pipelines', 'environments', 'releases'].map((kind) => `${root}/-/${kind}`),
      `${root}/-/merge_requests/${mr.iid}`,
      `${root}/-/pipelines/${own.id}`,
      `${root}/-/jobs/${job.id}`,
      `${root}/-/commits/${branch}`,
      `${root}/-/commit/${mr.sha}`,
      `${root}/-/tree/${branch}`,
      `${root}/-/blob/${branch}/model.ts`,
    ];
    for (const path of pages) {
      const page = await read(path);
      const body = bodyOf(page);
      const tags = body.replace(/"[^"]*"/g, '""');
      expect(body).not.toMatch(/<script|<img src="?x|<b>feature|href="javascript/i);
      // No tag has an event handler: the text only ever occurs escaped.
      expect(tags.match(/<[^>]*\sonerror\s*=/gi) ?? []).toEqual([]);
      expect(page.match(/<script>/g)).toHaveLength(1);
    }
    expect(await read(pages[8]!)).toContain('&lt;script&gt;alert(1)&lt;/script&gt;');
  });

  it('runs nowhere: the policy allows the page’s own style and program by their hashes, and nothing else', async () => {
    await open();
    const answer = await get('/team/demo');
    const page = await answer.text();
    const policy = answer.headers.get('content-security-policy')!;
    const hash = (text: string) => `'sha256-${createHash('sha256').update(text).digest('base64')}'`;
    const [, program = ''] = /<script>([\s\S]*?)<\/script>/.exec(page)!;
    const [, look = ''] = /<style>([\s\S]*?)<\/style>/.exec(page)!;
    expect(policy.split('; ').sort()).toEqual(
      [
        "base-uri 'none'",
        "connect-src 'self'",
        "default-src 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "img-src 'self'",
        `script-src ${hash(program)}`,
        `style-src ${hash(look)}`,
      ].sort(),
    );
    expect(page).not.toMatch(/ style="| on\w+="/);
    expect(page).not.toMatch(/(src|href)="(https?:)?\/\/(?!127\.0\.0\.1)/);
    expect(answer.headers.get('x-content-type-options')).toBe('nosniff');
  });

  it('escapes any text', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        expect(escapeText(text)).not.toMatch(/[<>"']|&(?!amp;|lt;|gt;|quot;|#39;)/);
      }),
    );
  });
});

describe('comments', () => {
  const report: Report = {
    key: 'report:fashion',
    title: 'fashion',
    verdict: 'pass',
    summary: 'Every gate passed.',
    blocks: [
      { kind: 'table', head: ['metric', 'value'], align: ['left', 'right'], rows: [['accuracy <b>', '0.9']] },
      { kind: 'details', summary: 'Manifest', blocks: [{ kind: 'code', language: 'yaml', text: 'a: 1' }] },
    ],
  };

  it('a report shows its tables, details and uploaded pictures, and hides its marker', async () => {
    await open();
    const mr = await addMergeRequest('report', 'Report');
    const picture = await upload('loss.png', png, 'image/png');
    await say(
      mr,
      'developer',
      `<!-- marker -->\n${renderMarkdown(report)}\n${picture.markdown}{width=330}\n`,
    );
    const page = await read(`/team/demo/-/merge_requests/${mr.iid}`);
    expect(page).toContain('<details>\n<summary>Manifest</summary>');
    expect(page).toMatch(
      /<div class="scroll"><table>\s*<thead>\s*<tr>\s*<th>metric<\/th>\s*<th align="right">value/,
    );
    expect(page).toContain('accuracy &lt;b&gt;');
    expect(page).not.toContain('marker');
    const [, address = ''] = /<img src="([^"]+)" alt="loss" width="330"/.exec(page)!;
    expect(page).not.toContain('{width=330}');
    expect(address).toBe(`/team/demo${picture.url}`);
    const shown = await get(address);
    expect(shown.headers.get('content-type')).toBe('image/png');
    expect(Buffer.from(await shown.arrayBuffer())).toEqual(png);
  });

  it('what a comment may not hold is made harmless', async () => {
    await open();
    const mr = await addMergeRequest('hostile', 'Hostile');
    const cases: [body: string, kept: string][] = [
      ['<script>alert(1)</script>after', 'after'],
      ['<a href="javascript:alert(1)">x</a>', '>x</a>'],
      ['[x](javascript:alert(1))', 'x'],
      ['<iframe src="/"></iframe>after', 'after'],
      ['<form action="/"><input name="a"><button>b</button></form>', 'b'],
      ['<style>*{display:none}</style>after', 'after'],
      ['<div class="note" id="note_1" style="position:fixed" onclick="alert(1)">x</div>', '<div>x</div>'],
      ['<svg onload=alert(1)><circle/></svg>after', 'after'],
      ['<img src="https://example.com/pixel.png" alt="pixel">', 'pixel'],
      ['<img src="//example.com/pixel.png" alt="pixel">', 'pixel'],
      ['![pixel](http://example.com/pixel.png)', 'pixel'],
      ['![up](/uploads/../../etc/passwd)', 'up'],
      ['<img src="chart.png" onerror="alert(1)">', '/team/demo/-/raw/main/chart.png'],
      ['</div></section></main><h1>out</h1>', '<h1>out</h1>'],
      ['<details><summary>never closed', 'never closed'],
    ];
    for (const [body] of cases) await say(mr, 'developer', body);
    const page = await read(`/team/demo/-/merge_requests/${mr.iid}`);
    const notes = page.match(/<article[\s\S]*?<\/article>/g) ?? [];
    expect(notes).toHaveLength(cases.length);
    for (const [index, [body, kept]] of cases.entries()) {
      const note = notes[index]!;
      expect([body, note.includes(kept)]).toEqual([body, true]);
      expect(note).not.toMatch(/<script|<style|<iframe|<form|<input|<button|<svg| style="/i);
      expect(note).not.toMatch(/(href|src)="\s*(javascript:|(https?:)?\/\/example\.com\/pixel)/i);
      expect(note.replace(/"[^"]*"/g, '""').match(/<[^>]*\son\w+\s*=/gi) ?? []).toEqual([]);
      for (const tag of ['div', 'details', 'summary']) {
        const count = (pattern: RegExp) => (note.match(pattern) ?? []).length;
        const [opened, closed] = [count(new RegExp(`<${tag}[ >]`, 'g')), count(new RegExp(`</${tag}>`, 'g'))];
        expect([body, tag, opened]).toEqual([body, tag, closed]);
      }
    }
    expect(page.match(/<\/?main>/g)).toEqual(['<main>', '</main>']);
  });

  it('threads stand together, reactions are counted, and people and merge requests are linked', async () => {
    await open();
    const mr = await addMergeRequest('talk', 'Talk');
    const first = await say(mr, 'developer', 'A question to @maintainer about !1, not `@maintainer`');
    await say(mr, 'maintainer', 'in between');
    const path = `/projects/${rig.project.id}/merge_requests/${mr.iid}`;
    const reply = await rig.call('maintainer', 'POST', `${path}/discussions/${first.discussionId}/notes`, {
      body: 'the answer',
    });
    expect(reply.status).toBe(201);
    await rig.call('maintainer', 'POST', `${path}/notes/${first.id}/award_emoji`, { name: 'thumbsup' });
    const page = await read(`/team/demo/-/merge_requests/${mr.iid}`);
    const [thread = ''] = /<article[\s\S]*?<\/article>/.exec(page)!;
    expect(thread).toContain('A question');
    expect(thread).toContain('the answer');
    expect(thread).not.toContain('in between');
    expect(thread).toContain('👍 1');
    expect(thread.match(/<a href="\/maintainer"/g)).toHaveLength(1);
    expect(thread).toContain(`<a href="/team/demo/-/merge_requests/1"`);
  });
});

describe('uploads', () => {
  it.each([
    ['page.png', '<html><script>alert(1)</script>', 'image/png'],
    ['page.svg', '<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>', 'image/svg+xml'],
    ['page.html', '<script>alert(1)</script>', 'text/html'],
  ])('%s is downloaded, whatever type it was sent with', async (name, content, type) => {
    await open();
    const { url, full_path } = await upload(name, Buffer.from(content), type);
    for (const address of [`/team/demo${url}`, full_path]) {
      const answer = await get(address);
      expect(answer.headers.get('content-type')).toBe('application/octet-stream');
      expect(answer.headers.get('content-disposition')).toMatch(/^attachment/);
      expect(answer.headers.get('content-security-policy')).toContain('sandbox');
      expect(await answer.text()).toBe(content);
    }
  });
});

describe('releases', () => {
  it('are there with their notes, newest first', async () => {
    await open();
    expect(await read('/team/demo/-/releases')).toContain('No release yet');
    for (const version of [1, 2]) await release(`model/demo/v${version}`, `demo version ${version}`);
    const page = bodyOf(await read('/team/demo/-/releases'));
    expect(page).toContain('<strong>accuracy:</strong> better');
    expect(page.indexOf('demo version 2')).toBeLessThan(page.indexOf('demo version 1'));
  });
});

describe('the registry', () => {
  const digest = (text: string) => `sha256:${createHash('sha256').update(text).digest('hex')}` as const;
  const commitLock = async (text: string) => {
    const clone = await rig.clone('maintainer');
    await writeFile(join(clone, 'cdl.lock'), text);
    await rig.git(clone, 'add', '.');
    await rig.git(clone, 'commit', '--quiet', '-m', 'lock');
    await rig.git(clone, 'push', '--quiet', 'origin', 'HEAD:main');
    await rig.sandbox.settled();
  };

  it('shows what the lock of the default branch says', async () => {
    await open();
    expect(await read('/team/demo')).toContain('main has no cdl.lock yet');
    const entry = createEntry(
      {
        model: 'fashion',
        code: digest('1'),
        config: digest('2'),
        dataset: digest('3'),
        transform: null,
        checkpoint: digest('4'),
        package: digest('5'),
      },
      digest('6'),
      { version: 7, run: digest('8') },
    );
    await commitLock(renderLock(withEntry(emptyLock, 'fashion', 'production', entry)));
    const page = await read('/team/demo');
    for (const text of ['fashion', 'production', 'version 7', entry.candidate, entry.package]) {
      expect(page).toContain(text);
    }
  });

  it('says what is wrong with a lock that cannot be read', async () => {
    await open();
    await commitLock('version: <2>\n');
    expect(bodyOf(await read('/team/demo'))).toMatch(/class="warning">cdl\.lock/);
  });
});

describe('job logs', () => {
  it('show colours, drop section markers and other sequences, and keep the last state of a line', () => {
    const log = [
      'section_start:1700000000:step_script[collapsed=true]\r\x1b[0K\x1b[32;1m$ cdl train\x1b[0;m',
      'progress 1%\rprogress 2%\r\x1b[Kprogress 100%\r',
      '\x1b]0;title\x07\x1b[2J\x1b[38;5;196mred\x1b[38;2;0;0;255mblue\x1b[39m plain',
      'section_end:1700000001:step_script\r\x1b[0K',
    ].join('\n');
    expect(render(renderLog(log).html)).toBe(
      [
        '<div><span class="b f2">$ cdl train</span></div>',
        '<div>progress 100%</div>',
        '<div><span class="f1">red</span><span class="f4">blue</span> plain</div>',
        '<div></div>',
      ].join(''),
    );
  });

  it('come out the same in pieces as in one', () => {
    const word = fc.constantFrom(
      'a',
      '<b>',
      '&',
      '\x1b[31m',
      '\x1b[1;42m',
      '\x1b[0m',
      '\x1b[38;5;30m',
      '\r',
      ' ',
      '\x1b[22;39m',
    );
    const line = fc.array(word, { maxLength: 8 }).map((words) => `${words.join('')}\n`);
    fc.assert(
      fc.property(fc.array(fc.array(line, { maxLength: 4 }), { maxLength: 4 }), (pieces) => {
        let style = '';
        const parts = pieces.map((lines) => {
          const piece = renderLog(lines.join(''), style);
          style = piece.style;
          return render(piece.html);
        });
        expect(parts.join('')).toBe(render(renderLog(pieces.flat().join('')).html));
      }),
    );
  });

  it('any bytes become nothing but lines and coloured spans', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        const rest = render(renderLog(`\x1b[31m${text}`).html).replace(
          /<div>|<\/div>|<span class="[a-z0-7 ]+">|<\/span>/g,
          '',
        );
        expect(rest).not.toMatch(/[<>]/);
      }),
    );
  });

  it('grow: each piece begins where the last one ended, with whole lines until the job is over', async () => {
    await open();
    const job = await addJob(addPipeline(), 'train', '\x1b[31mone\ntwo\nthr');
    const base = `/team/demo/-/jobs/${job.id}`;
    const page = await read(base);
    const [, from = ''] = /data-from="(\d+)"/.exec(page)!;
    expect(page).toContain('<div><span class="f1">two</span></div>');
    expect(page).not.toContain('thr');
    const next = async (start: string | number, style: string) =>
      (await (await get(`${base}/log?from=${start}&style=${style}`)).json()) as {
        html: string;
        from: number;
        style: string;
        more: boolean;
      };
    expect(await next(from, '31')).toMatchObject({ html: '', from: Number(from), more: false });
    await writeFile(join(job.folder, 'trace.log'), '\x1b[31mone\ntwo\nthree\nla');
    const grown = await next(from, '31');
    expect(grown.html).toBe('<div><span class="f1">three</span></div>');
    job.status = 'success';
    expect((await next(grown.from, grown.style)).html).toBe('<div><span class="f1">la</span></div>');
    expect(await (await get(`${base}/raw`)).text()).toBe('\x1b[31mone\ntwo\nthree\nla');
    expect((await get(`${base}/raw`)).headers.get('content-type')).toBe('text/plain; charset=utf-8');
  });

  it('of many megabytes show their end, and the whole in the raw log', async () => {
    await open();
    const line = `${'x'.repeat(99)}\n`;
    const job = await addJob(addPipeline(), 'train', `FIRST\n${line.repeat(20_000)}LAST\n`, {
      status: 'success',
    });
    const page = await read(`/team/demo/-/jobs/${job.id}`);
    expect(page).toContain('<div>LAST</div>');
    expect(page).not.toContain('FIRST');
    expect(page.length).toBeLessThan(1_000_000);
    expect((await (await get(`/team/demo/-/jobs/${job.id}/raw`)).text()).startsWith('FIRST')).toBe(true);
  });
});

describe('the event stream', () => {
  it('tells of a project’s events, by kind and number only', async () => {
    await open();
    const stop = new AbortController();
    const answer = await get(`/-/events?project=${rig.project.id}`, { signal: stop.signal });
    expect(answer.headers.get('content-type')).toBe('text/event-stream');
    const pipeline = addPipeline();
    const job = await addJob(pipeline, 'train', '');
    const other = { ...rig.project, id: 999 };
    announce(rig.sandbox.world, { kind: 'pipeline', project: other, pipeline });
    announce(rig.sandbox.world, { kind: 'trace', project: rig.project, job });
    announce(rig.sandbox.world, { kind: 'pipeline', project: rig.project, pipeline });
    let text = '';
    const reader = answer.body!.pipeThrough(new TextDecoderStream()).getReader();
    while (!text.includes('data: pipeline')) text += (await reader.read()).value ?? '';
    expect(text).toBe(`retry: 2000\n\ndata: trace ${job.id}\n\ndata: pipeline 0\n\n`);
    stop.abort();
    await reader.cancel().catch(() => {});
  });

  it('leaves no listener behind when the reader goes', async () => {
    await open();
    const { events } = rig.sandbox.world;
    const before = events.listenerCount('event');
    const stop = new AbortController();
    const answer = await get('/-/events', { signal: stop.signal });
    expect(events.listenerCount('event')).toBe(before + 1);
    const gone = new Promise<void>((resolve) => events.once('removeListener' as 'event', () => resolve()));
    stop.abort();
    await answer.text().catch(() => {});
    await gone;
    expect(events.listenerCount('event')).toBe(before);
  });
});
