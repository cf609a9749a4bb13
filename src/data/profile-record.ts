import { z } from 'zod';
import type { Digest } from '../core/digest.ts';
import type { Zone } from '../store/types.ts';
import { type Profile, profileSchema } from './profile.ts';

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
