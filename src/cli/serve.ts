import { spawn } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import type { Artifact } from '../core/artifact.ts';
import { artifactDigest } from '../core/artifact.ts';
import { type Digest, isDigest, shortDigest } from '../core/digest.ts';
import { UserError } from '../core/error.ts';
import { lockEntry, lockFile, parseLock } from '../core/lock.ts';
import { packageRoot } from '../exec/root.ts';
import { childEnvironment, findRoot, openZone } from '../steps/context.ts';
import { hashFile } from '../store/stream.ts';
import { portOf } from './port.ts';
import type { CommandInput } from './types.ts';

interface Served {
  folder: string;
  digest: Digest;
  candidate: string;
  version: string;
}

/** A package that lies in a folder: its digest is that of the manifest its files would have. */
async function fromFolder(folder: string): Promise<Served> {
  const files = await Promise.all(
    (await readdir(folder)).sort().map(async (path) => ({ path, ...(await hashFile(join(folder, path))) })),
  );
  const manifest: Artifact = { kind: 'package', name: 'folder', files, parents: [], meta: {} };
  return { folder, digest: artifactDigest(manifest), candidate: '', version: '0' };
}

async function fromLock(_input: CommandInput, root: string, model: string, environment: string) {
  const text = await readFile(join(root, lockFile), 'utf8').catch(() => null);
  const entry = text === null ? null : lockEntry(parseLock(text), model, environment);
  if (entry) return entry;
  throw new UserError(
    'input-missing',
    `${lockFile} has no entry ${model}.${environment}`,
    'give a package digest: cdl serve sha256:…',
  );
}

/** Fetches a package from whichever zone this machine may read. */
async function fetchPackage(
  input: CommandInput,
  root: string | null,
  digest: Digest,
  folder: string,
): Promise<void> {
  const problems: string[] = [];
  for (const name of ['trusted', 'work'] as const) {
    try {
      const zone = await openZone(input.env, name, root);
      if (await zone.hasArtifact(digest)) {
        await zone.saveArtifact(digest, folder);
        return;
      }
      problems.push(`${name}: not there`);
    } catch (error) {
      if (!(error instanceof UserError) || error.code !== 'store-denied') throw error;
      problems.push(`${name}: ${error.message}`);
    }
  }
  throw new UserError('artifact-missing', `package ${digest}: ${problems.join('; ')}`);
}

/** `cdl serve`: a model server in a process of its own, which sees nothing of this one's environment. */
export async function serve(input: CommandInput): Promise<number> {
  const given = input.args[0];
  const port = portOf(input.options.port);
  const temporary = await mkdtemp(join(tmpdir(), 'cdl-serve-'));
  try {
    let served: Served;
    const asFolder = given ? await stat(resolve(input.cwd, given)).catch(() => null) : null;
    if (given && asFolder?.isDirectory()) served = await fromFolder(resolve(input.cwd, given));
    else if (given && !isDigest(given)) {
      throw new UserError('usage', `${given} is neither a folder nor a digest`);
    } else {
      const root = await findRoot(input.cwd).catch(() => null);
      const model = input.options.model as string | undefined;
      if (!given && (!model || !root))
        throw new UserError('usage', 'name a package, or --model inside a project');
      const entry = given ? null : await fromLock(input, root!, model!, String(input.options.environment));
      const digest = given && isDigest(given) ? given : entry!.package;
      await fetchPackage(input, root, digest, temporary);
      served = {
        folder: temporary,
        digest,
        candidate: entry?.candidate ?? '',
        version: String(entry?.info.version ?? 0),
      };
    }
    return await runServer(input, served, port);
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
}

async function runServer(input: CommandInput, served: Served, port: number): Promise<number> {
  const scores = input.options.scores as string | undefined;
  const child = spawn(
    process.execPath,
    [
      join(packageRoot(), 'dist', 'serve', 'main.js'),
      ...['--package', served.folder, '--digest', served.digest, '--candidate', served.candidate],
      ...['--version', served.version, '--host', String(input.options.host), '--port', String(port)],
      ...(scores ? ['--scores', resolve(input.cwd, scores)] : []),
      '--attached',
    ],
    { env: childEnvironment(input.env), stdio: ['pipe', 'pipe', 'inherit'] },
  );
  const stop = () => child.kill('SIGTERM');
  input.console.signal.addEventListener('abort', stop, { once: true });
  const ended = new Promise<number | null>((done, failed) => {
    child.on('error', failed);
    child.on('close', (code) => done(code));
  });
  for await (const line of createInterface({ input: child.stdout })) {
    const ready = JSON.parse(line) as { ready: boolean; port: number };
    const url = `http://${String(input.options.host)}:${ready.port}`;
    input.console.print(
      `serving package ${shortDigest(served.digest)} at ${url}\n  v2:      ${url}/v2\n  seldon:  ${url}/api/v1.0/predictions\n  metrics: ${url}/metrics`,
      { url, package: served.digest, candidate: served.candidate || null },
    );
  }
  const code = await ended;
  if (code === 0 || input.console.signal.aborted) return 0;
  throw new UserError(
    'deploy-failed',
    `the model server ended with ${code ?? 'a signal'}`,
    'its last words are above',
  );
}
