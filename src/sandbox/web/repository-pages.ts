import { isUtf8 } from 'node:buffer';
import { type Html, html } from '../../report/html.ts';
import { type Commit, diff, git, gitText, log, readBlob, readCommit, resolveCommit } from '../git.ts';
import type { Project, World } from '../state.ts';
import { bytes } from './job-page.ts';
import { linksOf } from './links.ts';
import { openMarkdown } from './markdown.ts';
import { card, dot, empty, moment, statusesOf } from './parts.ts';
import { listOf } from './project-pages.ts';

/** A revision and a path out of an address: branch names hold slashes, so the longest name that is a commit wins. Null when none is. */
export async function splitRevision(
  project: Project,
  segments: readonly string[],
): Promise<{ revision: string; commit: string; path: string } | null> {
  for (let length = segments.length; length > 0; length -= 1) {
    const revision = segments.slice(0, length).join('/');
    const commit = await resolveCommit(project.repository, revision);
    if (commit !== null) return { revision, commit, path: segments.slice(length).join('/') };
  }
  return null;
}

const titleOf = (commit: Commit) => commit.message.split('\n')[0] ?? '';

function trail(world: World, project: Project, revision: string, path: string): Html {
  const links = linksOf(world, project);
  const names = path === '' ? [] : path.split('/');
  return html`<a href="${links.tree(revision)}"><code>${revision}</code></a>${names.map(
    (name, index) =>
      html` / ${index === names.length - 1 ? html`<b>${name}</b>` : html`<a href="${links.tree(revision, names.slice(0, index + 1).join('/'))}">${name}</a>`}`,
  )}`;
}

/** A file as text, with line numbers' worth of plainness; a picture as a picture; null when there is none. */
export async function blobPage(
  world: World,
  project: Project,
  at: { revision: string; commit: string; path: string },
): Promise<Html | null> {
  const file = await readBlob(project.repository, at.commit, at.path);
  if (!file) return null;
  const raw = linksOf(world, project).raw(at.revision, at.path);
  const limit = 512 * 1024;
  const picture = pictureType(file.bytes) !== null;
  const body = picture
    ? html`<img class="pic" src="${raw}" alt="${at.path}">`
    : !isUtf8(file.bytes) || file.bytes.includes(0)
      ? empty('A binary file.')
      : file.bytes.length > limit
        ? empty('Too long to be shown here.')
        : /\.md$/i.test(at.path)
          ? html`<div class="pad">${(await openMarkdown(world, project))(file.bytes.toString('utf8'))}</div>`
          : html`<pre class="code">${file.bytes.toString('utf8')}</pre>`;
  return card(
    'blob',
    trail(world, project, at.revision, at.path),
    body,
    html`<span class="meta">${bytes(file.bytes.length)} · <a href="${raw}">raw</a></span>`,
  );
}

/** A folder; null when there is none. */
export async function treePage(
  world: World,
  project: Project,
  at: { revision: string; commit: string; path: string },
): Promise<Html | null> {
  const links = linksOf(world, project);
  const where = at.path === '' ? [] : ['--', `${at.path}/`];
  const text = await gitText(project.repository, ['ls-tree', '-z', '-l', at.commit, ...where]);
  const entries = text
    .split('\0')
    .flatMap((line) => {
      const match = /^\d+ (\w+) [0-9a-f]+ +(-|\d+)\t(.+)$/s.exec(line);
      return match ? [{ kind: match[1]!, size: match[2]!, path: match[3]! }] : [];
    })
    .sort((a, b) => Number(b.kind === 'tree') - Number(a.kind === 'tree') || (a.path < b.path ? -1 : 1));
  if (entries.length === 0 && at.path !== '') return null;
  const readme = entries.find((entry) => /^(.*\/)?readme\.md$/i.test(entry.path));
  const text2 =
    readme && (await readBlob(project.repository, at.commit, readme.path))?.bytes.toString('utf8');
  return html`${card(
    'tree',
    trail(world, project, at.revision, at.path),
    listOf(
      entries.map(({ kind, size, path }) => {
        const name = path.split('/').at(-1) ?? path;
        const href = kind === 'tree' ? links.tree(at.revision, path) : links.blob(at.revision, path);
        return html`<li class="row"><a class="grow" href="${href}">${name}${kind === 'tree' && '/'}</a>${kind === 'blob' && html`<span class="meta num">${bytes(Number(size))}</span>`}</li>`;
      }),
      'Empty.',
    ),
    html`<a class="small" href="${links.commits(at.revision)}">commits</a>`,
  )}${text2 && html`<section class="card" data-part="readme"><div class="pad">${(await openMarkdown(world, project))(text2)}</div></section>`}`;
}

