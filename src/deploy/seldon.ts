import { UserError } from '../core/error.ts';
import type { Target } from './types.ts';

/** The Kubernetes target of this version: manifests are rendered, not applied. Both methods throw UserError not-available. */
export function openSeldonTarget(): Target {
  const unavailable = (): UserError =>
    new UserError(
      'not-available',
      'applying to Kubernetes is not in this version; the manifest is in the report',
      'apply the manifest with kubectl, or use target: local',
    );
  return {
    live: () => Promise.reject(unavailable()),
    apply: () => ({
      [Symbol.asyncIterator]: () => ({ next: () => Promise.reject(unavailable()) }),
    }),
  };
}
