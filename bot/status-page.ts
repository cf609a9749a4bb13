import { createHash } from 'node:crypto';
import { cleanLine, type Html, html, trustedHtml } from '../src/index.ts';
import type { Depth } from './queue-depth.ts';
import { queueStates } from './queue-depth.ts';
import type { BotStatus, OpenChange, ProjectStatus, Reached } from './status.ts';
import { statusStyle } from './status-style.ts';

const styleHash = createHash('sha256').update(statusStyle).digest('base64');

/** What the page may load and do (Content Security Policy level 3): its own style, its own form, nothing else. */
export const pagePolicy = `default-src 'none'; style-src 'sha256-${styleHash}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'`;

/** Names that people chose, as one line that does not turn its surroundings around. */
const name = (text: string): Html => html`<bdi>${cleanLine(text)}</bdi>`;

/** A number of seconds as people say it. */
export function duration(seconds: number): string {
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min`;
  if (whole < 48 * 3600) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${Math.floor(whole / 86_400)} days`;
}

function ago(time: string, now: string): Html {
  const seconds = (Date.parse(now) - Date.parse(time)) / 1000;
  return html`<time datetime="${time}" title="${time}">${duration(seconds)} ago</time>`;
}

type Mood = 'good' | 'bad' | 'wait' | 'busy' | 'off';

const chip = (mood: Mood, text: string): Html => html`<span class="chip ${mood}">${text}</span>`;

const moods = { success: 'good', failed: 'bad', running: 'busy', pending: 'wait', canceled: 'wait' } as const;
const words = {
  success: 'passed',
  failed: 'failed',
  running: 'running',
  pending: 'pending',
  canceled: 'canceled',
} as const;

