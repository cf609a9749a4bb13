import { mkdir, mkdtemp, realpath, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { bundleModel } from '../../src/model/bundle.ts';
import { modelCode } from './project.ts';

const folders: string[] = [];
afterEach(async () => {
  for (const folder of folders.splice(0)) await rm(folder, { recursive: true, force: true });
});

async function folderWith(files: Record<string, string>): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'cdl-bundle-'));
  folders.push(folder);
  for (const [path, content] of Object.entries(files)) {
    await mkdir(dirname(join(folder, path)), { recursive: true });
    await writeFile(join(folder, path), content);
  }
  return folder;
}

const files = { 'model.ts': modelCode, 'lib/scale.ts': 'export const scale: number = 255;\n' };

describe('the bundle of model code', () => {
  it('is the same bytes from another folder, whatever configuration lies above it', async () => {
    const one = await bundleModel(await folderWith(files), 'model.ts');
    const above = await folderWith({
      'tsconfig.json': '{"compilerOptions":{"target":"es5","jsx":"react","paths":{"*":["./x/*"]}}}',
      'package.json': '{"type":"commonjs","imports":{"#x":"./x.ts"}}',
    });
    const inside = join(above, 'deeper');
    for (const [path, content] of Object.entries(files)) {
      await mkdir(dirname(join(inside, path)), { recursive: true });
      await writeFile(join(inside, path), content);
    }
    expect(await bundleModel(inside, 'model.ts')).toBe(one);
    expect(one).not.toContain(tmpdir());
  });

  it('is the same through a link to the folder, as temporary folders are on some systems', async () => {
    const folder = await realpath(await folderWith(files));
    const link = `${folder}-link`;
    folders.push(link);
    await symlink(folder, link);
    expect(await bundleModel(link, 'model.ts')).toBe(await bundleModel(folder, 'model.ts'));
  });

  it('runs as a module: types are gone, exports are there', async () => {
    const folder = await folderWith({
      'model.ts': `import type { Tf } from 'cdl';\nimport { scale } from './lib/scale';\nexport const preprocess = (tf: Tf) => scale;\nexport function build(): number { return 1; }\n`,
      'lib/scale.ts': files['lib/scale.ts'],
    });
    const path = join(folder, 'bundle.mjs');
    await writeFile(path, await bundleModel(folder, 'model.ts'));
    const loaded = (await import(path)) as { preprocess(tf: null): number; build(): number };
    expect([loaded.preprocess(null), loaded.build()]).toEqual([255, 1]);
  });

  it.each([
    ['a syntax error', 'export const x = ;\n', /^model\.ts:1:18 {2}Unexpected ";"$/],
    [
      'a file that is not there',
      "import './gone.ts';\n",
      /^model\.ts:1:8 {2}Could not resolve "\.\/gone\.ts"$/,
    ],
    [
      'a package',
      "import x from 'lodash';\nexport { x };\n",
      /^model\.ts:1:15 {2}"lodash" is not available to model code/,
    ],
    [
      'a data URL',
      "import x from 'data:text/javascript,export default 1';\nexport { x };\n",
      /not available/,
    ],
    ['two errors, both at once', "import './a.ts';\nimport './b.ts';\n", /model\.ts:1:8 .*\nmodel\.ts:2:8 /],
  ])('says where %s is', async (_what, code, message) => {
    const bundled = bundleModel(await folderWith({ 'model.ts': code }), 'model.ts');
    await expect(bundled).rejects.toMatchObject({
      code: 'code-invalid',
      message: expect.stringMatching(message),
    });
  });

  it('does not follow a link out of the folder', async () => {
    const outside = await folderWith({ 'scale.ts': 'export const scale = 1;\n' });
    const folder = await folderWith({ 'model.ts': modelCode });
    await mkdir(join(folder, 'lib'));
    await symlink(join(outside, 'scale.ts'), join(folder, 'lib', 'scale.ts'));
    await expect(bundleModel(folder, 'model.ts')).rejects.toMatchObject({ code: 'code-invalid' });
  });
});
