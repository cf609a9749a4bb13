import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { z } from 'zod';
import { digestSchema } from '../core/artifact.ts';
import type { DataDecision } from '../core/data-decision.ts';
import type { Decision } from '../core/decision.ts';
import { shortDigest } from '../core/digest.ts';
import { UserError } from '../core/error.ts';
import { headProblem } from '../core/head.ts';
import { plural } from '../core/plural.ts';
import { nearest } from '../core/suggest.ts';
import { listChains, placeName, type VerifiedChain, verifyChain } from '../deploy/chains.ts';
import { createContext } from '../steps/context.ts';
import type { CommandInput } from './types.ts';

const actions = ['show', 'verify'];

/** What `cdl audit verify --json` prints, as far as a later look needs it. */
const length = { seq: z.int().positive(), digest: digestSchema };
const earlierSchema = z.object({
  heads: z.array(
    z.union([
      z.object({ ...length, model: z.string(), environment: z.string() }),
      z.object({ ...length, dataset: z.string() }),
    ]),
  ),
});

/** What was decided about, by whom, and why against the rules. */
function columns(one: Decision | DataDecision): string[] {
  if ('version' in one) {
    return [shortDigest(one.version), one.change, `${one.approver.name} (${one.approver.role})`, ''];
  }
  return [
    shortDigest(one.candidate),
    one.change,
    one.approvers.map(({ name, role }) => `${name} (${role})`).join(', ') || '–',
    one.override ? `overruled: ${one.override.reason}` : '',
  ];
}

async function earlierProblems(path: string, chains: readonly VerifiedChain[]): Promise<string[]> {
  const text = await readFile(path, 'utf8').catch(() => {
    throw new UserError('file-missing', `${path} cannot be read`);
  });
  let earlier: z.infer<typeof earlierSchema>;
  try {
    earlier = earlierSchema.parse(JSON.parse(text));
  } catch (cause) {
    throw new UserError('usage', `${path} is not what cdl audit verify --json printed`, undefined, { cause });
  }
  return earlier.heads.flatMap((head) => {
    const where = placeName(head);
    const chain = chains.find(({ place }) => placeName(place) === where);
    if (chain?.kind === 'broken') return [];
    const problem = headProblem(head, chain?.digests ?? [], where);
    return problem ? [problem] : [];
  });
}

/**
 * `cdl audit show | verify`: the signed decisions of every environment and every data set. `verify --since <file>` also compares with an
 * earlier look that was kept elsewhere. Throws UserError decision-invalid (exit 6) when anything does not hold.
 */
export async function audit(input: CommandInput): Promise<number> {
  const action = input.args[0] ?? 'show';
  if (!actions.includes(action)) {
    const guess = nearest(action, actions);
    throw new UserError(
      'usage',
      `cdl audit takes ${actions.join(', ')}, not ${action}${guess ? ` — did you mean ${guess}?` : ''}`,
    );
  }
  const ctx = await createContext(input.cwd, input.env, input.console);
  const trusted = ctx.trustedKeys();
  if (trusted.size === 0) {
    throw new UserError('environment-missing', 'CDL_TRUSTED_KEYS is not set: whose signatures shall count?');
  }
  const zone = await ctx.zone('trusted');
  const project = ctx.project.project;
  const chains: VerifiedChain[] = [];
  for (const chain of await listChains(zone, project)) {
    chains.push(await verifyChain(zone, project, chain, trusted));
  }
  const problems = chains.flatMap((chain) => (chain.kind === 'broken' ? [chain.problem] : []));
  const { since } = input.options;
  if (typeof since === 'string') problems.push(...(await earlierProblems(resolve(input.cwd, since), chains)));
  if (action === 'verify' && problems.length > 0) {
    throw new UserError('decision-invalid', problems.join('\n'));
  }
  const whole = chains.flatMap((chain) => (chain.kind === 'whole' ? [chain] : []));
  const rows = whole.flatMap(({ decisions, signers }) =>
    decisions.map((one, index) => ({ ...one, keys: signers[index]! })),
  );
  const heads = whole.flatMap(({ place, digests }) =>
    digests.length === 0 ? [] : [{ ...place, seq: digests.length, digest: digests.at(-1)! }],
  );
  if (action === 'verify') {
    const ends = whole.map(
      (one) =>
        `${placeName(one.place)}  ${plural(one.decisions.length, 'decision')}, whole${one.head ? `, end signed at ${one.head.seq}` : ', end not signed yet'}`,
    );
    const text = ends.length > 0 ? ends.join('\n') : 'there are no decisions yet';
    input.console.print(text, { project, decisions: rows.length, heads });
    return 0;
  }
  const lines = rows.map((row) =>
    [
      placeName(row).padEnd(24),
      String(row.seq).padStart(4),
      row.time,
      row.decision.padEnd(8),
      ...columns(row),
    ]
      .join('  ')
      .trimEnd(),
  );
  const text = [...lines, ...problems.map((problem) => `✗ ${problem}`)].join('\n');
  input.console.print(text || 'there are no decisions yet', { project, decisions: rows, heads, problems });
  return 0;
}