/** The newest commits of a branch. */
export async function commitsPage(
  world: World,
  project: Project,
  revision: string,
  commit: string,
): Promise<Html> {
  const links = linksOf(world, project);
  const commits = await log(project.repository, ['-40', commit]);
  return card(
    'commits',
    html`Commits of <code>${revision}</code>`,
    listOf(
      commits.map(
        (entry) =>
          html`<li class="row"><div class="grow"><a class="title" href="${links.commit(entry.id)}">${titleOf(entry)}</a><div class="meta">${entry.author.name} · ${moment(entry.committer.date)}</div></div><div class="bar">${statusesOf(project, entry.id).map((status) => dot(status.status))}</div><a href="${links.commit(entry.id)}"><code>${entry.id.slice(0, 8)}</code></a></li>`,
      ),
      'None.',
    ),
    html`<a class="small" href="${links.tree(revision)}">files</a>`,
  );
}

const maxDiff = 200_000;

/** A commit with what it changed against its first parent; null when there is none. */
export async function commitPage(world: World, project: Project, revision: string): Promise<Html | null> {
  const commit = await readCommit(project.repository, revision);
  if (!commit) return null;
  const links = linksOf(world, project);
  const emptyTree = '4b825dc642cb6eb9a060e54bf8d69288fbee4904';
  const files = await diff(project.repository, commit.parents[0] ?? emptyTree, commit.id);
  const [title = '', ...rest] = commit.message.split('\n');
  const message = rest.join('\n').trim();
  return html`<div class="head" data-part="head"><h1>${title}</h1><p class="meta">${commit.author.name} · ${moment(commit.committer.date)} · <code>${commit.id}</code> · <a href="${links.tree(commit.id)}">files</a></p>
${message !== '' && html`<pre class="meta">${message}</pre>`}
${statusesOf(project, commit.id).map((status) => html`<div class="line meta">${dot(status.status)}${status.name} ${status.description}</div>`)}</div>
${files.map((file, index) => card(`file-${index}`, html`<code>${file.newPath}</code>`, patch(file.diff), html`<span class="meta">${file.kind}</span>`))}`;
}

function patch(text: string): Html {
  if (text === '') return empty('No lines changed.');
  if (text.length > maxDiff) return empty('Too long to be shown here.');
  return html`<pre class="code"><span class="diff">${text
    .replace(/\n$/, '')
    .split('\n')
    .map((line) => {
      const kind = line.startsWith('+')
        ? 'add'
        : line.startsWith('-')
          ? 'del'
          : line.startsWith('@@')
            ? 'hunk'
            : '';
      return html`<span class="${kind}">${line}
</span>`;
    })}</span></pre>`;
}

/** The type of a picture that browsers may show, by its first bytes; null for everything else (SVG holds programs). */
export function pictureType(content: Buffer): string | null {
  if (content.subarray(0, 8).equals(Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a])))
    return 'image/png';
  if (content.subarray(0, 3).equals(Buffer.from([0xff, 0xd8, 0xff]))) return 'image/jpeg';
  if (/^GIF8[79]a/.test(content.toString('latin1', 0, 6))) return 'image/gif';
  if (content.toString('latin1', 0, 4) === 'RIFF' && content.toString('latin1', 8, 12) === 'WEBP')
    return 'image/webp';
  return null;
}

/** The bytes of a file; null when there is none. */
export async function rawFile(
  project: Project,
  at: { commit: string; path: string },
): Promise<Buffer | null> {
  const file = await readBlob(project.repository, at.commit, at.path);
  return file?.bytes ?? null;
}

/** What changed between two revisions, for the address the compare API gives; null when one is unknown. */
export async function comparePage(project: Project, from: string, to: string): Promise<Html | null> {
  const [a, b] = await Promise.all([from, to].map((name) => resolveCommit(project.repository, name)));
  if (!a || !b) return null;
  const base =
    (await git(project.repository, ['merge-base', a, b]).catch(() => null))?.toString('utf8').trim() ?? a;
  const files = await diff(project.repository, base, b);
  return html`<div class="head" data-part="head"><h1><code>${from}</code> … <code>${to}</code></h1></div>${files.map((file, index) => card(`file-${index}`, html`<code>${file.newPath}</code>`, patch(file.diff), html`<span class="meta">${file.kind}</span>`))}`;
}
