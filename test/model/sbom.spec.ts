import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { digestBytes } from '../../src/core/digest.ts';
import { createSbom } from '../../src/model/sbom.ts';

const subject = { model: 'fashion', candidate: digestBytes('candidate') };
const file = (path: string, text: string) => ({ path, text, digest: digestBytes(text) });
interface Bom {
  specVersion: string;
  metadata: { properties: { name: string; value: string }[] };
  components: { purl: string; scope: string; hashes?: object[]; licenses?: object[] }[];
}
const bomOf = (...files: ReturnType<typeof file>[]) => {
  const { text, components } = createSbom(subject, files);
  const bom = JSON.parse(text) as Bom;
  expect(components).toBe(bom.components.length);
  return bom;
};
const named = ({ metadata }: Bom, name: string) =>
  metadata.properties.flatMap((one) => (one.name === name ? [one.value] : []));

const npm = JSON.stringify({
  lockfileVersion: 3,
  packages: {
    '': { name: 'shop', version: '1.0.0' },
    'packages/own': { name: 'own', version: '1.0.0' },
    'node_modules/own': { link: true, resolved: 'packages/own' },
    'node_modules/left-pad': {
      version: '1.3.0',
      integrity: `sha512-${Buffer.alloc(64, 7).toString('base64')}`,
      license: 'WTFPL',
    },
    'node_modules/@scope/tool': { version: '2.0.0-rc.1', dev: true },
    'node_modules/left-pad/node_modules/@scope/tool': { version: '2.0.0-rc.1' },
    'node_modules/odd': { version: '1\ud800' },
    'node_modules/short': { version: '1.0.0', integrity: 'sha512-AQID' },
    'node_modules/alias': { name: 'real', version: '3.0.0', dev: true, license: ['odd'] },
  },
});

describe('the bill of materials', () => {
  it('names what package-lock.json does, each once, with what is known of it', () => {
    const bom = bomOf(file('package-lock.json', npm));
    expect(bom).toMatchObject({
      bomFormat: 'CycloneDX',
      specVersion: '1.6',
      version: 1,
      metadata: {
        component: { type: 'machine-learning-model', name: 'fashion', version: subject.candidate },
      },
    });
    expect(bom.components).toEqual([
      {
        type: 'library',
        'bom-ref': 'pkg:npm/%40scope/tool@2.0.0-rc.1',
        name: '@scope/tool',
        version: '2.0.0-rc.1',
        scope: 'required',
        purl: 'pkg:npm/%40scope/tool@2.0.0-rc.1',
      },
      expect.objectContaining({
        purl: 'pkg:npm/left-pad@1.3.0',
        hashes: [{ alg: 'SHA-512', content: '07'.repeat(64) }],
        licenses: [{ license: { name: 'WTFPL' } }],
      }),
      expect.objectContaining({ purl: 'pkg:npm/real@3.0.0', scope: 'excluded' }),
      expect.not.objectContaining({ hashes: expect.anything() }),
    ]);
  });

  it('names the exact pins of requirements.txt, and tells the lines that pin nothing', () => {
    const hash = 'a'.repeat(64);
    const bom = bomOf(
      file(
        'train/requirements.txt',
        `# tools\n-r more.txt\ntorch==2.13.0\nnumpy>=2,<3\nRuamel.Yaml_Clib[x] == 0.2.8 ; python_version < "3.12" \\\n  --hash=sha256:${hash}\n--hash=sha256:${hash}\nany==1.*\n`,
      ),
    );
    expect(bom.components.map(({ purl, hashes }) => [purl, hashes])).toEqual([
      ['pkg:pypi/ruamel-yaml-clib@0.2.8', [{ alg: 'SHA-256', content: hash }]],
      ['pkg:pypi/torch@2.13.0', undefined],
    ]);
    expect(named(bom, 'cdl:not-exact')).toEqual([
      'train/requirements.txt: -r more.txt',
      'train/requirements.txt: numpy>=2,<3',
      'train/requirements.txt: any==1.*',
    ]);
  });

  it('tells which lockfiles it was not made of', () => {
    const bom = bomOf(
      file('package-lock.json', '{"lockfileVersion": 1, "dependencies": {}}'),
      file('uv.lock', 'x'),
    );
    expect(bom.components).toEqual([]);
    expect(named(bom, 'cdl:lockfile-not-read').map((one) => one.split(' ')[0])).toEqual([
      'package-lock.json',
      'uv.lock',
    ]);
  });

  it('is the same bytes for the same files, and comes of any text at all', () => {
    fc.assert(
      fc.property(fc.constantFrom('package-lock.json', 'requirements.txt'), fc.string(), (path, text) => {
        expect(createSbom(subject, [file(path, text)])).toEqual(createSbom(subject, [file(path, text)]));
      }),
    );
    fc.assert(
      fc.property(fc.json(), (json) => {
        bomOf(file('package-lock.json', `{"packages": ${json}}`));
      }),
    );
  });
});
