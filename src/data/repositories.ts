import { realpath } from 'node:fs/promises';
import { hostname } from 'node:os';
import { resolve } from 'node:path';
import { digestBytes } from '../core/digest.ts';
import { run } from '../exec/run.ts';
import type { Zone } from '../store/types.ts';

const prefix = 'repositories/';

const ask = async (root: string, args: readonly string[]): Promise<string[]> => {
  const asked = await run('git', args, { cwd: root });
  return asked.code === 0 ? asked.stdout.toString().split('\n').filter(Boolean) : [];
};

/**
 * A remote's URL as a name that is the same however it is reached: host and path, without scheme, user, port and ending.
 * That of a folder is its path.
 */
export function remoteName(url: string, root: string): string {
  const [, , host, path] =
    /^(?:[a-z][a-z0-9+.-]*:\/\/)(?:([^/]*)@)?(\[[^\]]+\]|[^/:]*)(?::\d*)?\/(.*)$/i.exec(url) ??
    /^(?:([^/]*)@)?(\[[^\]]+\]|[^/:]+):(?!\/\/)(.*)$/.exec(url) ??
    [];
  const plain = (text: string) => text.replace(/[?#].*$/, '').replace(/\/*(\.git)?\/*$/, '');
  if (!host) return plain(resolve(root, (path === undefined ? url : `/${path}`).replace(/^\/+/, '/')));
  return `${host.toLowerCase()}/${plain(path!).replace(/^\/+/, '')}`;
}

/**
 * The names that a clone's repository may have noted in a store, the one it notes now first: where it comes from, else its
 * first commit, else where it lies.
 */
export async function repositoryNames(root: string): Promise<string[]> {
  const remotes = await ask(root, ['remote']);
  const inOrder = remotes.includes('origin')
    ? ['origin', ...remotes.filter((one) => one !== 'origin')]
    : remotes;
  const urls = await Promise.all(inOrder.map((one) => ask(root, ['remote', 'get-url', '--all', one])));
  const firsts = await ask(root, ['rev-list', '--max-parents=0', '--all']);
  return [
    ...urls.flat().map((url) => remoteName(url, root)),
    ...firsts.map((commit) => `commit ${commit}`),
    `${hostname()}:${await realpath(root)}`,
  ];
}

/** See {@link repositoryNames}: the first, as cheaply as can be. */
async function nameOf(root: string): Promise<string> {
  const [url] = await ask(root, ['remote', 'get-url', 'origin']);
  if (url !== undefined) return remoteName(url, root);
  return (await repositoryNames(root))[0]!;
}

const keyOf = (name: string): string => `${prefix}${digestBytes(name).slice(7, 39)}`;

/** Notes that a clone's repository keeps data in a zone, so that nobody who cannot see its locks removes what they name. */
export async function noteRepository(zone: Zone, root: string): Promise<void> {
  const name = await nameOf(root);
  if (await zone.readRecord(keyOf(name))) return;
  await zone.writeRecord(keyOf(name), { v: 1, name }, { ifAbsent: true });
}

/** The repositories that keep data in a zone, by the name they noted; a record that holds none is one that nobody can know. */
export async function listRepositories(zone: Zone): Promise<string[]> {
  const names: string[] = [];
  for await (const key of zone.listRecordKeys(prefix)) {
    const { name } = ((await zone.readRecord(key))?.value ?? {}) as { name?: unknown };
    names.push(typeof name === 'string' ? name : key);
  }
  return names;
}
