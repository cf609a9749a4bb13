import { createHash } from 'node:crypto';
import type { World } from '../state.ts';

/** Host and port as components are addressed (CI_SERVER_FQDN). */
export function serverFqdn(world: World): string {
  return world.url === '' ? 'sandbox.invalid' : new URL(world.url).host;
}

/** As CI_COMMIT_REF_SLUG: lower case, at most 63 characters, only letters, digits and inner dashes. */
export function slug(text: string): string {
  return text
    .toLowerCase()
    .replace(/[^a-z0-9]/g, '-')
    .slice(0, 63)
    .replace(/^-+|-+$/g, '');
}

/** As CI_ENVIRONMENT_SLUG: at most 24 characters, made unique by a hash when the name had to be changed (lib/gitlab/slug/environment.rb). */
export function environmentSlug(name: string): string {
  let text = name.toLowerCase().replace(/[^a-z0-9]+/g, '-');
  if (!/^[a-z]/.test(text)) text = `env-${text}`;
  if (text.length <= 24 && text === name) return text.replace(/-$/, '');
  const hash = BigInt(`0x${createHash('sha256').update(name).digest('hex')}`)
    .toString(36)
    .slice(-6);
  return `${text.slice(0, 17).replace(/-$/, '')}-${hash}`;
}
