import { open, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { type Html, html, render } from '../../report/html.ts';
import type { Job, Project, World } from '../state.ts';
import { renderLog } from './ansi.ts';
import { listArchive } from './archive-list.ts';
import { linksOf } from './links.ts';
import { card, chip, duration, empty, moment, ref } from './parts.ts';
import { pipelineGraph } from './pipeline-pages.ts';

/** Bytes of a log that are rendered at once; the beginning of a longer one is left to the raw log. */
const pieceSize = 512 * 1024;

/** Where a job's log is. */
export function traceFile(job: Job): string {
  return join(job.folder, 'trace.log');
}

const over: readonly Job['status'][] = ['success', 'failed', 'canceled', 'skipped'];

/** A piece of the log from byte `from` on, cut after a whole line as long as more may come. */
async function readPiece(job: Job, from: number): Promise<{ text: string; next: number; more: boolean }> {
  const nothing = { text: '', next: from, more: false };
  // Read before the file: what a job that is over wrote last is then certainly there.
  const finished = over.includes(job.status);
  const size = (await stat(traceFile(job)).catch(() => null))?.size ?? 0;
  if (size <= from) return nothing;
  const file = await open(traceFile(job));
  try {
    const buffer = Buffer.alloc(Math.min(size - from, pieceSize));
    const { bytesRead } = await file.read(buffer, 0, buffer.length, from);
    const more = from + bytesRead < size;
    const line = buffer.lastIndexOf(0x0a, bytesRead - 1) + 1;
    // A line longer than a whole piece is cut; otherwise nothing would ever be shown.
    const end = finished && !more ? bytesRead : line === 0 && more ? bytesRead : line;
    return { text: buffer.toString('utf8', 0, end), next: from + end, more: more && end > 0 };
  } finally {
    await file.close();
  }
}

/** `/-/jobs/ID/log?from=BYTE&style=SGR`: what was added to the log since, for the page's script. */
export async function logPiece(
  job: Job,
  from: number,
  style: string,
): Promise<{ html: string; from: number; style: string; more: boolean }> {
  const start = Number.isSafeInteger(from) && from >= 0 ? from : 0;
  const piece = await readPiece(job, start);
  const shown = renderLog(piece.text, /^[0-9;]{0,40}$/.test(style) ? style : '');
  return { html: render(shown.html), from: piece.next, style: shown.style, more: piece.more };
}

async function logBox(world: World, project: Project, job: Job): Promise<Html> {
  const links = linksOf(world, project);
  const size = (await stat(traceFile(job)).catch(() => null))?.size ?? 0;
  const from = Math.max(0, size - pieceSize);
  const piece = await readPiece(job, from);
  // The first line of a log that is shown from its middle is not whole.
  const text = from > 0 ? piece.text.slice(piece.text.indexOf('\n') + 1) : piece.text;
  const shown = renderLog(text);
  return html`<section class="logbox"><header><span>Log</span>${from > 0 && html`<span>the first ${Math.round(from / 1024)} KiB are left out</span>`}<a href="${links.job(job.id)}/raw">raw</a></header>
<div class="log" data-log="${links.job(job.id)}/log" data-job="${job.id}" data-from="${piece.next}" data-style="${shown.style}">${shown.html}</div></section>`;
}

/** Bytes as people say them. */
export function bytes(size: number): string {
  if (size < 1024) return `${size} B`;
  const units = ['KiB', 'MiB', 'GiB', 'TiB'];
  let value = size / 1024;
  let unit = 0;
  for (; value >= 1024 && unit < units.length - 1; unit += 1) value /= 1024;
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

async function artifacts(world: World, project: Project, job: Job): Promise<Html> {
  if (!job.hasArtifacts) return card('artifacts', 'Artifacts', empty('None.'));
  const href = `${linksOf(world, project).job(job.id)}/artifacts/download`;
  const files = await listArchive(join(job.folder, 'artifacts.zip'));
  return card(
    'artifacts',
    'Artifacts',
    files === null
      ? empty('The archive cannot be read.')
      : html`<ul class="list">${files.entries.map((file) => html`<li class="row small"><code class="grow">${file.name}</code><span class="meta num">${bytes(file.size)}</span></li>`)}${files.left > 0 && html`<li class="meta">… ${files.left} more</li>`}</ul>`,
    html`<a class="small" href="${href}">download</a>`,
  );
}

/** A job with its log, which grows while one looks. */
export async function jobPage(world: World, project: Project, job: Job): Promise<Html> {
  const links = linksOf(world, project);
  const pipeline = project.pipelines.get(job.pipelineId);
  return html`<div class="head" data-part="head"><h1>${job.spec.name} <span class="muted">job ${job.id}</span></h1>
<div class="line">${chip(job.status)}<span class="meta">stage ${job.spec.stage}${pipeline && html` of <a href="${links.pipeline(pipeline.id)}">pipeline #${pipeline.id}</a> on ${ref(pipeline.ref, links.tree(pipeline.ref))} <a href="${links.commit(pipeline.sha)}"><code>${pipeline.sha.slice(0, 8)}</code></a>`} · ${moment(job.createdAt)}${job.startedAt && html` · ${job.finishedAt ? 'took' : 'for'} ${duration(job.startedAt, job.finishedAt)}`}</span></div>
${job.failureReason && html`<p class="meta">Why it failed: ${job.failureReason}</p>`}</div>
${pipeline && card('graph', html`Pipeline #${pipeline.id}`, pipelineGraph(world, project, pipeline, job))}
${await logBox(world, project, job)}
${await artifacts(world, project, job)}`;
}
