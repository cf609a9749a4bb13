import { type Html, html } from '../../report/html.ts';
import { headPipeline, mergeStatus } from '../present-merge-request.ts';
import type { MergeRequest, Note, Project, World } from '../state.ts';
import { linksOf, safeAddress } from './links.ts';
import { type Markdown, openMarkdown } from './markdown.ts';
import { avatar, card, chip, dot, empty, moment, person, ref, statusesOf } from './parts.ts';
import { pipelineGraph } from './pipeline-pages.ts';
import { listOf, newest, pipelineItem, stateOf } from './project-pages.ts';

/** The emoji people and bots react with (doc: user/emoji_reactions); others show their name. */
const emoji: Record<string, string> = {
  thumbsup: '👍',
  thumbsdown: '👎',
  eyes: '👀',
  tada: '🎉',
  rocket: '🚀',
  white_check_mark: '✅',
  x: '❌',
  heart: '❤️',
  confused: '😕',
  warning: '⚠️',
  hourglass: '⌛',
  hourglass_flowing_sand: '⏳',
  question: '❓',
  robot: '🤖',
  '+1': '👍',
  '-1': '👎',
};

function reactions(world: World, note: Note): Html | null {
  const names = [...new Set(note.emoji.map((entry) => entry.name))];
  if (names.length === 0) return null;
  return html`<div class="reactions">${names.map((name) => {
    const by = note.emoji.filter((entry) => entry.name === name);
    const who = by.map((entry) => world.users.get(entry.userId)?.name ?? '?').join(', ');
    return html`<span title=":${name}: ${who}">${Object.hasOwn(emoji, name) ? emoji[name] : `:${name}:`} ${by.length}</span>`;
  })}</div>`;
}

function noteHead(world: World, note: Note): Html {
  const user = world.users.get(note.authorId);
  return html`<header>${person(world, note.authorId)}<span class="meta">@${user?.username ?? '?'} · ${moment(note.createdAt)}${
    note.updatedAt !== note.createdAt && html` · edited ${moment(note.updatedAt)}`
  }</span><a class="anchor" href="#note_${note.id}">#</a></header>`;
}

/** Comments in order, threads together; what the forge wrote itself is small. */
export function discussion(world: World, notes: readonly Note[], markdown: Markdown): Html[] {
  const threads = new Map<string, Note[]>();
  for (const note of notes) {
    const thread = threads.get(note.discussionId);
    if (thread) thread.push(note);
    else threads.set(note.discussionId, [note]);
  }
  return [...threads.values()].map(([first, ...replies]) => {
    if (first!.system) {
      return html`<div class="system" id="note_${first!.id}" data-part="note-${first!.id}">${person(world, first!.authorId)} ${markdown(first!.body)} · ${moment(first!.createdAt)}</div>`;
    }
    const { position } = first!;
    const place =
      position &&
      html`<p class="meta" data-part="place">at <code>${position.new_path}:${position.new_line}</code>${first!.resolved && html` <span class="tag">resolved</span>`}</p>`;
    return html`<article class="note" id="note_${first!.id}" data-part="note-${first!.id}">${avatar(world.users.get(first!.authorId))}<div class="card">
${noteHead(world, first!)}${place}${markdown(first!.body)}${reactions(world, first!)}
${replies.map((note) => html`<div class="reply" id="note_${note.id}">${noteHead(world, note)}${markdown(note.body)}${reactions(world, note)}</div>`)}</div></article>`;
  });
}

const mergeWords: Record<Awaited<ReturnType<typeof mergeStatus>>, string | null> = {
  mergeable: 'Ready to merge',
  not_open: null,
  draft_status: 'A draft is not merged',
  conflict: 'Conflicts with the target branch',
  need_rebase: 'Must be rebased first',
  commits_status: 'Has no commits to merge',
  ci_must_pass: 'Waits for a pipeline that passes',
  ci_still_running: 'Waits for the pipeline',
};

/** A merge request: what it is, how its checks stand, its pipelines, and what was said. */
export async function mergeRequestPage(world: World, project: Project, mr: MergeRequest): Promise<Html> {
  const links = linksOf(world, project);
  const markdown = await openMarkdown(world, project);
  const pipeline = headPipeline(project, mr);
  const pipelines = newest(project.pipelines.values()).filter(
    (entry) => entry.mergeRequestIid === mr.iid || (entry.ref === mr.sourceBranch && !entry.tag),
  );
  const ready = mergeWords[await mergeStatus(project, mr)];
  const statuses = statusesOf(project, mr.sha);
  return html`<div class="head" data-part="head"><h1>${mr.title} <span class="muted">!${mr.iid}</span></h1>
<div class="line">${chip(stateOf(mr))}<span class="meta">${person(world, mr.authorId)} wants to merge ${ref(mr.sourceBranch, links.tree(mr.sourceBranch))} into ${ref(mr.targetBranch, links.tree(mr.targetBranch))} · ${moment(mr.createdAt)}</span></div>
${mr.state === 'merged' && html`<p class="meta">Merged by ${person(world, mr.mergedBy)} ${moment(mr.mergedAt)}${mr.mergeCommitSha && html` as <a href="${links.commit(mr.mergeCommitSha)}"><code>${mr.mergeCommitSha.slice(0, 8)}</code></a>`}</p>`}
${mr.labels.length > 0 && html`<div class="line">${mr.labels.map((label) => html`<span class="tag">${label}</span>`)}</div>`}</div>
${card(
  'checks',
  'Checks',
  html`<ul class="list">${statuses.map((status) => {
    const to = safeAddress(status.targetUrl);
    return html`<li class="row">${dot(status.status)}<div class="grow"><b>${to === null ? status.name : html`<a href="${to}">${status.name}</a>`}</b>${status.description && html` <span class="muted">${status.description}</span>`}</div></li>`;
  })}${ready && html`<li class="meta">${ready}${mr.approvedBy.length > 0 && html` · approved by ${mr.approvedBy.map((id, index) => [index > 0 && ', ', person(world, id)])}`}</li>`}${
    pipeline &&
    html`<li><div class="line"><a href="${links.pipeline(pipeline.id)}">Pipeline #${pipeline.id}</a>${chip(pipeline.status)}<span class="meta">for <code>${mr.sha.slice(0, 8)}</code></span></div></li>`
  }</ul>${pipeline && pipelineGraph(world, project, pipeline)}`,
  html`<a class="small" href="${links.commit(mr.sha)}"><code>${mr.sha.slice(0, 8)}</code></a>`,
)}
${mr.description.trim() !== '' && html`<section class="card" data-part="description"><div class="pad">${markdown(mr.description)}</div></section>`}
${discussion(world, mr.notes, markdown)}
${mr.notes.length === 0 && html`<div data-part="silence">${empty('Nobody has said anything yet.')}</div>`}
${
  pipelines.length > 1 &&
  card(
    'pipelines',
    'All pipelines',
    listOf(
      pipelines.map((entry) => pipelineItem(world, project, entry)),
      '',
    ),
  )
}`;
}
