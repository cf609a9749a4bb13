import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import type { Options } from 'pacote';
import { UserError } from '../../core/error.ts';
import { withCertificates } from '../../forge/network.ts';
import { asUnreachable, Unreachable } from './attempts.ts';
import type { FetchOptions } from './options.ts';
import { spool } from './spool.ts';

/** Where packages come from when nobody says otherwise. */
export const publicRegistry = 'https://registry.npmjs.org/';

/**
 * `package@version`, exact: anything else that npm would take for a package (a folder, a git repository, a range) could be
 * something else tomorrow, or run scripts. Throws UserError config-invalid.
 */
export function parsePackage(specifier: string): { name: string; version: string } {
  const found =
    /^((?:@[a-z0-9~-][a-z0-9._~-]*\/)?[a-z0-9~-][a-z0-9._~-]*)@(\d+\.\d+\.\d+[0-9A-Za-z.+-]*)$/.exec(
      specifier,
    );
  if (found) return { name: found[1]!, version: found[2]! };
  throw new UserError(
    'config-invalid',
    `npm source "${specifier}" is not package@version`,
    'name one version, such as @scope/data@1.2.0',
  );
}

/** What pacote (npm's own client) is told of the ways to a registry. */
export function packageOptions(options: FetchOptions): Options {
  const { network, authorization } = options;
  const registry = new URL(options.npmRegistry ?? publicRegistry);
  const base = registry.href.endsWith('/') ? registry.href : `${registry.href}/`;
  const [scheme, token] = (authorization?.(registry.host) ?? '').split(' ');
  const isHttps = registry.protocol === 'https:';
  const proxy = isHttps ? network?.proxy?.https : network?.proxy?.http;
  const spoken: Record<string, unknown> = {
    registry: base,
    cache: join(options.cacheFolder, 'npm'),
    // Ours alone, so that each attempt counts once.
    fetchRetries: 0,
    fullMetadata: false,
    proxy: proxy ?? false,
    httpsProxy: proxy ?? false,
    noProxy: network?.proxy?.no ?? '',
    ...(network?.ca && { ca: withCertificates(network.ca) }),
    // Bound to the registry's own address: npm sends them nowhere else.
    ...(token && {
      [`${base.slice(base.indexOf('//'))}:${scheme === 'Basic' ? '_auth' : '_authToken'}`]: token,
    }),
  };
  return spoken as Options;
}

/**
 * One attempt to have a package's archive as the registry has it, its integrity checked (npm/ssri), written to `part`. Gives
 * its sha256. Throws Unreachable, UserError source-mismatch when it is not what the registry says of it, data-invalid.
 */
export async function downloadPackage(
  specifier: string,
  part: string,
  most: number,
  options: FetchOptions,
): Promise<string> {
  parsePackage(specifier);
  const { default: pacote } = await import('pacote');
  const signal = options.signal ?? new AbortController().signal;
  try {
    return await pacote.tarball.stream(
      specifier,
      (stream) => {
        // A minipass stream: what is there already flows, and fails, as soon as somebody listens to its data. Whoever hears
        // of the failure must therefore have been there before.
        const body = new PassThrough();
        stream.on('error', (error: Error) => body.destroy(error));
        body.once('close', () => stream.unpipe(body));
        stream.pipe(body);
        return spool({ name: specifier, body, start: 0, total: null }, part, most, signal, (bytes, total) =>
          options.onProgress?.({ what: specifier, bytes, total }),
        );
      },
      packageOptions(options),
    );
  } catch (error) {
    throw packageError(specifier, error);
  }
}

/** The version that a package's tag `latest` names. Throws Unreachable. */
export async function latestVersion(name: string, options: FetchOptions): Promise<string> {
  const { default: pacote } = await import('pacote');
  try {
    const document = await pacote.packument(name, packageOptions(options));
    return document['dist-tags'].latest;
  } catch (error) {
    throw packageError(`${name}@0.0.0`, error);
  }
}

/** What a failure of pacote means here. */
export function packageError(specifier: string, error: unknown): unknown {
  const cause = error instanceof Unreachable && error.cause instanceof Error ? error.cause : error;
  if (!(cause instanceof Error) || cause instanceof UserError) return cause;
  const code = 'code' in cause ? String(cause.code) : '';
  if (code === 'EINTEGRITY' || code === 'EBADSIZE') {
    return new UserError(
      'source-mismatch',
      `${specifier} is not what its registry says of it (${code}); nothing of it was kept`,
      'the registry, or something on the way, damages it: use another one with CDL_NPM_REGISTRY',
      { cause },
    );
  }
  if (code === 'ETARGET' || code === 'ENOVERSIONS') {
    const { name, version } = parsePackage(specifier);
    return new Unreachable(`its registry has no version ${version} of ${name}`, false, { cause });
  }
  const status = /^E(\d{3})$/.exec(code)?.[1];
  if (status !== undefined) {
    const again = Number(status) >= 500 || status === '429' || status === '408';
    return new Unreachable(`its registry answered ${status}`, again, { cause });
  }
  return error instanceof Unreachable ? error : asUnreachable(error);
}
