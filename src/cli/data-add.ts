import { appendFile, readFile } from 'node:fs/promises';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { type Digest, shortDigest } from '../core/digest.ts';
import { UserError } from '../core/error.ts';
import { plural } from '../core/plural.ts';
import { addFolder } from '../data/folder/add.ts';
import { pointerFile, readPointers, setPointer } from '../data/folder/pointers.ts';
import { openFilePool } from '../data/folder/pool.ts';
import { isBefore, moveRef, readRef, writeNote } from '../data/folder/refs.ts';
import { hasVersion } from '../data/folder/transfer.ts';
import { type Desk, resolveVersion } from './data-desk.ts';
import { bytesText } from './data-text.ts';
import type { CommandInput } from './types.ts';

/** `cdl data add PATH…`: a version of each path, its ref moved forward, the commit's pointer set. */
export async function addPaths(input: CommandInput, desk: Desk, paths: readonly string[]): Promise<number> {
  if (paths.length === 0) throw new UserError('usage', 'cdl data add takes the folders or files to add');
  const { ref, message, from } = input.options as { ref?: string; message?: string; from?: string[] };
  if (ref !== undefined && paths.length > 1) throw new UserError('usage', '--ref goes with one path');
  const names = [...new Set(paths.map((path) => desk.nameOf(path)))];
  refuseOverlaps(names, [...readPointers(desk.root).keys()]);
  const sources: Digest[] = [];
  for (const one of from ?? []) sources.push(await resolveVersion(desk, one));
  // Of a million files next to nothing is kept; V8 would still let what it has not looked through yet grow to 48 MB.
  setFlagsFromString('--max-semi-space-size=4');
  const pool = openFilePool();
  const rows = [];
  try {
    for (const name of names) {
      const previous = await previousOf(desk, name, ref ?? name);
      const done = await addFolder({
        path: join(desk.root, name),
        name,
        zone: desk.local,
        statCache: desk.statCache(name),
        previous,
        sources,
        code: null,
        pool,
        signal: input.console.signal,
        progress: late((entries, bytes) =>
          input.console.progress(
            `adding ${name}, ${plural(entries, 'entry', 'entries')}, ${bytesText(bytes)} read`,
            0,
          ),
        ),
      });
      if (done.changed) {
        await writeNote(desk.local, done.version, {
          who: await whoami(desk.root),
          at: new Date().toISOString(),
          message: message ?? '',
        });
        // The ref says which of two versions made at once was first; the loser is told before the commit's pointer moves.
        await moveRef(desk.local, ref ?? name, done.version, { force: false, known: [desk.local] });
        await ignoreInGit(desk.root, name);
      }
      await setPointer(desk.root, name, done.version);
      rows.push({ path: name, ...done });
    }
  } finally {
    await pool.close();
  }
  const text = rows.map((row) => {
    const size = `${plural(row.count, 'file')}, ${bytesText(row.bytes)}`;
    const what = row.changed ? `${plural(row.read, 'file')} read` : 'as before';
    return `${row.path}  ${shortDigest(row.version)}  ${size}, ${what}`;
  });
  input.console.print(text.join('\n'), { versions: rows });
  return 0;
}

/** What lies in two versions would be two things after a checkout of both. Throws UserError usage. */
function refuseOverlaps(names: readonly string[], known: readonly string[]): void {
  for (const name of names) {
    for (const other of [...names, ...known]) {
      const [inner, outer] = name.length > other.length ? [name, other] : [other, name];
      if (!inner.startsWith(`${outer}/`)) continue;
      throw new UserError(
        'usage',
        `${inner} is part of ${outer}: only one of them can have versions`,
        `cdl data add ${outer} alone, or its parts by themselves; ${pointerFile} says what has versions now`,
      );
    }
  }
}

/** Lets nothing be told in the first second: most is done before. (`performance` is a library that Node would load for it.) */
function late<T extends unknown[]>(tell: (...told: T) => void): (...told: T) => void {
  const start = Date.now();
  return (...told) => {
    if (Date.now() - start > 1000) tell(...told);
  };
}

/**
 * The version that a new one comes after: what this commit has, or where the ref is, when that has come further from there
 * (another add of the same folder, made meanwhile).
 */
async function previousOf(desk: Desk, name: string, ref: string): Promise<Digest | null> {
  const pointed = readPointers(desk.root).get(name) ?? null;
  const at = (await readRef(desk.local, ref))?.version ?? null;
  if (pointed === null || at === null || at === pointed) return pointed ?? at;
  if (!(await hasVersion(desk.local, at))) return pointed;
  return (await isBefore([desk.local], pointed, at)) ? at : pointed;
}

/** Runs git. To load what starts programs takes longer than all that is done where nothing has changed. */
async function git(root: string, args: string[], input?: string) {
  const { run } = await import('../exec/run.ts');
  return run('git', args, { cwd: root, ...(input !== undefined && { input }) }).catch(() => null);
}

async function whoami(root: string): Promise<string> {
  const told = await git(root, ['config', 'user.name']);
  const name = told?.code === 0 ? told.stdout.toString().trim() : '';
  return name || userInfo().username;
}

/** What is versioned here must not be committed there, and neither must the store of this machine. */
async function ignoreInGit(root: string, name: string): Promise<void> {
  const wanted = ['.cdl/', name];
  const result = await git(root, ['check-ignore', '--no-index', '-z', '--stdin'], wanted.join('\0'));
  // 1: none of them is ignored.
  if (result?.code !== 0 && result?.code !== 1) return;
  const ignored = result.stdout.toString().split('\0');
  const lines = wanted
    .filter((one) => !ignored.includes(one))
    .map((one) => `/${one.replace(/[\\*?[\] ]/g, '\\$&')}\n`)
    .join('');
  if (lines === '') return;
  const path = join(root, '.gitignore');
  const text = await readFile(path, 'utf8').catch(() => '');
  await appendFile(path, text === '' || text.endsWith('\n') ? lines : `\n${lines}`);
}
