import { type ChildProcess, spawn } from 'node:child_process';
import { createHash, generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { cp, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { text } from 'node:stream/consumers';
import { pathToFileURL } from 'node:url';
import { candidateDigest } from '../../src/core/candidate.ts';
import { candidateKey, claimKey, claimPath, claimSchema } from '../../src/core/claim.ts';
import { decisionKey, keyId, signDecision } from '../../src/core/decision.ts';
import type { Digest } from '../../src/core/digest.ts';
import { createEntry, emptyLock, renderLock, withEntry } from '../../src/core/lock.ts';
import { parseProject, policyDigest } from '../../src/core/project.ts';
import { planDeployment } from '../../src/deploy/plan.ts';
import { packageRoot } from '../../src/exec/root.ts';
import { run } from '../../src/exec/run.ts';
import { openZone } from '../../src/steps/context.ts';
import { model, writeTinyProject } from './tiny-project.ts';

/** How a command ended. `signal` is SIGKILL when it was killed. */
export interface Ended {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

/** Where and when to kill a command, see kill-after.mjs. `at` 0 = never; `count` names a file for how many changes there were. */
export interface Kill {
  below: string;
  at: number;
  when: 'before' | 'after';
  count?: string;
}

/** The tiny project in a folder of this machine: no forge, its store in `.cdl/store`. */
export interface Workbench {
  folder: string;
  project: string;
  /** Starts `cdl` in the project. */
  start(args: readonly string[], env?: NodeJS.ProcessEnv): ChildProcess;
  cdl(args: readonly string[], env?: NodeJS.ProcessEnv): Promise<Ended>;
  /** As `cdl`, and the output as one JSON document. Throws when it fails. */
  json(args: readonly string[], env?: NodeJS.ProcessEnv): Promise<Record<string, unknown>>;
  /** A copy with a store of its own; the data and what `origin` holds are shared. */
  copy(): Promise<Workbench>;
  /** Environment of a deploy job on the protected default branch at the newest commit. */
  deployEnvironment(): Promise<NodeJS.ProcessEnv>;
  /** What the bot would do with the registered candidate: hand it over, evaluate, sign an approval, write the lock. */
  approve(): Promise<{
    candidate: Digest;
    evaluation: Digest;
    plan: Digest;
    package: Digest;
    version: number;
  }>;
  /** Everything in the store, as a digest by path; temporary files and locks left out. */
  snapshot(): Promise<Record<string, string>>;
  remove(): Promise<void>;
}

const program = join(packageRoot(), 'bin', 'cdl.js');
const killer = pathToFileURL(join(import.meta.dirname, 'kill-after.mjs')).href;

/** Environment variables that have a command killed. */
export function killing({ below, at, when, count }: Kill): NodeJS.ProcessEnv {
  return {
    NODE_OPTIONS: `--import ${killer}`,
    KILL_BELOW: below,
    KILL_AT: String(at),
    KILL_WHEN: when,
    ...(count && { KILL_COUNT: count }),
  };
}

/** Waits for a child that was started with pipes. */
export async function endOf(child: ChildProcess): Promise<Ended> {
  const [stdout, stderr, [code, signal]] = await Promise.all([
    text(child.stdout!),
    text(child.stderr!),
    once(child, 'close') as Promise<[number | null, NodeJS.Signals | null]>,
  ]);
  return { code, signal, stdout, stderr };
}

const git = async (cwd: string, ...args: string[]): Promise<string> => {
  const result = await run('git', ['-c', 'user.name=T', '-c', 'user.email=t@example.com', ...args], { cwd });
  if (result.code !== 0) throw new Error(`git ${args.join(' ')}: ${result.stderr.toString()}`);
  return result.stdout.toString().trim();
};

/** Makes a workbench with the tiny project committed, and pushed to a bare repository beside it. */
export async function openWorkbench(): Promise<Workbench> {
  const folder = await mkdtemp(join(tmpdir(), 'cdl-workbench-'));
  const project = join(folder, 'project');
  const origin = join(folder, 'origin.git');
  await writeTinyProject(project, { data: join(folder, 'data'), validators: ['vera'], version: '0.0.0' });
  await git(folder, 'init', '--quiet', '--bare', '--initial-branch=main', origin);
  await git(project, 'init', '--quiet', '--initial-branch=main');
  await git(project, 'remote', 'add', 'origin', origin);
  await git(project, 'add', '--all');
  await git(project, 'commit', '--quiet', '-m', 'feat: start');
  await git(project, 'push', '--quiet', 'origin', 'main');
  const { privateKey, publicKey } = generateKeyPairSync('ed25519');
  const signer = { id: keyId(privateKey), key: privateKey };
  const publicPem = publicKey.export({ type: 'spki', format: 'pem' }).toString();
  return benchAt(folder, project, { signer, publicPem });
}

interface Keys {
  signer: Parameters<typeof signDecision>[1];
  publicPem: string;
}

function benchAt(folder: string, project: string, keys: Keys): Workbench {
  const base: NodeJS.ProcessEnv = {
    PATH: process.env.PATH,
    HOME: folder,
    CDL_CACHE: join(folder, 'cache'),
    TZ: 'UTC',
  };
  const bench: Workbench = {
    folder,
    project,
    start: (args, env = {}) =>
      spawn(process.execPath, [program, ...args], {
        cwd: project,
        env: { ...base, ...env },
        stdio: ['ignore', 'pipe', 'pipe'],
      }),
    cdl: (args, env) => endOf(bench.start(args, env)),
    async json(args, env) {
      const { code, stdout, stderr } = await bench.cdl([...args, '--json'], env);
      if (code !== 0) throw new Error(`cdl ${args.join(' ')} ended with ${code}: ${stdout}${stderr}`);
      return JSON.parse(stdout) as Record<string, unknown>;
    },
    async copy() {
      const other = await mkdtemp(join(tmpdir(), 'cdl-workbench-'));
      await cp(project, join(other, 'project'), { recursive: true });
      return benchAt(other, join(other, 'project'), keys);
    },
    async deployEnvironment() {
      return {
        CI: 'true',
        CI_PROJECT_PATH: `acme/${model}`,
        CI_JOB_ID: '1',
        CI_PIPELINE_ID: '1',
        CI_COMMIT_SHA: await git(project, 'rev-parse', 'HEAD'),
        CI_COMMIT_REF_NAME: 'main',
        CI_COMMIT_BRANCH: 'main',
        CI_COMMIT_REF_PROTECTED: 'true',
        CI_DEFAULT_BRANCH: 'main',
        CDL_WORK_STORE: pathToFileURL(join(project, '.cdl', 'store', 'work')).href,
        CDL_TRUSTED_STORE: pathToFileURL(join(project, '.cdl', 'store', 'trusted')).href,
        CDL_TRUSTED_KEYS: keys.publicPem,
        CDL_LOCAL_TARGET: join(folder, 'target'),
      };
    },
    approve: () => approveHere(bench, keys),
    async snapshot() {
      const found: Record<string, string> = {};
      const store = join(project, '.cdl', 'store');
      for (const entry of await readdir(store, { recursive: true, withFileTypes: true })) {
        const path = relative(store, join(entry.parentPath, entry.name));
        if (!entry.isFile() || /^[a-z]+\/(tmp|locks)\//.test(path)) continue;
        found[path] = createHash('sha256')
          .update(await readFile(join(store, path)))
          .digest('hex');
      }
      return found;
    },
    remove: () => rm(folder, { recursive: true, force: true, maxRetries: 5 }),
  };
  return bench;
}

async function approveHere(bench: Workbench, keys: Keys): ReturnType<Workbench['approve']> {
  const { project: root } = bench;
  const claim = claimSchema.parse(JSON.parse(await readFile(join(root, claimPath(model)), 'utf8')));
  const candidate = candidateDigest(claim.candidate);
  const trusted = await openZone({}, 'trusted', root);
  await trusted.writeRecord(claimKey(candidate), claim, { ifAbsent: true });
  await trusted.writeRecord(candidateKey(candidate), claim.candidate, { ifAbsent: true });
  await bench.json(['ingest', '--side', 'test']);
  const evaluated = await bench.json(['evaluate', '--candidate', candidate]);
  const evaluation = (evaluated.outputs as { evaluation: Digest }).evaluation;
  const project = parseProject(await readFile(join(root, 'cdl.yaml'), 'utf8'));
  const config = project.models[model]!;
  const manifest = await trusted.getArtifact(claim.candidate.package);
  const place = { project: model, model, environment: 'production' };
  const plan = planDeployment({
    ...place,
    from: null,
    fromPackage: null,
    to: candidate,
    package: claim.candidate.package,
    version: claim.version,
    bytes: manifest.files.reduce((sum, file) => sum + file.size, 0),
    environmentConfig: config.environments.production!,
    resources: config.resources.serve,
  });
  const envelope = signDecision(
    {
      ...place,
      candidate,
      evaluation,
      baseline: null,
      plan: plan.digest,
      decision: 'approved',
      approvers: [{ id: '1', name: 'vera', role: 'validator' }],
      policy: policyDigest(project),
      change: '!1',
      seq: 1,
      prev: null,
      time: '2026-01-01T00:00:00.000Z',
    },
    keys.signer,
  );
  await trusted.writeRecord(decisionKey(model, model, 'production', 1), envelope, { ifAbsent: true });
  const entry = createEntry(claim.candidate, evaluation, { version: claim.version, run: claim.run });
  await writeFile(join(root, 'cdl.lock'), renderLock(withEntry(emptyLock, model, 'production', entry)));
  await git(root, 'add', '--all');
  await git(root, 'commit', '--quiet', '-m', 'chore(lock): version 1');
  await git(root, 'push', '--quiet', 'origin', 'main');
  return { candidate, evaluation, plan: plan.digest, package: entry.package, version: claim.version };
}
