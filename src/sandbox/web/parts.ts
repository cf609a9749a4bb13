import { type Html, html, type Part } from '../../report/html.ts';
import type { CommitStatus, PipelineStatus, Project, User, World } from '../state.ts';
import { basePath } from './links.ts';

/** Every state a chip shows: those of pipelines and jobs, merge requests, deployments and environments. */
type State = PipelineStatus | 'opened' | 'merged' | 'closed' | 'draft' | 'available' | 'stopped';

const signs: Record<State, string> = {
  created: '○',
  pending: '◔',
  running: '◑',
  success: '✓',
  failed: '✕',
  canceled: '⊘',
  skipped: '»',
  manual: '▷',
  opened: '⊙',
  merged: '⇢',
  closed: '⊘',
  draft: '✎',
  available: '●',
  stopped: '■',
};

const words: Partial<Record<State, string>> = { success: 'passed', opened: 'open' };

/** A state as a coloured chip with a sign, so that colour is never all there is. */
export function chip(state: State, text: string = words[state] ?? state): Html {
  return html`<span class="chip s-${state}"><i aria-hidden="true">${signs[state]}</i>${text}</span>`;
}

/** The sign alone, for tight places; the word is its title. */
export function dot(state: State): Html {
  const word = words[state] ?? state;
  return html`<span class="dot s-${state}" title="${word}" role="img" aria-label="${word}">${signs[state]}</span>`;
}

/** A moment; the page's script turns it into "3 min ago". */
export function moment(iso: string | null): Html | null {
  return iso === null ? null : html`<time datetime="${iso}">${iso.slice(0, 16).replace('T', ' ')}</time>`;
}

/** Seconds as people say them: `42s`, `3m 07s`, `2h 05m`. */
export function span(seconds: number): string {
  const s = Math.max(0, Math.round(seconds));
  const two = (value: number) => String(value).padStart(2, '0');
  if (s < 60) return `${s}s`;
  return s < 3600
    ? `${Math.floor(s / 60)}m ${two(s % 60)}s`
    : `${Math.floor(s / 3600)}h ${two(Math.floor((s % 3600) / 60))}m`;
}

/** How long something took, or counts up while it runs; null when it has not begun. */
export function duration(startedAt: string | null, finishedAt: string | null): Html | null {
  if (startedAt === null) return null;
  if (finishedAt === null) return html`<span class="num" data-since="${startedAt}"></span>`;
  return html`<span class="num">${span((Date.parse(finishedAt) - Date.parse(startedAt)) / 1000)}</span>`;
}

/** The first letters of a name on a colour of its own. */
export function avatar(user: User | undefined): Html {
  const name = user?.name ?? '?';
  const initials = [...name.replace(/\(.*/, '').trim()].slice(0, 1).join('').toUpperCase() || '?';
  return html`<span class="avatar a${(user?.id ?? 0) % 6}${user?.bot ? ' bot' : ''}" aria-hidden="true">${initials}</span>`;
}

/** A user with a link to their page. */
export function person(world: World, id: number | null): Html {
  const user = id === null ? undefined : world.users.get(id);
  if (!user) return html`<span class="muted">nobody</span>`;
  return html`<a class="person" href="${basePath(world)}/${encodeURIComponent(user.username)}">${user.name}</a>${user.bot && html` <span class="tag">bot</span>`}`;
}

/** A branch or another name of git. */
export function ref(name: string, href?: string): Html {
  return href === undefined
    ? html`<code class="ref">${name}</code>`
    : html`<a class="ref" href="${href}"><code>${name}</code></a>`;
}

/** A table that scrolls sideways on narrow screens. */
export function table(head: readonly Part[], rows: readonly (readonly Part[])[]): Html {
  return html`<div class="scroll"><table><thead><tr>${head.map((cell) => html`<th>${cell}</th>`)}</tr></thead><tbody>${rows.map(
    (row) => html`<tr>${row.map((cell) => html`<td>${cell}</td>`)}</tr>`,
  )}</tbody></table></div>`;
}

/** A titled box; `part` names it for the live refresh. */
export function card(part: string, title: Part, body: Part, extra: Part = null): Html {
  return html`<section class="card" data-part="${part}"><header><h2>${title}</h2>${extra}</header>${body}</section>`;
}

/** Words for a place where nothing is yet. */
export function empty(text: string): Html {
  return html`<p class="empty">${text}</p>`;
}

/** The newest status of each name on a commit, in the order they first came. */
export function statusesOf(project: Project, sha: string): CommitStatus[] {
  const newest = new Map<string, CommitStatus>();
  for (const status of project.statuses) if (status.sha === sha) newest.set(status.name, status);
  return [...newest.values()];
}
