import { spawn } from 'node:child_process';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { buffer } from 'node:stream/consumers';
import { createGunzip } from 'node:zlib';
import { git, gitEnv, resolveRef, zeroSha } from './git.ts';
import { remembered } from './git-memory.ts';
import { answerLsRefs, readLsRefs } from './git-refs.ts';

/** One ref a push wants to move; `zeroSha` stands for "not there". */
export interface RefCommand {
  old: string;
  new: string;
  ref: string;
}

/** Whether a push may move a ref: `no-force` lets only fast-forwards through. */
export type RefRule =
  | { kind: 'allow' }
  | { kind: 'no-force'; message: string }
  | { kind: 'deny'; message: string };

const service = /^git-(upload|receive)-pack$/;

function noCache(response: ServerResponse, type: string): void {
  response.setHeader('content-type', type);
  response.setHeader('cache-control', 'no-cache, max-age=0, must-revalidate');
}

function pktLine(text: string): string {
  return (text.length + 4).toString(16).padStart(4, '0') + text;
}

function packEnv(request: IncomingMessage, extra: NodeJS.ProcessEnv = {}): NodeJS.ProcessEnv {
  const protocol = request.headers['git-protocol'];
  return gitEnv({ ...(typeof protocol === 'string' ? { GIT_PROTOCOL: protocol } : {}), ...extra });
}

/** Refs that are the forge's own stay out of pushes; push options are on, as on GitLab. */
const receiveConfig = [
  '-c',
  'receive.hideRefs=refs/merge-requests',
  '-c',
  'receive.hideRefs=refs/pipelines',
  '-c',
  'receive.advertisePushOptions=true',
  '-c',
  'receive.autogc=false',
];

/** Answers `GET …/info/refs?service=` (git's http-protocol document, "Smart Clients"). False for a service there is not. */
export async function advertiseRefs(
  repository: string,
  name: string,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<boolean> {
  if (!service.test(name)) return false;
  noCache(response, `application/x-${name}-advertisement`);
  if (request.headers['git-protocol'] === 'version=2' && name === 'git-upload-pack') {
    // Version 2 names no refs here, only what git can do.
    const able = await remembered(repository, 'capabilities', [], () =>
      git(repository, ['upload-pack', '--stateless-rpc', '--advertise-refs', '.'], {
        env: { GIT_PROTOCOL: 'version=2' },
      }),
    );
    response.end(able);
    return true;
  }
  response.write(`${pktLine(`# service=${name}\n`)}0000`);
  const config = name === 'git-receive-pack' ? receiveConfig : [];
  const child = spawn('git', [...config, name.slice(4), '--stateless-rpc', '--advertise-refs', repository], {
    env: packEnv(request),
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  child.stdout.pipe(response);
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', () => resolve(true));
  });
}

function bodyOf(request: IncomingMessage): NodeJS.ReadableStream {
  return request.headers['content-encoding'] === 'gzip' ? request.pipe(createGunzip()) : request;
}

/** Questions are short; what is longer is a fetch. */
const longestQuestion = 4096;

/** Answers `POST …/git-upload-pack`. */
export async function uploadPack(
  repository: string,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  noCache(response, 'application/x-git-upload-pack-result');
  const isShort = Number(request.headers['content-length'] ?? longestQuestion) < longestQuestion;
  const isV2 = String(request.headers['git-protocol'] ?? '').includes('version=2');
  const whole = isShort && isV2 ? await buffer(bodyOf(request)) : null;
  const question = whole && readLsRefs(whole);
  const answer = question && (await answerLsRefs(repository, question));
  if (answer !== null) return void response.end(answer);
  const child = spawn(
    'git',
    [
      '-c',
      'uploadpack.allowAnySHA1InWant=true',
      '-c',
      'uploadpack.allowFilter=true',
      'upload-pack',
      '--stateless-rpc',
      repository,
    ],
    { env: packEnv(request), stdio: ['pipe', 'pipe', 'ignore'] },
  );
  child.stdin.on('error', () => {});
  if (whole) child.stdin.end(whole);
  else bodyOf(request).pipe(child.stdin);
  child.stdout.pipe(response);
  response.on('close', () => child.kill());
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', () => resolve());
  });
}

