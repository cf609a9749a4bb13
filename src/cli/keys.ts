import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { keyId } from '../core/decision.ts';
import { UserError } from '../core/error.ts';
import { plural } from '../core/plural.ts';
import { resignChains } from '../deploy/chains.ts';
import { createContext } from '../steps/context.ts';
import type { CommandInput } from './types.ts';

async function readKey(path: string): Promise<KeyObject> {
  const pem = await readFile(path, 'utf8').catch(() => {
    throw new UserError('file-missing', `${path} cannot be read`);
  });
  try {
    const key = createPrivateKey(pem);
    if (key.asymmetricKeyType === 'ed25519') return key;
  } catch (cause) {
    throw new UserError('config-invalid', `${path} is not a private key in PEM`, undefined, { cause });
  }
  throw new UserError('config-invalid', `${path} is not an Ed25519 key`);
}

/** Makes a key in a new file that only its owner may read. */
async function makeKey(path: string): Promise<KeyObject> {
  const { privateKey } = generateKeyPairSync('ed25519');
  const pem = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
  try {
    await writeFile(path, pem, { mode: 0o600, flag: 'wx' });
  } catch (cause) {
    const exists = (cause as NodeJS.ErrnoException).code === 'EEXIST';
    throw new UserError(
      'usage',
      exists ? `${path} is there already` : `${path} cannot be written`,
      exists ? 'use it with --key, or name another file' : undefined,
      { cause },
    );
  }
  return privateKey;
}

/**
 * `cdl keys rotate`: signs every decision with a further key, given (`--key`) or made (`--out`). The operator's command, with
 * the trusted zone's credentials and the keys before in CDL_TRUSTED_KEYS. May be run again.
 */
export async function keys(input: CommandInput): Promise<number> {
  const [action] = input.args;
  if (action !== 'rotate') throw new UserError('usage', `cdl keys takes rotate, not ${action ?? 'nothing'}`);
  const { key: given, out } = input.options;
  if ((typeof given === 'string') === (typeof out === 'string')) {
    throw new UserError('usage', 'cdl keys rotate takes either --key <file> or --out <file>');
  }
  const ctx = await createContext(input.cwd, input.env, input.console);
  const before = ctx.trustedKeys();
  if (before.size === 0) {
    throw new UserError(
      'environment-missing',
      'CDL_TRUSTED_KEYS is not set: it names the keys that are trusted until now',
    );
  }
  const zone = await ctx.zone('trusted');
  const path = resolve(input.cwd, String(given ?? out));
  const privateKey = typeof given === 'string' ? await readKey(path) : await makeKey(path);
  const publicKey = createPublicKey(privateKey);
  const id = keyId(publicKey);
  // The new key counts already: a run that was killed left decisions that only it has signed last.
  const trusted = new Map([...before, [id, publicKey] as const]);
  const { decisions, signed } = await resignChains(zone, ctx.project.project, trusted, {
    id,
    key: privateKey,
  });
  const pem = publicKey.export({ type: 'spki', format: 'pem' }).toString().trim();
  const text = [
    `${plural(decisions, 'decision')} ${decisions === 1 ? 'carries' : 'carry'} the signature of ${id.slice(0, 12)} (${plural(signed, 'record')} written now); digests are what they were`,
    `public key:\n${pem}`,
    [
      'next:',
      '  1. add this public key to CDL_TRUSTED_KEYS of the deploy jobs and of the bot',
      `  2. give the bot ${path} as CDL_SIGNING_KEY and restart it`,
      '  3. run this command again with --key, for what was signed meanwhile',
      '  4. remove the old key from CDL_TRUSTED_KEYS; check with cdl audit verify',
    ].join('\n'),
  ].join('\n\n');
  input.console.print(text, { key: id, publicKey: pem, decisions, signed });
  return 0;
}
