import { keepNewest } from '../core/keep.ts';
import { createHistory, type History } from '../forge/git-history.ts';
import { type ObjectReader, openObjects } from '../forge/git-objects.ts';
import { createTrees, type Trees } from '../forge/git-trees.ts';

/** Who a commit is by. `date` is ISO 8601. */
export interface Signature {
  name: string;
  email: string;
  date: string;
}

/** One commit, as `git log` tells it. */
export interface Commit {
  id: string;
  tree: string;
  parents: string[];
  author: Signature;
  committer: Signature;
  message: string;
}

/** What a repository holds, read through one process of git that waits for the next question. */
export interface Reading {
  /** A commit by its full object name; null when there is none, or when it takes git to say what it is (a tag). */
  commit(id: string): Promise<Commit | null>;
  trees: Trees;
  history: History;
}

/** How many repositories are kept open in memory; their processes end by themselves when nobody reads. */
const mostRepositories = 50;

const open = new Map<string, Reading>();

/** Opens a repository to be read, once. */
export function readingOf(repository: string, env: NodeJS.ProcessEnv): Reading {
  const known = open.get(repository);
  if (known) return known;
  const objects = openObjects(repository, env as Record<string, string>);
  const reading = {
    commit: (id: string) => readCommit(objects, id),
    trees: createTrees(objects),
    history: createHistory(objects),
  };
  return keepNewest(open, mostRepositories, repository, reading);
}

async function readCommit(objects: ObjectReader, id: string): Promise<Commit | null> {
  const object = await objects.read(id);
  return object?.type === 'commit' ? parseCommit(id, object.bytes.toString('utf8')) : null;
}

/** A commit object (git's book, "Git Objects"); lines of other names, such as signatures, are left out. */
export function parseCommit(id: string, text: string): Commit {
  const end = text.indexOf('\n\n');
  const header = (end < 0 ? text : text.slice(0, end)).split('\n');
  const all = (name: string) =>
    header.flatMap((line) => (line.startsWith(`${name} `) ? [line.slice(name.length + 1)] : []));
  const message = end < 0 ? '' : text.slice(end + 2);
  return {
    id,
    tree: all('tree')[0] ?? '',
    parents: all('parent'),
    author: parseSignature(all('author')[0] ?? ''),
    committer: parseSignature(all('committer')[0] ?? ''),
    message: message.endsWith('\n') ? message : `${message}\n`,
  };
}

/** `NAME <ADDRESS> SECONDS ZONE`, with the time as `git log` writes it (`%aI`). */
function parseSignature(text: string): Signature {
  const found = /^(.*?) ?<([^>]*)> (\d+) ([+-])(\d\d)(\d\d)$/.exec(text);
  if (!found) return { name: text, email: '', date: new Date(0).toISOString() };
  const [, name = '', email = '', seconds, sign, hours = '00', minutes = '00'] = found;
  const offset = (Number(hours) * 60 + Number(minutes)) * (sign === '-' ? -1 : 1);
  const local = new Date(Number(seconds) * 1000 + offset * 60_000).toISOString().slice(0, 19);
  return { name, email, date: `${local}${sign}${hours}:${minutes}` };
}
