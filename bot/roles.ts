import { z } from 'zod';
import {
  accessLevels,
  type Change,
  type Person,
  type Pipeline,
  type Project,
  projectFile,
  type Role,
  requiredApprovals,
  selfApproval,
} from '../src/index.ts';
import { codeownersPaths, ownersOf } from './codeowners.ts';
import { isProposer } from './registered.ts';
import type { Approval, Facts, Sources, StandingApproval } from './types.ts';

/** In which way somebody made the change that they want to approve. */
export type Conflict = 'author' | 'committers' | 'trigger' | 'proposer';

/** Who may what, as the forge and the default branch say at this moment; asks each question once. */
export interface Roles {
  /** The member with this id and their access level; null when they are none. */
  member(userId: string): Promise<{ person: Person; level: number } | null>;
  /** The first of these roles that a member has by the rules of a project; null when none, or when they are no member. */
  roleOf(
    project: Project,
    roles: readonly Role[],
    userId: string,
  ): Promise<{ person: Person; role: Role } | null>;
  /** Those of these roles that a member has, in the order they are asked in; empty when none, or when they are no member. */
  rolesOf(project: Project, roles: readonly Role[], userId: string): Promise<Role[]>;
  /** Why a person may not approve a change although they have the role; null when nothing speaks against it. */
  conflictOf(project: Project, change: Change, person: Person): Promise<Conflict | null>;
}

/** How many pipelines are asked at once for who started them. */
const pipelinesAtOnce = 20;

/** Whether a commit's author is this person, as far as names and addresses tell. Errs on the side of yes. */
export function isSamePerson(author: { name: string; email: string }, person: Person): boolean {
  const fold = (text: string): string => text.trim().toLowerCase();
  const local = fold(author.email).split('@')[0] ?? '';
  const username = fold(person.username);
  return (
    fold(author.name) === fold(person.name) ||
    fold(author.name) === username ||
    local === username ||
    // Forges' private addresses: `12-name@users.noreply.…`, `12+name@…`.
    (/^\d+[-+]/.test(local) && local.replace(/^\d+[-+]/, '') === username)
  );
}

/** Name of the note about which account a name of the rules means. */
const holdersCursor = 'roles/holders';
const holdersSchema = z.array(z.tuple([z.string(), z.string()]));

/**
 * Resolves people by id: a name can change hands, a number cannot. A name in the rules means the account that had it when it
 * was first asked about, whatever that one is called now, until the rules leave the name out. `read`: the pipelines of a change
 * where they were read already.
 */
