import { versionKey } from '../core/claim.ts';
import { shortDigest } from '../core/digest.ts';
import { UserError } from '../core/error.ts';
import { plural } from '../core/plural.ts';
import { retentionSchema } from '../core/project-retention.ts';
import { digestsIn } from '../data/gc.ts';
import { readGitRoots } from '../data/git-roots.ts';
import { dropVersions } from '../model/registry.ts';
import { type Holders, planRetention, type RetentionPolicy } from '../model/retention.ts';
import type { Zone } from '../store/types.ts';
import { judgeDoubts } from './doubts.ts';
import type { ModelsDesk } from './models-desk.ts';
import type { CommandInput } from './types.ts';

/** Where the trusted zone keeps decisions and what is live. */
const deciding = ['decisions/', 'live/'];

async function decidedDigests(trusted: Zone | null): Promise<Set<string>> {
  const found = new Set<string>();
  for (const prefix of trusted ? deciding : []) {
    for await (const key of trusted!.listRecordKeys(prefix)) {
      digestsIn((await trusted!.readRecord(key))?.value, found);
    }
  }
  return found;
}

function policyOf(input: CommandInput, desk: ModelsDesk): RetentionPolicy {
  const { keep, days } = input.options;
  const declared = desk.ctx.project.retention ?? retentionSchema.parse({});
  const parsed = retentionSchema.safeParse({
    keep: keep === undefined ? declared.keep : Number(keep),
    days: days === undefined ? declared.days : Number(days),
  });
  if (parsed.success) return parsed.data;
  throw new UserError('usage', '--keep takes a whole number from 1 on, --days a number from 0 on');
}

/**
 * `cdl models prune`: which versions nothing holds on to, by the policy of cdl.yaml. With `--delete` their records go, with
 * the records of their trainings; `cdl gc` then removes what only they named. Throws UserError input-missing when it cannot
 * be known what is in use.
 */
export async function prune(input: CommandInput, desk: ModelsDesk): Promise<number> {
  const { ctx, sources } = desk;
  const { work, trusted } = sources;
  const policy = policyOf(input, desk);
  const remove = input.options.delete === true;
  const known = await desk.known();
  const { model } = known;
  const { project } = ctx.project;
  const {
    digests,
    versions: named,
    doubts,
  } = await readGitRoots(ctx.root, Boolean(input.env.CDL_WORK_STORE));
  judgeDoubts(doubts, trusted, remove);
  const holders: Holders = {
    git: digests,
    trusted: await decidedDigests(trusted),
    starts: new Set(
      known.versions.map(({ version }) => version).filter((version) => named.has(`${model}/v${version}`)),
    ),
  };
  const modified = new Map<string, number>();
  for await (const entry of work.listRecords(versionKey(project, model, 1).replace(/[^/]*$/, '')))
    modified.set(entry.key, entry.modified);
  // A record whose age is not known counts as young.
  const modifiedOf = (version: number) =>
    modified.get(versionKey(project, model, version)) ?? Number.POSITIVE_INFINITY;
  const verdicts = planRetention(
    known.versions.map((one) => ({
      version: one.version,
      candidate: one.digest,
      digests: [
        one.digest,
        one.candidate.package,
        one.candidate.checkpoint,
        one.run,
        ...(one.sbom ? [one.sbom.artifact] : []),
      ],
      names: one.names,
      modified: modifiedOf(one.version),
    })),
    holders,
    policy,
    Date.now(),
  );
  const going = known.versions.flatMap(({ version, run }, at) =>
    verdicts[at]!.reasons.length === 0 ? [{ version, run, modified: modifiedOf(version) }] : [],
  );
  const gone = remove ? await dropVersions(work, project, model, going) : going.map(({ version }) => version);
  const lines = [
    ...doubts.map((doubt) => `! ${doubt}`),
    ...known.versions.map((one, at) => {
      const { reasons } = verdicts[at]!;
      const why = reasons.length > 0 ? reasons.join(', ') : 'registered again just now';
      const what = !gone.includes(one.version) ? `stays: ${why}` : remove ? 'removed' : 'would go';
      return `${one.version}  ${shortDigest(one.digest)}  ${what}`;
    }),
    `${plural(gone.length, 'version')} of ${model} ${remove ? 'removed' : 'would go'}, ${known.versions.length - gone.length} stay (the newest ${policy.keep}, those of ${policy.days} days, and what is in use)`,
    ...(gone.length === 0
      ? []
      : [remove ? 'cdl gc says what that leaves unused' : 'nothing was removed: cdl models prune --delete']),
  ];
  input.console.print(lines.join('\n'), { model, removed: remove, policy, doubts, versions: verdicts });
  return 0;
}
