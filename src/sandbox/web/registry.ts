import { UserError } from '../../core/error.ts';
import { type Lock, lockFile, parseLock } from '../../core/lock.ts';
import { type Html, html } from '../../report/html.ts';
import { readBlob, resolveRef } from '../git.ts';
import type { Project, World } from '../state.ts';
import { linksOf } from './links.ts';
import { card, empty } from './parts.ts';

/** The lock of the default branch: a lock, nothing there, or why it cannot be read. */
async function readLock(project: Project): Promise<{ lock: Lock } | { problem: string } | null> {
  const tip = await resolveRef(project.repository, `refs/heads/${project.defaultBranch}`);
  const file = tip === null ? null : await readBlob(project.repository, tip, lockFile);
  if (!file) return null;
  try {
    return { lock: parseLock(file.bytes.toString('utf8')) };
  } catch (error) {
    if (error instanceof UserError) return { problem: error.message };
    throw error;
  }
}

const digests = ['evaluation', 'dataset', 'transform', 'checkpoint', 'package', 'code', 'config'] as const;

/** `cdl.lock` of the default branch as a table: which version of each model is agreed on for each environment. */
export async function registryCard(world: World, project: Project): Promise<Html> {
  const read = await readLock(project);
  const href = linksOf(world, project).blob(project.defaultBranch, lockFile);
  if (read === null)
    return card('registry', 'Registry', empty(`${project.defaultBranch} has no ${lockFile} yet.`));
  const link = html`<a class="small" href="${href}">${lockFile}</a>`;
  if ('problem' in read)
    return card('registry', 'Registry', html`<p class="warning">${read.problem}</p>`, link);
  const entries = Object.entries(read.lock.models).flatMap(([model, environments]) =>
    Object.entries(environments).map(([environment, entry]) => ({ model, environment, entry })),
  );
  if (entries.length === 0)
    return card('registry', 'Registry', empty('No model has been agreed on yet.'), link);
  const short = (digest: string | null) =>
    digest === null
      ? html`–`
      : html`<code title="${digest}">${digest.replace('sha256:', '').slice(0, 12)}</code>`;
  return card(
    'registry',
    'Registry',
    html`<ul class="list">${entries.map(
      ({ model, environment, entry }) =>
        html`<li><div class="line"><b>${model}</b><span class="tag">${environment}</span><span class="chip">version ${entry.info.version}</span></div><div class="meta">candidate ${short(entry.candidate)}</div>
<details data-key="lock-${model}-${environment}" class="small"><summary class="muted">Digests</summary><dl class="facts pad">${digests.map((name) => html`<dt>${name}</dt><dd>${short(entry[name])}</dd>`)}<dt>run</dt><dd>${short(entry.info.run)}</dd></dl></details></li>`,
    )}</ul>`,
    link,
  );
}