export function createRoles(
  sources: Pick<Sources, 'forge' | 'mirror' | 'state'>,
  read?: { change: number; pipelines: readonly Pick<Pipeline, 'id'>[] },
): Roles {
  const { forge, mirror, state } = sources;
  const known = new Map<string, Promise<unknown>>();
  function once<T>(key: string, ask: () => Promise<T>): Promise<T> {
    const asked = known.get(key) as Promise<T> | undefined;
    if (asked) return asked;
    const answer = ask();
    known.set(key, answer);
    return answer;
  }

  const member = (userId: string) => once(`member ${userId}`, () => forge.member(userId));
  const inGroup = async (path: string, userId: string): Promise<boolean> =>
    ((await once(`group ${path}`, () => forge.groupMembers(path))) ?? []).includes(userId);

  const owners = () =>
    once('codeowners', async () => {
      const tip = await mirror.head(await forge.defaultBranch());
      for (const path of tip ? codeownersPaths[forge.kind] : []) {
        const text = await mirror.readFile(tip!, path);
        if (text !== null) return ownersOf(text, projectFile, forge.kind);
      }
      return [];
    });

  /** Ids by the names of the rules, as noted so far. */
  const readHolders = async (): Promise<[name: string, id: string][]> =>
    holdersSchema.parse(JSON.parse((await state.cursor(holdersCursor)) || '[]'));

  /**
   * Notes whose a name of the rules is, unless that is known, and forgets the names that they have no more (`listed`). Nobody
   * else does meanwhile: two bots that note different names would each lose the other's.
   */
  async function noteHolder(listed: (name: string) => boolean, holder: [name: string, id: string] | null) {
    await state.alone('roles', async () => {
      const kept = (await readHolders()).filter(([name]) => listed(name));
      const isNew = holder !== null && kept.every(([name]) => name !== holder[0]);
      await state.setCursor(holdersCursor, JSON.stringify(isNew ? [...kept, holder] : kept));
    });
  }

  /** Whether a name of the rules means this person. */
  async function isNamed(project: Project, name: string, { id, username }: Person): Promise<boolean> {
    const entries = new Set(Object.values(project.roles).flat());
    const owned = entries.has('codeowners') ? new Set(await owners()) : null;
    const listed = (one: string) => entries.has(one) || owned?.has(`@${one}`) === true;
    const noted = await readHolders();
    const isUnknown = listed(name) && noted.every(([one]) => one !== name);
    const isNews = isUnknown && name === username;
    if (isNews || noted.some(([one]) => !listed(one))) await noteHolder(listed, isNews ? [name, id] : null);
    const holders = new Map(isNews ? await readHolders() : noted.filter(([one]) => listed(one)));
    return holders.get(name) === id;
  }

  /** Whether an owner of CODEOWNERS is this member: `@name`, `@group/path` or `@@maintainer`. */
  async function isOwner(
    project: Project,
    owner: string,
    found: { person: Person; level: number },
  ): Promise<boolean> {
    const level = /^@@([a-z]+?)s?$/.exec(owner)?.[1];
    if (level !== undefined) {
      const needed = Object.hasOwn(accessLevels, level)
        ? accessLevels[level as keyof typeof accessLevels]
        : Number.POSITIVE_INFINITY;
      return found.level >= needed;
    }
    if (!owner.startsWith('@')) return false;
    const name = owner.slice(1);
    return (await isNamed(project, name, found.person)) || (await inGroup(name, found.person.id));
  }

  async function isMeant(
    project: Project,
    entry: string,
    found: { person: Person; level: number },
  ): Promise<boolean> {
    if (entry === 'codeowners') {
      for (const owner of await owners()) if (await isOwner(project, owner, found)) return true;
      return false;
    }
    const level = /^access:(\w+)$/.exec(entry)?.[1];
    if (level !== undefined) {
      return (
        Object.hasOwn(accessLevels, level) && found.level >= accessLevels[level as keyof typeof accessLevels]
      );
    }
    if (entry.startsWith('@')) return inGroup(entry.slice(1), found.person.id);
    return isNamed(project, entry, found.person);
  }

  async function hasRole(
    project: Project,
    role: Role,
    found: { person: Person; level: number },
  ): Promise<boolean> {
    for (const entry of project.roles[role]) if (await isMeant(project, entry, found)) return true;
    return false;
  }

  return {
    member,
    async roleOf(project, roles, userId) {
      const found = await member(userId);
      if (!found) return null;
      for (const role of roles) {
        if (await hasRole(project, role, found)) return { person: found.person, role };
      }
      return null;
    },
    async rolesOf(project, roles, userId) {
      const found = await member(userId);
      const have: Role[] = [];
      for (const role of found ? roles : []) if (await hasRole(project, role, found!)) have.push(role);
      return have;
    },
    async conflictOf(project, change, person) {
      const may = selfApproval(project);
      if (!may.author && change.author.id === person.id) return 'author';
      if (!may.committers) {
        const authors = await once(`commits ${change.id}`, () => forge.commitAuthors(change.id));
        if (authors.some((author) => isSamePerson(author, person))) return 'committers';
      }
      if (!may.trigger) {
        const starters = await once(`starters ${change.id}`, async () => {
          const pipelines =
            read?.change === change.id ? read.pipelines : await forge.changePipelines(change.id);
          const ids: (string | null)[] = [];
          // All of them: a training must not be forgotten because much was pushed since.
          for (let from = 0; from < pipelines.length; from += pipelinesAtOnce) {
            const some = pipelines.slice(from, from + pipelinesAtOnce);
            ids.push(...(await Promise.all(some.map((one) => forge.pipelineStarter(one.id)))));
          }
          return ids;
        });
        if (starters.includes(person.id)) return 'trigger';
        if (await isProposer(state, change.id, person.id)) return 'proposer';
      }
      return null;
    },
  };
}

/** Approvals by people who may still give them, and the others with the reason: asked again each time, by id. */
export async function whoStillMay(
  roles: Roles,
  project: Project,
  change: Change,
  approvals: readonly Approval[],
): Promise<{ standing: StandingApproval[]; lapsed: Facts['lapsed'] }> {
  const standing: StandingApproval[] = [];
  const lapsed: Facts['lapsed'] = [];
  const { forge_button } = project.approvals;
  const wanted = requiredApprovals(project.approvals).map(({ role }) => role);
  for (const approval of approvals) {
    const have = await roles.rolesOf(project, wanted, approval.userId);
    const found = have.length > 0 ? await roles.member(approval.userId) : null;
    const conflict = found ? await roles.conflictOf(project, change, found.person) : null;
    if (!found) lapsed.push({ approval, why: `does not have the role ${wanted.join(' or ')} any more` });
    else if (conflict) lapsed.push({ approval, why: 'had a part in making the change' });
    else if (approval.comment === 'button' && !forge_button)
      lapsed.push({ approval, why: 'used the forge’s button, which does not count here' });
    else standing.push({ ...approval, username: found.person.username, roles: have });
  }
  return { standing, lapsed };
}
