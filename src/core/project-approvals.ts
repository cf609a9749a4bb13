import { z } from 'zod';
import { dataApprovalsSchema } from './project-data-approval.ts';

const roleSchema = z.enum(['validator', 'data', 'devops', 'maintainer']);
const countSchema = z.int().min(1).max(10);

const seatSchema = z.strictObject({
  role: roleSchema,
  count: countSchema.default(1).describe('how many people of this role'),
});

const selfApprovalSchema = z.strictObject({
  author: z.boolean().default(false).describe('who opened the change may approve it'),
  committers: z
    .boolean()
    .default(false)
    .describe('who wrote or committed a commit of the change may approve it'),
  trigger: z
    .boolean()
    .default(false)
    .describe('who started one of its pipelines, or proposed a version by /register, may approve it'),
});

/** The schema of `approvals:` in `cdl.yaml`. */
export const approvalsSchema = z.strictObject({
  required: z
    .union([countSchema, z.array(seatSchema).min(1).max(4)])
    .default(1)
    .describe(
      'how many people of `role` must approve; or a list of roles, each with its number, of which one person counts for one',
    ),
  role: roleSchema.default('validator').describe('the approving role, where `required` is a number'),
  self_approval: z
    .union([z.boolean(), selfApprovalSchema])
    .default(false)
    .describe('whether people who made the change may approve it; true = all of them'),
  forge_button: z
    .boolean()
    .default(false)
    .describe(
      'whether the forge’s own Approve button counts, for the report that is shown when it is pressed',
    ),
  // Without a default: the digest of the rules, which decisions name, stays what it was for who does not ask for this.
  data: dataApprovalsSchema.optional(),
});

/** `approvals:`, normalized. */
export type Approvals = z.output<typeof approvalsSchema>;

/** How many people of a role must approve. */
export interface RequiredRole {
  role: z.output<typeof roleSchema>;
  count: number;
}

/** Whose approvals are needed, with the short form (a number, of the one role) written out; in the order of the file. */
export function requiredApprovals({
  required,
  role,
}: Pick<Approvals, 'required' | 'role'>): readonly RequiredRole[] {
  return typeof required === 'number' ? [{ role, count: required }] : required;
}

/** Who of those that made a change may approve it, with the short form (`true`, `false`) written out. */
export function selfApproval(project: {
  approvals: Pick<Approvals, 'self_approval'>;
}): z.output<typeof selfApprovalSchema> {
  const given = project.approvals.self_approval;
  return typeof given === 'boolean' ? { author: given, committers: given, trigger: given } : given;
}

/** Indices of roles in the list that stand there a second time. */
export function repeatedRoles({ required }: Pick<Approvals, 'required'>): number[] {
  if (typeof required === 'number') return [];
  const roles = required.map(({ role }) => role);
  return roles.flatMap((role, index) => (roles.indexOf(role) < index ? [index] : []));
}
