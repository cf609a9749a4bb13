import { access, constants, mkdir, readFile } from 'node:fs/promises';
import { describeError, UserError } from '../core/error.ts';
import { lockFile, parseLock } from '../core/lock.ts';
import { run } from '../exec/run.ts';
import { cacheFolder, findRoot, openZone, readProject, readTrustedKeys } from '../steps/context.ts';
import { lockDriver } from './lock.ts';
import type { CommandInput } from './types.ts';

/** Something that was looked at; a `problem` makes the exit code 69. */
export interface Check {
  name: string;
  state: 'ok' | 'note' | 'problem';
  text: string;
}

/** Looks at one thing; what it throws is a problem, too. */
export type Look = () => Promise<Omit<Check, 'name'>>;

const ok = (text: string): Omit<Check, 'name'> => ({ state: 'ok', text });
const note = (text: string): Omit<Check, 'name'> => ({ state: 'note', text });

function looks(input: CommandInput): [string, Look][] {
  const { env } = input;
  let root: string | null = null;
  return [
    ['node', async () => ok(`${process.version} on ${process.platform}-${process.arch}`)],
    [
      'git',
      async () => {
        const text = (await run('git', ['--version'], {})).stdout.toString().trim();
        const [major = 0, minor = 0] = (/(\d+)\.(\d+)/.exec(text)?.slice(1) ?? []).map(Number);
        if (major > 2 || (major === 2 && minor >= 38)) return ok(text);
        return { state: 'problem', text: `${text}; 2.38 or newer is needed (git merge-tree --write-tree)` };
      },
    ],
    [
      'project',
      async () => {
        root = await findRoot(input.cwd);
        const project = await readProject(root);
        return ok(`${project.project} in ${root}: models ${Object.keys(project.models).join(', ')}`);
      },
    ],
    [
      'lock',
      async () => {
        const text = root && (await readFile(`${root}/cdl.lock`, 'utf8').catch(() => null));
        if (!text) return note('no cdl.lock yet; the bot writes it with the first good evaluation');
        return ok(
          `${Object.keys(parseLock(text).models).length} model(s), every entry the digest of its lines`,
        );
      },
    ],
    [
      'lock merge',
      async () => {
        const ask = async (...args: string[]) =>
          (await run('git', args, { cwd: root ?? input.cwd })).stdout.toString().trim();
        const attribute = await ask('check-attr', 'merge', '--', lockFile);
        const driver = await ask('config', '--get', lockDriver.key);
        if (!attribute.endsWith(': cdl-lock'))
          return note(`git merges ${lockFile} line by line\n→ .gitattributes: ${lockFile} merge=cdl-lock`);
        return driver === lockDriver.command
          ? ok(`git merges ${lockFile} by whole entries`)
          : note(
              `git merges ${lockFile} line by line in this clone: a clone does not bring settings along\n→ git config ${lockDriver.key} '${lockDriver.command}'`,
            );
      },
    ],
    [
      'engine',
      async () => {
        const { openTf } = await import('../train/backend.ts');
        const { backend, why } = await openTf();
        return {
          state: backend === 'cpu' ? 'note' : 'ok',
          text: [backend, ...why.map((line) => `  ${line}`)].join('\n'),
        };
      },
    ],
    ...(['work', 'trusted'] as const).map((name): [string, Look] => [
      `store ${name}`,
      async () => {
        const zone = await openZone(env, name, root);
        const text = `${zone.store.url}, conditional writes work`;
        return zone.store.url.startsWith('file:')
          ? note(`${text}; a folder isolates nothing: whoever can start a process here can write both zones`)
          : ok(text);
      },
    ]),
    [
      'cache',
      async () => {
        const folder = cacheFolder(env);
        await mkdir(folder, { recursive: true });
        await access(folder, constants.W_OK);
        return ok(folder);
      },
    ],
    [
      'database',
      async () => {
        if (env.CDL_DATABASE) {
          const { openDatabase } = await import('../db/index.ts');
          const database = await openDatabase({ url: env.CDL_DATABASE, folder: cacheFolder(env) });
          try {
            const rows = await database.query<{ version: string }>('select version()', []);
            return ok(String(rows[0]?.version));
          } finally {
            await database.close();
          }
        }
        return note('CDL_DATABASE is not set: bot and sandbox use the embedded PostgreSQL');
      },
    ],
    [
      'decisions',
      async () => {
        const keys = await readTrustedKeys(env);
        return keys.size > 0
          ? ok(`${keys.size} trusted key(s): ${[...keys.keys()].map((id) => id.slice(0, 12)).join(', ')}`)
          : note('CDL_TRUSTED_KEYS is not set: cdl deploy will refuse every decision');
      },
    ],
  ];
}

const marks = { ok: '✓', note: '·', problem: '✗' };

const lineOf = (check: Check): string =>
  `${marks[check.state]} ${check.name.padEnd(16)} ${check.text.replaceAll('\n', `\n${' '.repeat(19)}`)}`;

/** `cdl doctor --forge`: looks at what is between the bot and its forge; ends with the worst of what was found. */
async function doctorForge(input: CommandInput): Promise<number> {
  const { examineForge } = await import('../../bot/main.ts');
  const projects = await examineForge(input.env);
  const all = projects.flatMap((one) => one.findings);
  const problems = all.filter((one) => one.state === 'problem').length;
  const lines = projects.flatMap(({ project, findings }) => [project, ...findings.map(lineOf), '']);
  lines.push(problems === 0 ? 'The bot can work there.' : `${problems} problem(s), marked ✗.`);
  input.console.print(lines.join('\n'), { projects });
  return Math.max(0, ...all.map((one) => one.exit));
}

/**
 * `cdl doctor`: looks at everything the product uses here, and says what was found and why; with `--forge`, at the bot's
 * forge instead, with `--gpu` at what it takes to train on a GPU.
 */
export async function doctor(input: CommandInput): Promise<number> {
  if (input.options.forge) return doctorForge(input);
  const gpu = input.options.gpu === true;
  const checks: Check[] = [];
  for (const [name, look] of gpu ? (await import('./doctor-gpu.ts')).gpuLooks(input.env) : looks(input)) {
    try {
      checks.push({ name, ...(await look()) });
    } catch (error) {
      const { message, hint, code } = describeError(error);
      const outside = error instanceof UserError && (code === 'file-missing' || code === 'store-denied');
      checks.push({
        name,
        state: outside ? 'note' : 'problem',
        text: `${message}${hint ? `\n→ ${hint}` : ''}`,
      });
    }
  }
  const lines = checks.map(lineOf);
  const problems = checks.filter((check) => check.state === 'problem').length;
  lines.push(
    '',
    problems === 0
      ? `Everything needed${gpu ? ' to train on a GPU' : ''} is here.`
      : `${problems} problem(s), marked ✗.`,
  );
  input.console.print(lines.join('\n'), { checks });
  return problems === 0 ? 0 : 69;
}
