import type { Person, Project } from '../../src/index.ts';
import type { Answer, Call, Tools } from './types.ts';

/** A person who may decide, with the role that says so; or the answer for somebody who may not. */
export type Permission = { person: Person; role: string } | { refused: Answer };

const refuse = (text: string): { refused: Answer } => ({ refused: { emoji: 'no_entry', text } });

/** The rules that count for a change: the default branch's; null while it has none. */
export function rulesOf(call: Call): Project | null {
  return call.models.find((one) => one.facts.rules)?.facts.rules?.project ?? null;
}

/**
 * Whether the author of a comment has the approving role: a member by their id, whose current user name the default
 * branch lists.
 */
export async function permit(call: Call, tools: Pick<Tools, 'member'>): Promise<Permission> {
  const rules = rulesOf(call);
  const branch = call.models[0]?.facts.defaultBranch ?? 'the default branch';
  if (!rules) {
    return refuse(`${branch} has no roles for the models of this change yet, so nobody can decide about it.`);
  }
  const { role } = rules.approvals;
  const person = await tools.member(call.comment.author.id);
  if (!person) return refuse(`Only members of this project with the role **${role}** can do this.`);
  if (rules.roles[role].includes(person.username)) return { person, role };
  const people = rules.roles[role].map((name) => `\`${name}\``).join(', ') || 'nobody yet';
  return refuse(
    `\`${person.username}\` does not have the role **${role}**. ${branch} gives it to: ${people}. It is changed in \`cdl.yaml\`, \`roles.${role}\`.`,
  );
}
