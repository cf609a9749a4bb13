import { lstat, mkdir, mkdtemp, readFile, readlink, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ZipFile } from 'yazl';
import { matchFiles, packZip, unpackZip } from '../../src/sandbox/runner/archive.ts';
import { renderScript } from '../../src/sandbox/runner/script.ts';
import { Masker } from '../../src/sandbox/runner/trace.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cdl-zip-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

async function zipOf(entries: { name: string; content: string; mode?: number }[]): Promise<Buffer> {
  const zip = new ZipFile();
  // yazl refuses bad names itself, so they are patched in afterwards, at equal length.
  for (const { name, content, mode } of entries) {
    zip.addBuffer(Buffer.from(content), name.replace(/\.\./g, '@@').replace(/^\//, '@'), {
      mode: mode ?? 0o100644,
      compress: false,
    });
  }
  const bytes = buffer(zip.outputStream);
  zip.end();
  let text = (await bytes).toString('latin1');
  for (const { name } of entries)
    text = text.replaceAll(name.replace(/\.\./g, '@@').replace(/^\//, '@'), name);
  return Buffer.from(text, 'latin1');
}

describe('an artifacts archive', () => {
  it('brings files, modes and inner links to another place', async () => {
    const [from, to] = [join(folder, 'from'), join(folder, 'to')];
    await mkdir(join(from, 'a/b'), { recursive: true });
    await writeFile(join(from, 'a/b/run.sh'), 'echo', { mode: 0o755 });
    await writeFile(join(from, 'a/.hidden'), 'h');
    await symlink('b/run.sh', join(from, 'a/link'));
    const paths = await matchFiles(from, ['a'], []);
    expect(paths).toEqual(['a/.hidden', 'a/b/run.sh', 'a/link']);
    await unpackZip(await packZip(from, paths), to);
    expect(await readFile(join(to, 'a/b/run.sh'), 'utf8')).toBe('echo');
    expect((await lstat(join(to, 'a/b/run.sh'))).mode & 0o777).toBe(0o755);
    expect(await readlink(join(to, 'a/link'))).toBe('b/run.sh');
  });

  it('packs the same files into the same bytes', async () => {
    await writeFile(join(folder, 'x'), 'x');
    expect((await packZip(folder, ['x'])).equals(await packZip(folder, ['x']))).toBe(true);
  });

  it.each(['../evil', 'a/../../evil', '/evil'])('is refused when it holds %s', async (name) => {
    const target = join(folder, 'inner');
    await mkdir(target);
    await expect(unpackZip(await zipOf([{ name, content: 'x' }]), target)).rejects.toMatchObject({
      code: 'artifact-corrupt',
    });
    await expect(lstat(join(folder, 'evil'))).rejects.toThrow();
  });

  it('is refused when a link leads out, or a file would go through one', async () => {
    const outside = join(folder, 'outside');
    const target = join(folder, 'inner');
    await mkdir(outside);
    await mkdir(target);
    const link = { name: 'l', content: '../outside', mode: 0o120777 };
    await expect(unpackZip(await zipOf([link]), target)).rejects.toMatchObject({ code: 'artifact-corrupt' });
    await symlink(outside, join(target, 'way'));
    await expect(unpackZip(await zipOf([{ name: 'way/evil', content: 'x' }]), target)).rejects.toThrow(
      /way is a link/,
    );
    await expect(lstat(join(outside, 'evil'))).rejects.toThrow();
  });

  it('takes what patterns name: folders whole, globs, without excluded, .git and anything outside', async () => {
    for (const path of ['out/a.txt', 'out/b.bin', 'src/x/y.ts', '.git/config', 'report.xml']) {
      await mkdir(join(folder, path, '..'), { recursive: true });
      await writeFile(join(folder, path), path);
    }
    expect(await matchFiles(folder, ['out/'], ['**/*.bin'])).toEqual(['out/a.txt']);
    expect(await matchFiles(folder, ['**/*.ts', '*.xml'], [])).toEqual(['report.xml', 'src/x/y.ts']);
    expect(await matchFiles(folder, ['src/*'], [])).toEqual(['src/x/y.ts']);
    expect(await matchFiles(folder, [join(folder, 'out')], [])).toEqual(['out/a.txt', 'out/b.bin']);
    expect(await matchFiles(folder, ['..', '../*', '/etc/passwd'], [])).toEqual([]);
    expect(await matchFiles(folder, ['.'], [])).not.toContain('.git/config');
  });
});

describe('a log', () => {
  it('never shows a secret, wherever the stream is cut', () => {
    const secrets = ['hunter2', 'hunter2-long', 'aab'];
    const piece = fc.oneof(
      fc.constantFrom(...secrets, 'hunter', 'aa', 'b', '-long'),
      fc.string({ maxLength: 4 }),
    );
    fc.assert(
      fc.property(fc.array(piece), fc.array(fc.nat(12)), (pieces, cuts) => {
        const whole = pieces.join('');
        const masker = new Masker(secrets);
        let shown = '';
        let at = 0;
        for (const cut of cuts) {
          shown += masker.push(whole.slice(at, at + cut));
          at += cut;
        }
        shown += masker.push(whole.slice(at)) + masker.end();
        for (const secret of secrets) expect(shown.replaceAll('[MASKED]', '\0')).not.toContain(secret);
        if (!secrets.some((secret) => whole.includes(secret))) expect(shown).toBe(whole);
      }),
    );
  });

  it('shows each command before it runs', () => {
    expect(renderScript(["echo 'it'", 'if true; then\n  echo x\nfi'], true)).toMatchInlineSnapshot(`
      "set -eo pipefail
      printf '\\033[32;1m$ %s\\033[0;m\\n' 'echo '\\''it'\\'''
      echo 'it'
      printf '\\033[32;1m$ %s\\033[0;m\\n' 'if true; then # collapsed multi-line command'
      if true; then
        echo x
      fi
      "
    `);
  });
});