/** The ref commands at the start of a push with its push options, or null when more bytes are needed. */
export function parseCommands(bytes: Buffer): { commands: RefCommand[]; options: string[] } | null {
  const commands: RefCommand[] = [];
  const options: string[] = [];
  let inOptions = false;
  let hasOptions = false;
  for (let at = 0; ; ) {
    if (bytes.length < at + 4) return null;
    const length = Number.parseInt(bytes.toString('latin1', at, at + 4), 16);
    if (Number.isNaN(length) || length < 4) {
      if (length !== 0 || inOptions || !hasOptions) return { commands, options };
      inOptions = true;
      at += 4;
      continue;
    }
    if (bytes.length < at + length) return null;
    const [line = '', capabilities = ''] = bytes.toString('utf8', at + 4, at + length).split('\0');
    if (/(^| )push-options( |\n|$)/.test(capabilities)) hasOptions = true;
    const match = /^([0-9a-f]{40}) ([0-9a-f]{40}) (.+)$/.exec(line.trimEnd());
    if (inOptions) options.push(line.trimEnd());
    else if (match?.[1] && match[2] && match[3])
      commands.push({ old: match[1], new: match[2], ref: match[3] });
    at += length;
  }
}

async function readCommands(body: NodeJS.ReadableStream) {
  let head = Buffer.alloc(0);
  for (;;) {
    const chunk: unknown = body.read();
    if (Buffer.isBuffer(chunk)) {
      head = Buffer.concat([head, chunk]);
      const parsed = parseCommands(head);
      if (parsed) return { ...parsed, head };
      continue;
    }
    const more = await new Promise<boolean>((resolve, reject) => {
      body.once('readable', () => resolve(true));
      body.once('end', () => resolve(false));
      body.once('error', reject);
    });
    if (!more) return { commands: [], options: [], head };
  }
}

/**
 * Answers `POST …/git-receive-pack`. The rules are judged before refs move: the repository's pre-receive hook (see
 * {@link preReceiveHook}) gets them by environment, because only there the pushed objects can be walked.
 * `moved` is called with the refs that really moved, before the client hears of its success.
 */
export async function receivePack(
  repository: string,
  request: IncomingMessage,
  response: ServerResponse,
  rule: (command: RefCommand) => RefRule,
  moved: (commands: RefCommand[], options: string[]) => Promise<void>,
): Promise<void> {
  const body = bodyOf(request);
  const { commands, options, head } = await readCommands(body);
  const rules = commands.map((command) => ({ command, rule: rule(command) }));
  const lines = (kind: 'deny' | 'no-force') =>
    rules
      .flatMap((entry) =>
        entry.rule.kind === kind ? [`${entry.command.ref} ${entry.rule.message.replaceAll('\n', ' ')}`] : [],
      )
      .join('\n');
  noCache(response, 'application/x-git-receive-pack-result');
  const child = spawn('git', [...receiveConfig, 'receive-pack', '--stateless-rpc', repository], {
    env: packEnv(request, { SANDBOX_DENY: lines('deny'), SANDBOX_NO_FORCE: lines('no-force') }),
    stdio: ['pipe', 'pipe', 'ignore'],
  });
  child.stdin.on('error', () => {});
  child.stdin.write(head);
  body.pipe(child.stdin);
  child.stdout.pipe(response, { end: false });
  await new Promise<void>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', () => resolve());
  });
  const happened: RefCommand[] = [];
  for (const command of commands) {
    if (command.old === command.new) continue;
    const now = await resolveRef(repository, command.ref);
    const refused = rules.some((entry) => entry.command === command && entry.rule.kind === 'deny');
    if (!refused && (now ?? zeroSha) === command.new) happened.push(command);
  }
  try {
    if (happened.length > 0) await moved(happened, options);
  } finally {
    response.end();
  }
}

/** The pre-receive hook of every sandbox repository: refuses the whole push when one ref breaks a rule. */
export const preReceiveHook = `#!/bin/sh
# Each line of SANDBOX_DENY and SANDBOX_NO_FORCE is a ref, a space and what to tell the person.
status=0
while read -r old new ref; do
  message=$(printf '%s\\n' "$SANDBOX_DENY" | while read -r r m; do [ "$r" = "$ref" ] && printf '%s' "$m"; done)
  if [ -z "$message" ] && [ "$old" != "${zeroSha}" ] && [ "$new" != "${zeroSha}" ]; then
    forced=$(printf '%s\\n' "$SANDBOX_NO_FORCE" | while read -r r m; do [ "$r" = "$ref" ] && printf '%s' "$m"; done)
    if [ -n "$forced" ] && ! git merge-base --is-ancestor "$old" "$new"; then message=$forced; fi
  fi
  if [ -n "$message" ]; then echo "GitLab: $message" >&2; status=1; fi
done
exit $status
`;
