import { run } from '../../exec/run.ts';

/**
 * Covers the folders named before `--` with an empty file system, and runs what comes after it in a user and mount namespace
 * below that one: mounts that come from a more privileged namespace cannot be taken away there (mount_namespaces(7),
 * "Restrictions on mount namespaces"), and other processes' `/proc/<pid>/root` and `environ` are closed (ptrace(2), "Ptrace
 * access mode checking"). A folder that is not there yet is left out.
 */
const cover = `while [ "$1" != -- ]; do
  if [ -d "$1" ]; then mount -t tmpfs -o ro,size=4k cdl-hidden "$1" || exit 1; fi
  shift
done
shift
exec unshare --user --map-current-user --mount -- "$@"`;

/** Words to put before a program's own so that it finds these folders empty; needs util-linux 2.38. */
function hiding(folders: readonly string[]): string[] {
  const outer = ['unshare', '--user', '--map-root-user', '--mount', '--propagation', 'private', '--'];
  return [...outer, '/bin/sh', '-c', cover, 'cdl-hide', ...folders, '--'];
}

/** As {@link hiding}; null where the system has no such namespaces, or forbids them (containers often do). */
export async function detectHiding(folders: readonly string[], path: string): Promise<string[] | null> {
  const words = hiding(folders);
  const tried = await run(words[0]!, [...words.slice(1), 'true'], { env: { PATH: path } }).catch(() => null);
  return tried?.code === 0 ? words : null;
}
