import { z } from 'zod';
import type { Digest } from '../core/digest.ts';
import type { Zone } from '../store/types.ts';
import { partKey } from './clean-shards.ts';
import { emptyProfile, mergeProfiles, type Profile, profileSchema } from './profile.ts';

/** A profile without its examples: those of an older version have no use. */
const seenSchema = z.strictObject({ digest: z.string(), profile: profileSchema });
const recordSchema = z.strictObject({
  v: z.literal(1),
  latest: seenSchema,
  before: seenSchema.nullable(),
});

/**
 * The profile of the version that was looked at before this one, and remembers this one for the next. The record only
 * serves comparison: when it cannot be read, or another job writes it at the same moment, nothing is lost but that.
 */
export async function exchangeProfile(
  zone: Zone,
  name: string,
  digest: Digest,
  profile: Profile,
): Promise<{ digest: string; profile: Profile } | null> {
  const key = `profiles/${name}.json`;
  const found = await zone.readRecord(key);
  const parsed = recordSchema.safeParse(found?.value);
  const known = parsed.success ? parsed.data : null;
  const before = known?.latest.digest === digest ? known.before : (known?.latest ?? null);
  const latest = { digest, profile: { ...profile, examples: [] } };
  await zone.writeRecord(
    key,
    { v: 1, latest, before },
    found === null ? { ifAbsent: true } : { ifMatch: found.etag },
  );
  return before;
}

/** Which of how many jobs one is. */
export interface Share {
  index: number;
  total: number;
}

/** Keeps the profile of a job's share of the items where the job that is done last finds it. */
export async function storeShare(zone: Zone, key: string, share: Share, profile: Profile): Promise<void> {
  await zone.writeRecord(partKey(key, share.index, share.total), { v: 1, profile });
}

/** The profile of a share that was stored; null when there is none, or it cannot be read. */
export async function readShare(zone: Zone, key: string, share: Share): Promise<Profile | null> {
  const record = await zone.readRecord(partKey(key, share.index, share.total));
  const parsed = z.strictObject({ v: z.literal(1), profile: profileSchema }).safeParse(record?.value);
  return parsed.success ? parsed.data.profile : null;
}

/** The profile of all items together; null while a share is missing. */
export async function joinShares(
  zone: Zone,
  key: string,
  total: number,
  classes: number,
): Promise<Profile | null> {
  let joined = emptyProfile(classes);
  for (let index = 0; index < total; index++) {
    const profile = await readShare(zone, key, { index, total });
    if (profile === null) return null;
    joined = mergeProfiles(joined, profile);
  }
  return joined;
}
