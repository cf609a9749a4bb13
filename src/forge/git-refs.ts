import { UserError } from '../core/error.ts';
import { readBody, send } from './http.ts';
import type { GitAccess } from './types.ts';

/** Asks a remote where its branches are, without a process of git. */
export interface RefReader {
  /** The commits of branches by name, of those alone that begin with `prefix`. Throws UserError forge-denied, UpstreamError. */
  heads(prefix: string): Promise<Map<string, string>>;
}

/** Enough for some hundred thousand branches. */
const largestAnswer = 32 * 1024 * 1024;

/** One line of the protocol: its length in four digits, itself included, and the text (gitprotocol-common, pkt-line). */
function packet(text: string): string {
  const line = `${text}\n`;
  return `${(Buffer.byteLength(line) + 4).toString(16).padStart(4, '0')}${line}`;
}

const heads = 'refs/heads/';

/** The branches in lines like `<commit> refs/heads/<branch>`, with a blank or a tab between; other lines are left out. */
export function readHeads(lines: readonly string[]): Map<string, string> {
  const found = lines.flatMap((line): [string, string][] => {
    const [commit = '', ref = ''] = line.split(/[ \t]/);
    return ref.startsWith(heads) ? [[ref.slice(heads.length), commit]] : [];
  });
  return new Map(found);
}

/** The texts of an answer; null when it is none of this protocol. Flush and delimiter packets are left out. */
function packets(bytes: Buffer): string[] | null {
  const texts: string[] = [];
  for (let at = 0; at < bytes.length; ) {
    const digits = bytes.toString('latin1', at, at + 4);
    if (!/^[0-9a-f]{4}$/.test(digits)) return null;
    const length = Number.parseInt(digits, 16);
    if (length >= 4) texts.push(bytes.toString('utf8', at + 4, at + length).trimEnd());
    at += Math.max(4, length);
  }
  return texts;
}

/**
 * Opens a reader by git's protocol of version 2 over HTTP (git's documents gitprotocol-http and gitprotocol-v2, command
 * ls-refs): one request where `git ls-remote` is two and three processes. Null when the server speaks an older one.
 */
export async function openRefs(access: GitAccess): Promise<RefReader | null> {
  const { network } = access;
  const ask = async (method: string, path: string, type: string, body: string | null) => {
    const header = typeof access.header === 'string' ? access.header : await access.header();
    const colon = header.indexOf(':');
    const received = await send({
      method,
      url: new URL(`${access.url}/${path}`),
      headers: {
        [header.slice(0, colon)]: header.slice(colon + 1).trim(),
        'git-protocol': 'version=2',
        'user-agent': 'git/2.0 (cdl)',
        accept: `application/x-git-upload-pack-${type}`,
        ...(body !== null && { 'content-type': 'application/x-git-upload-pack-request' }),
      },
      body: body === null ? null : Buffer.from(body),
      network,
    });
    const bytes = await readBody(received.body, largestAnswer);
    return bytes && packets(bytes);
  };
  const said = await ask('GET', 'info/refs?service=git-upload-pack', 'advertisement', null);
  if (!said?.includes('version 2')) return null;
  if (!said.some((one) => /^ls-refs(=|$)/.test(one))) return null;
  const format = said.find((one) => one.startsWith('object-format='));
  const capabilities = `${packet('command=ls-refs')}${format ? packet(format) : ''}`;
  return {
    async heads(prefix) {
      const lines = await ask(
        'POST',
        'git-upload-pack',
        'result',
        `${capabilities}0001${packet(`ref-prefix ${heads}${prefix}`)}0000`,
      );
      if (!lines) throw new UserError('file-missing', `${access.url} does not say where its branches are`);
      return readHeads(lines);
    },
  };
}
