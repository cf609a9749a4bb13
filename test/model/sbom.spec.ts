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
    'node_modules/own-terms': { version: '1.0.0', license: 'SEE LICENSE IN terms.txt' },
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
        licenses: [{ expression: 'WTFPL' }],
      }),
      expect.objectContaining({ licenses: [{ license: { name: 'SEE LICENSE IN terms.txt' } }] }),
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

  it('names what the lockfiles of pnpm, uv, poetry, pdm and pipenv do, without the project itself', () => {
    const purls = (name: string, text: string) =>
      bomOf(file(name, text)).components.map(({ purl, scope }) => `${purl} ${scope}`);
    const integrity = `sha512-${Buffer.alloc(64, 7).toString('base64')}`;
    const pnpm = bomOf(
      file(
        'pnpm-lock.yaml',
        `lockfileVersion: '9.0'\npackages:\n  '@scope/tool@2.0.0':\n    resolution: {integrity: ${integrity}}\n` +
          "  /old@1.0.0(react@18.0.0):\n    dev: true\n  'git@https://host/x.git':\n    dev: true\n",
      ),
    );
    expect(pnpm.components).toMatchObject([
      { purl: 'pkg:npm/%40scope/tool@2.0.0', scope: 'required', hashes: [{ content: '07'.repeat(64) }] },
      { purl: 'pkg:npm/old@1.0.0', scope: 'excluded' },
    ]);
    const table = (name: string, rest = '') => `[[package]]\nname = "${name}"\nversion = "2.13.0"\n${rest}\n`;
    expect(
      purls(
        'uv.lock',
        table('Torch_X', 'source = { registry = "https://pypi.org/simple" }') +
          table('own', 'source = { virtual = "." }'),
      ),
    ).toEqual(['pkg:pypi/torch-x@2.13.0 required']);
    expect(
      purls('poetry.lock', table('torch', 'groups = ["main", "dev"]') + table('ruff', 'groups = ["dev"]')),
    ).toEqual(['pkg:pypi/ruff@2.13.0 excluded', 'pkg:pypi/torch@2.13.0 required']);
    expect(purls('pdm.lock', table('torch', 'groups = ["default"]'))).toEqual([
      'pkg:pypi/torch@2.13.0 required',
    ]);
    expect(
      purls(
        'Pipfile.lock',
        '{"default": {"torch": {"version": "==2.13.0"}, "here": {"path": "."}}, "develop": {"ruff": {"version": "==0.9.1"}}}',
      ),
    ).toEqual(['pkg:pypi/ruff@0.9.1 excluded', 'pkg:pypi/torch@2.13.0 required']);
  });

  it('names what the lockfiles of Yarn (both kinds) and Bun do, by the names that the registry has', () => {
    const integrity = `sha512-${Buffer.alloc(64, 7).toString('base64')}`;
    const told = (name: string, text: string) =>
      bomOf(file(name, text)).components.map(({ purl, hashes }) => `${purl}${hashes ? ' hashed' : ''}`);
    const expected = ['pkg:npm/%40types/semver@7.5.0', 'pkg:npm/left-pad@1.2.0', 'pkg:npm/left-pad@1.3.0'];
    const classic = (pattern: string, version: string, more = '') =>
      `${pattern}:\n  version "${version}"\n  resolved "https://registry.yarnpkg.com/x.tgz#5b8a"\n${more}\n`;
    const hashed = `  integrity ${integrity}\n  dependencies:\n    version "^9.9.9"\n`;
    const first = `# THIS IS AN AUTOGENERATED FILE. DO NOT EDIT THIS FILE DIRECTLY.\n# yarn lockfile v1\n\n\n${[
      classic('"@types/semver@7.5.0", "@types/semver@^7.0.0"', '7.5.0', hashed),
      classic('left-pad@^1.3.0', '1.3.0', hashed),
      classic('"pad2@npm:left-pad@1.2.0"', '1.2.0', hashed),
      classic('"own@file:../own"', '1.0.0'),
      classic('fork@somebody/fork#main', '1.0.0'),
    ].join('\n')}`;
    expect(told('yarn.lock', first)).toEqual(expected.map((purl) => `${purl} hashed`));
    expect(told('yarn.lock', first.replaceAll('\n', '\r\n'))).toEqual(told('yarn.lock', first));
    const berry = (key: string, resolution: string) =>
      `"${key}":\n  version: 1.0.0\n  resolution: "${resolution}"\n  checksum: 10c0/aa\n  linkType: hard\n\n`;
    expect(
      told(
        'yarn.lock',
        `# This file is generated by running "yarn install" inside your project.\n\n__metadata:\n  version: 10\n\n${[
          berry('@types/semver@npm:7.5.0', '@types/semver@npm:7.5.0'),
          berry(
            'left-pad@npm:^1.3.0',
            'left-pad@npm:1.3.0::__archiveUrl=https%3A%2F%2Fnpm.example.org%2Fleft-pad.tgz',
          ),
          berry('pad2@npm:left-pad@1.2.0', 'left-pad@npm:1.2.0'),
          berry('own@workspace:.', 'own@workspace:.'),
          berry('fork@github:a/fork', 'fork@https://github.com/a/fork.git#commit=aa'),
        ].join('')}`,
      ),
    ).toEqual(expected);
    const bun = `{
  "lockfileVersion": 2,
  "workspaces": { "": { "name": "own", "dependencies": { "left-pad": "^1.3.0", }, }, },
  "packages": {
    "@types/semver": ["@types/semver@7.5.0", "", {}, "${integrity}"],

    "left-pad": ["left-pad@1.3.0", "", { "bin": { "x": "cli.js" } }, "${integrity}"],

    "pad2": ["left-pad@1.2.0", "", {}, "${integrity}"],

    "sub": ["sub@workspace:sub"],
  }
}`;
    expect(told('bun.lock', bun)).toEqual(expected.map((purl) => `${purl} hashed`));
  });

  it('is made of lockfiles whose lines are as long as a file may be, without trying each place in them', () => {
    const long = 'a'.repeat(200_000);
    const conda = `https://x/${long}/a/python-3.10-4.conda`;
    const none = [
      file(
        'conda-lock.yml',
        `version: 1\npackage:\n- {name: a, version: 1, manager: conda, url: "${conda}"}\n`,
      ),
      file('pixi.lock', `version: 6\npackages:\n- conda: ${long}\n`),
      file('yarn.lock', `# yarn lockfile v1\n\n${'a\u2028'.repeat(200_000)}\n  version "1.0.0"\n`),
    ];
    expect(bomOf(...none).components).toEqual([]);
  });

  it('names what the lockfiles of conda, pixi, Cargo and Go do, with versions that look like numbers as they are', () => {
    const hash = 'a'.repeat(64);
    const purls = (name: string, text: string) =>
      bomOf(file(name, text)).components.map(
        ({ purl, scope, hashes }) => `${purl} ${scope}${hashes ? ' hashed' : ''}`,
      );
    const at = 'https://conda.anaconda.org/conda-forge/linux-64/python_abi-3.10-4_cp310.tar.bz2';
    const python =
      'pkg:conda/python_abi@3.10?build=4_cp310&channel=conda-forge&subdir=linux-64&type=tar.bz2 required hashed';
    expect(
      purls(
        'conda-lock.yml',
        `version: 1\nmetadata: {content_hash: {}}\npackage:\n- name: python_abi\n  version: 3.10\n  manager: conda\n  platform: linux-64\n  url: ${at}\n  hash: {md5: aa, sha256: ${hash}}\n  category: main\n` +
          `- name: Torch_X\n  version: 2.13.0\n  manager: pip\n  url: https://files.pythonhosted.org/torch.whl\n  hash: {sha256: null}\n  category: dev\n`,
      ),
    ).toEqual([python, 'pkg:pypi/torch-x@2.13.0 excluded']);
    expect(
      purls(
        'pixi.lock',
        `version: 6\nenvironments: {}\npackages:\n- conda: ${at}\n  sha256: ${hash}\n- pypi: https://files.pythonhosted.org/torch.whl\n  name: torch\n  version: 2.10\n- pypi: .\n  name: own\n  version: 0.1.0\n`,
      ),
    ).toEqual([python, 'pkg:pypi/torch@2.10 required']);
    const crate = (name: string, rest: string) =>
      `[[package]]\nname = "${name}"\nversion = "1.0.0+b"\n${rest}\n`;
    const source = 'source = "registry+https://github.com/rust-lang/crates.io-index"';
    expect(
      purls(
        'Cargo.lock',
        `version = 4\n\n${crate('own', '')}${crate('serde', `${source}\nchecksum = "${hash}"`)}`,
      ),
    ).toEqual(['pkg:cargo/serde@1.0.0%2Bb required hashed']);
    const sum = `h1:${Buffer.alloc(32, 1).toString('base64')}`;
    expect(
      purls(
        'go.sum',
        `github.com/BurntSushi/toml v1.2.0 ${sum}\ngithub.com/BurntSushi/toml v1.2.0/go.mod ${sum}\nonly/mod v1.0.0/go.mod ${sum}\n`,
      ),
    ).toEqual(['pkg:golang/github.com/burntsushi/toml@v1.2.0 required']);
  });

  it('is what the published schema of CycloneDX says', async () => {
    const { Validation, Spec } = await import('@cyclonedx/cyclonedx-library');
    const validator = new Validation.JsonStrictValidator(Spec.Version.v1dot6);
    const { text } = createSbom(subject, [
      file('package-lock.json', npm),
      file('requirements.txt', `torch==2.13.0 --hash=sha256:${'a'.repeat(64)}\nnumpy>=2\n`),
      file('yarn.lock', 'not read'),
    ]);
    expect(await validator.validate(text)).toBeNull();
    expect(await validator.validate(text.replace('"library"', '"book"'))).not.toBeNull();
    await fc.assert(
      fc.asyncProperty(fc.json(), fc.string(), async (json, license) => {
        const packages = `{"node_modules/a": ${json}, "node_modules/b": {"version": "1.0.0", "license": ${JSON.stringify(license)}}}`;
        const made = createSbom(subject, [file('package-lock.json', `{"packages": ${packages}}`)]);
        expect(await validator.validate(made.text)).toBeNull();
      }),
      { numRuns: 50 },
    );
  });

  it('tells which lockfiles it was not made of', () => {
    const bom = bomOf(
      file('package-lock.json', '{"lockfileVersion": 1, "dependencies": {}}'),
      file('uv.lock', 'x'),
      file('yarn.lock', 'x'),
    );
    expect(bom.components).toEqual([]);
    expect(named(bom, 'cdl:lockfile-not-read').map((one) => one.split(' ')[0])).toEqual([
      'package-lock.json',
      'uv.lock',
      'yarn.lock',
    ]);
  });

  it('is the same bytes for the same files, and comes of any text at all', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(
          ...[
            'package-lock.json',
            'requirements.txt',
            'pnpm-lock.yaml',
            'uv.lock',
            'Pipfile.lock',
            'yarn.lock',
          ],
          ...['bun.lock', 'conda-lock.yml', 'pixi.lock', 'Cargo.lock', 'go.sum'],
        ),
        fc.string(),
        (path, text) => {
          expect(createSbom(subject, [file(path, text)])).toEqual(createSbom(subject, [file(path, text)]));
        },
      ),
    );
    fc.assert(
      fc.property(fc.json(), (json) => {
        bomOf(file('package-lock.json', `{"packages": ${json}}`));
      }),
    );
  });
});