function shell(title: string, content: Html, refresh: boolean): Html {
  return html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1">
<meta name="robots" content="noindex">
<meta name="color-scheme" content="light dark">
${refresh && trustedHtml('<meta http-equiv="refresh" content="30">')}
<title>${title}</title>
<style>${trustedHtml(statusStyle)}</style>
</head>
<body>${content}</body>
</html>
`;
}

/** The page for who has not said the token yet, or (`wrong`) another one. */
export function renderSignIn(wrong: boolean): Html {
  return shell(
    'Sign in · CDL bot',
    html`<main class="narrow"><form method="post" action="status" class="card sign">
<h1><span class="logo">CDL</span> bot</h1>
${wrong && html`<p class="alert">That is not the token.</p>`}
<label for="token">Status token</label>
<input id="token" name="token" type="password" autocomplete="current-password" required autofocus>
<button>Show the status</button>
<p class="muted small">It is what <code>CDL_STATUS_TOKEN</code> says where the bot runs.</p>
</form></main>`,
    false,
  );
}

function renderReached(label: Html, detail: string, { problem, took }: Reached): Html {
  return html`<li><span class="grow"><b>${label}</b><span class="muted mono"> ${detail}</span>${
    problem !== null && html`<span class="problem">${cleanLine(problem)}</span>`
  }</span>${problem === null ? chip('good', `${took} ms`) : chip('bad', 'out of reach')}</li>`;
}

function renderStanding({ standing }: OpenChange): Html {
  if (standing === null) return html`<span class="muted">not looked at yet</span>`;
  if (standing.models.length === 0) return html`<span class="muted">nothing to judge</span>`;
  return html`<ul class="models">${standing.models.map(
    ({ model, environment, state, says }) =>
      html`<li>${chip(moods[state], words[state])} <span>${name(model)}${
        environment !== 'production' && html` <span class="tag">${name(environment)}</span>`
      } <span class="muted">${name(says)}</span></span></li>`,
  )}</ul>`;
}

function renderChange(change: OpenChange, sign: string, now: string): Html {
  const title = html`<span class="num muted">${sign}${change.id}</span> ${name(change.title)}`;
  // A forge's address, but nobody here vouches for it: other schemes are no links.
  const isLink = /^https?:\/\//i.test(change.url);
  return html`<tr><td>${isLink ? html`<a href="${change.url}" rel="noreferrer">${title}</a>` : title}${
    change.draft && html` <span class="tag">draft</span>`
  }<div class="muted small">${name(change.author)}</div></td><td>${renderStanding(change)}</td><td class="muted when">${
    change.standing ? ago(change.standing.at, now) : '–'
  }</td></tr>`;
}

function renderLook({ looked, look }: ProjectStatus, now: string): Html {
  if (look?.problem) return html`${chip('bad', 'failed')} ${cleanLine(look.problem)}`;
  return looked === null ? chip('wait', 'not yet') : ago(looked, now);
}

function renderProject(project: ProjectStatus, { forge, now }: BotStatus): Html {
  const { hook, changes, more } = project;
  const sign = forge.kind === 'gitlab' ? '!' : '#';
  const mood = hook.isSound === null ? 'off' : hook.isSound ? 'good' : 'bad';
  const word = { off: 'not looked after', good: 'works', bad: 'broken' }[mood];
  return html`<section class="card"><header><h2>${name(project.name)}</h2>${
    project.forge.problem === null
      ? html`<span class="muted small">${changes.length + more} open</span>`
      : chip('bad', 'forge out of reach')
  }</header>
<dl><div><dt>Webhook</dt><dd>${chip(mood, word)}${
    hook.isSound !== true && html`<div class="muted small">${cleanLine(hook.text)}</div>`
  }</dd></div><div><dt>Last look without a webhook</dt><dd>${renderLook(project, now)}</dd></div></dl>
${
  project.forge.problem !== null
    ? html`<p class="alert">${cleanLine(project.forge.problem)}</p>`
    : changes.length === 0
      ? html`<p class="empty">No change is open.</p>`
      : html`<div class="scroll"><table><thead><tr><th>Change</th><th>Models</th><th>Looked at</th></tr></thead><tbody>${changes.map(
          (change) => renderChange(change, sign, now),
        )}</tbody></table></div>${more > 0 && html`<p class="empty">and ${more} more</p>`}`
}</section>`;
}

const queueWords = {
  waiting: ['Waiting', 'since it was due'],
  running: ['Running', 'for the longest'],
  failed: ['Tried again', 'for the longest'],
  dead: ['Dead', ''],
} as const;

function renderDepth(state: (typeof queueStates)[number], { tasks, oldest }: Depth): Html {
  const [title, about] = queueWords[state];
  const isBad = tasks > 0 && (state === 'dead' || state === 'failed');
  const age = tasks > 0 && about !== '' ? `${duration(oldest)} ${about}` : state === 'dead' ? 'letters' : '–';
  return html`<div class="tile${isBad && (state === 'dead' ? ' bad' : ' wait')}"><span class="muted small">${title}</span><b class="num">${tasks}</b><span class="muted small">${age}</span></div>`;
}

/** Whether everything is as it should be. */
export function isWell(status: BotStatus): boolean {
  return (
    !status.isStopping &&
    status.database.problem === null &&
    status.stores.every((one) => one.reached.problem === null) &&
    status.dead.length === 0 &&
    status.projects.every(
      (one) => one.forge.problem === null && one.hook.isSound !== false && !one.look?.problem,
    )
  );
}

/** The page of a bot's status. Every name in it was chosen by somebody else: all of them are escaped. */
export function renderStatus(status: BotStatus): Html {
  const { version, since, now, queue, dead, database, stores, forge, projects } = status;
  const up = duration((Date.parse(now) - Date.parse(since)) / 1000);
  const verdict = status.isStopping
    ? chip('wait', 'stopping')
    : isWell(status)
      ? chip('good', 'all is well')
      : chip('bad', 'needs a look');
  const content = html`<header class="top"><span class="title"><span class="logo">CDL</span> bot</span>${verdict}<span class="muted small push">version ${version} · up <time datetime="${since}" title="since ${since}">${up}</time> · as of <time datetime="${now}">${now.slice(11, 19)} UTC</time></span></header>
<main>
<section><h2 class="over">Queue</h2>${
    queue === null
      ? html`<p class="alert">The database does not answer.</p>`
      : html`<div class="tiles">${queueStates.map((state) => renderDepth(state, queue[state]))}</div>`
  }</section>
${
  dead.length > 0 &&
  html`<section class="card"><header><h2>Dead letters</h2><code class="muted small">cdl bot queue --replay all</code></header><ul class="list">${dead.map(
    ({ key, error }) =>
      html`<li><span class="grow"><b>${name(key)}</b><span class="problem">${cleanLine(error)}</span></span></li>`,
  )}</ul></section>`
}
<div class="cols"><div>${projects.map((one) => renderProject(one, status))}</div>
<section class="card"><header><h2>What it needs</h2></header><ul class="list">${projects.map((one) =>
    renderReached(
      forge.kind === 'gitlab' ? html`GitLab` : html`GitHub`,
      `${forge.url} ${cleanLine(one.name)}`,
      one.forge,
    ),
  )}${renderReached(html`Database`, '', database)}${stores.map(({ zone, url, reached }) =>
    renderReached(html`Store, ${zone}`, url, reached),
  )}</ul></section></div>
</main>`;
  return shell('CDL bot', content, true);
}
