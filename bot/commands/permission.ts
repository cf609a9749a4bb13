import {
  escapeInline,
  escapeLine,
  type Person,
  type Project,
  type Role,
  requiredApprovals,
  selfApproval,
} from '../../src/index.ts';
import { quoted } from './subject.ts';
import type { Answer, Call, Command, Tools } from './types.ts';

/** A person who may do something, with the role that says so; or the answer for somebody who may not. */
export type Permission = { person: Person; role: string } | { refused: Answer };

const refuse = (text: string, about?: 'person'): { refused: Answer } => ({
  refused: { emoji: 'no_entry', text, ...(about && { about }) },
});

/** The rules that count for a change: the default branch's; null while it has none. */
export function rulesOf(call: Call): Project | null {
  return call.models.find((one) => one.facts.rules)?.facts.rules?.project ?? null;
}

/** GitLab's Developer: may push to a branch that is not protected (doc: user/permissions). */
const developer = 30;
const pushersOnly = 'Only members of this project who may push to it (Developer and up) can do this.';

/** Whether the author of a comment may push to this project. */
export async function permitMember(call: Call, tools: Pick<Tools, 'member'>): Promise<Permission> {
  const found = await tools.member(call.comment.author.id);
  if (found && found.level >= developer) return { person: found.person, role: 'member' };
  return refuse(pushersOnly, 'person');
}

/**
 * The refusal of a command that somebody may not give whatever the change is like: it needs a role, which only members of
 * the project have, or needs a member who may push. Null when that is for the command to find out, or for anybody.
 */
export function refuseOutsider(role: Command['role'], member: { level: number } | null): Answer | null {
  if (role === 'anyone' || (member && (role !== 'member' || member.level >= developer))) return null;
  const text =
    role === 'member'
      ? pushersOnly
      : 'Only members of this project to whom `cdl.yaml` of the default branch gives the role for it can do this.';
  return refuse(text, 'person').refused;
}

/**
 * Whether the author of a comment has an approving role (or one of `also`): a member by their id, whom the rules of the
 * default branch give it.
 */
export function permit(
  call: Call,
  tools: Pick<Tools, 'member' | 'roleOf'>,
  also: readonly Role[] = [],
): Promise<Permission> {
  return permitRoles(call, tools, (rules) => [
    ...requiredApprovals(rules.approvals).map(({ role }) => role),
    ...also,
  ]);
}

/** Whether the author of a comment has one of the roles that the rules of the default branch ask for. */
export async function permitRoles(
  call: Call,
  tools: Pick<Tools, 'member' | 'roleOf'>,
  rolesOf: (rules: Project) => readonly Role[],
): Promise<Permission> {
  const rules = rulesOf(call);
  const branch = call.models[0]?.facts.defaultBranch ?? 'the default branch';
  if (!rules) {
    return refuse(
      `${escapeLine(branch)} has no roles for the models of this change yet, so nobody can decide about it.`,
    );
  }
  const wanted = [...new Set(rolesOf(rules))];
  const found = await tools.roleOf(rules, wanted, call.comment.author.id);
  if (found) return found;
  const names = wanted.map((role) => `**${role}**`).join(' or ');
  const member = await tools.member(call.comment.author.id);
  if (!member) return refuse(`Only members of this project with the role ${names} can do this.`, 'person');
  const people =
    [...new Set(wanted.flatMap((role) => rules.roles[role]))].map(quoted).join(', ') || 'nobody yet';
  const isNamesake = wanted.some((role) => rules.roles[role].includes(member.person.username));
  const other = isNamesake
    ? ' That name belonged to another account when it was first asked about; to give the role to this one, take the name out there and put it back, each merged.'
    : '';
  const where = wanted.map((role) => `\`roles.${role}\``).join(' or ');
  return refuse(
    `${quoted(member.person.username)} does not have the role ${names}. ${escapeInline(branch)} gives it to: ${people}. It is changed in \`cdl.yaml\`, ${where}.${other}`,
    'person',
  );
}

/** The answer for somebody who has the role and made the change; null when nothing speaks against them. */
export async function refuseMakers(
  call: Call,
  tools: Pick<Tools, 'conflictOf'>,
  rules: Project,
  permission: { person: Person; role: string },
): Promise<Answer | null> {
  const may = selfApproval(rules);
  if (may.author && may.committers && may.trigger) return null;
  const conflict = await tools.conflictOf(rules, call.change, permission.person);
  if (!conflict) return null;
  const what = {
    author: 'You are an author of this change',
    committers: 'You are an author of this change (you wrote a commit of it)',
    trigger: 'You started a pipeline of this change',
    proposer: 'You proposed a version on this change (by `/register`)',
  }[conflict];
  return {
    emoji: 'no_entry',
    text: `${what}; somebody else with the role **${permission.role}** has to approve it.`,
  };
}
