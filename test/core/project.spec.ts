import { readdirSync, readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { UserError } from '../../src/core/error.ts';
import {
  configDigest,
  modelConfig,
  type Project,
  parseProject,
  policyDigest,
  projectJsonSchema,
} from '../../src/core/project.ts';
import { requiredApprovals } from '../../src/core/project-approvals.ts';

const golden = new URL('../golden/config/', import.meta.url);
const fashion = readFileSync(new URL('fashion.yaml', golden), 'utf8');

function complaint(text: string): string {
  try {
    parseProject(text);
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    return `${error.code}, exit ${error.exit}\n${error.message}\n`;
  }
  return 'accepted\n';
}

describe('the messages about a wrong cdl.yaml', () => {
  const cases = readdirSync(golden)
    .filter((name) => name.endsWith('.yaml') && name !== 'fashion.yaml')
    .sort();
  it.each(cases)('are the agreed ones for %s', async (name) => {
    const message = complaint(readFileSync(new URL(name, golden), 'utf8'));
    await expect(message).toMatchFileSnapshot(new URL(name.replace('.yaml', '.txt'), golden).pathname);
  });

  it('come sorted by line and column, all at once', () => {
    const at = [
      ...complaint(readFileSync(new URL('wrong-types.yaml', golden), 'utf8')).matchAll(/yaml:(\d+):(\d+)/g),
    ];
    const places = at.map(([, line, column]) => Number(line) * 1000 + Number(column));
    expect(places.length).toBeGreaterThan(5);
    expect(places).toEqual([...places].sort((a, b) => a - b));
  });

  it('are a UserError for any text whatever', () => {
    const fragment = fc.constantFrom(
      'a',
      ':',
      ' ',
      '\n',
      '- ',
      '{',
      '}',
      '[',
      ']',
      '&x',
      '*x',
      '!t ',
      '"',
      "'",
      '|',
      '#',
      '? ',
      '<<',
      '__proto__',
      'models',
      '\t',
      '%',
      '---\n',
    );
    fc.assert(
      fc.property(fc.array(fragment, { maxLength: 30 }), (parts) => {
        expect(complaint(parts.join(''))).toMatch(/^config-invalid, exit 3\ncdl.yaml:\d+:\d+ {2}\S/);
      }),
      { numRuns: 500 },
    );
  });
});

describe('a good cdl.yaml', () => {
  const project = parseProject(fashion);

  it('is read with every default filled in', () => {
    expect(project.models['fashion-lenet']).toEqual({
      data: 'fashion-mnist',
      entry: 'models/lenet/model.ts',
      code: ['models/lenet/**'],
      hyperparameters: {},
      seed: 1,
      resources: {
        train: { gpu: 0, cpu: 1, memory: '1Gi' },
        evaluate: { gpu: 0, cpu: 1, memory: '1Gi' },
        serve: { gpu: 0, cpu: 1, memory: '1Gi' },
      },
      gates: [],
      environments: {
        production: { target: 'local', replicas: 1, traffic: [20, 100], max_error_rate: 0.01 },
      },
    });
    expect(project.roles).toEqual({ validator: ['vera'], data: [], devops: ['olaf'], maintainer: [] });
    expect(project.approvals).toMatchObject({ required: 2, role: 'validator', self_approval: false });
    expect(project.datasets['fashion-mnist']!.split.validation).toBe(0.1);
    expect(project.datasets['fashion-mnist']!.rules.max_invalid).toBe(0.01);
  });

  it('fills in what one step of resources leaves out, and the other steps', () => {
    expect(project.models.fashion!.resources).toEqual({
      train: { gpu: 0, cpu: 2, memory: '4Gi' },
      evaluate: { gpu: 0, cpu: 1, memory: '1Gi' },
      serve: { gpu: 0, cpu: 1, memory: '1Gi' },
    });
  });

  it('says who must approve by one role and a number, or by several roles', () => {
    const withRule = (rule: string) => fashion.replace('approvals: {required: 2}', `approvals: ${rule}`);
    const read = (rule: string) => requiredApprovals(parseProject(withRule(rule)).approvals);
    expect(read('{required: 2, role: devops}')).toEqual([{ role: 'devops', count: 2 }]);
    expect(read('{required: [{role: validator, count: 2}, {role: devops}]}')).toEqual([
      { role: 'validator', count: 2 },
      { role: 'devops', count: 1 },
    ]);
    const problem = (rule: string) => complaint(withRule(rule)).trimEnd().split('  ').at(-1);
    expect(problem('{required: [{role: validator}, {role: validator}]}')).toBe(
      'approvals.required[1] names a role that stands above already: give it one count',
    );
    expect(problem('{required: [{role: validatr}]}')).toBe(
      'approvals.required.0.role "validatr" is not one of validator, data, devops, maintainer — did you mean validator?',
    );
    expect(problem('{required: []}')).toMatch(/^approvals\.required/);
    expect(problem('{required: two}')).toBe(
      'approvals.required "two": expected number or array, received string',
    );
  });

  it('may use aliases where they stay readable', () => {
    const text = fashion.replace(
      'staging: {traffic: [100]}',
      'staging: &env {traffic: [100]}\n      testing: *env',
    );
    expect(parseProject(text).models.fashion!.environments.testing?.traffic).toEqual([100]);
  });

  it('gives its models by name, and names the nearest for a wrong one', () => {
    expect(modelConfig(project, 'fashion').seed).toBe(1);
    expect(() => modelConfig(project, 'fashin')).toThrow(
      /it has fashion, fashion-lenet — did you mean fashion\?/,
    );
    for (const name of ['__proto__', 'constructor', 'toString']) {
      expect(() => modelConfig(project, name)).toThrow(/has no model/);
    }
  });
});

describe('the digest of a configuration', () => {
  const model = parseProject(fashion).models.fashion!;
  const other = parseProject(fashion).models['fashion-lenet']!;

  it('ignores gates, environments and resources', () => {
    const part = fc.constantFrom(model, other);
    fc.assert(
      fc.property(part, part, (gates, environments) => {
        const changed = { ...model, gates: gates.gates, environments: environments.environments };
        changed.resources = { ...model.resources, train: { gpu: 3, cpu: 4, memory: '5Gi' } };
        expect(configDigest(changed)).toBe(configDigest(model));
      }),
    );
  });

  it('changes with anything else', () => {
    const changes: Partial<typeof model>[] = [
      { data: 'other' },
      { entry: 'other.ts' },
      { code: [...model.code, 'more/**'] },
      { hyperparameters: { ...model.hyperparameters, units: 65 } },
      { hyperparameters: { ...model.hyperparameters, units: '64' } },
      { seed: 2 },
    ];
    const touched = new Set(changes.flatMap((change) => Object.keys(change)));
    expect([...touched, 'gates', 'environments', 'resources'].sort()).toEqual(Object.keys(model).sort());
    const digests = changes.map((change) => configDigest({ ...model, ...change }));
    expect(new Set([configDigest(model), ...digests]).size).toBe(changes.length + 1);
  });

  it('does not depend on how the file is written', () => {
    const spelled = fashion
      .replace('{units: 64, learning_rate: 0.001,', '{learning_rate: 1e-3, units: 0x40, # as before\n      ')
      .replace('    entry: models/fashion/model.ts\n', '')
      .replace(
        '    hyperparameters:',
        '    seed: 1\n    entry: "models/fashion/model.ts"\n    hyperparameters:',
      );
    expect(configDigest(parseProject(spelled).models.fashion!)).toBe(configDigest(model));
  });
});

describe('the digest of the policy', () => {
  it('changes with roles and approval rules and with nothing else', () => {
    const project = parseProject(fashion);
    const same: Project = { ...project, models: {}, project: 'other' };
    expect(policyDigest(same)).toBe(policyDigest(project));
    const roles: Project = { ...project, roles: { ...project.roles, validator: ['mallory'] } };
    const rules: Project = { ...project, approvals: { ...project.approvals, self_approval: true } };
    expect(new Set([project, roles, rules].map(policyDigest)).size).toBe(3);
  });
});

describe('the JSON Schema for editors', () => {
  it('is derived from the same schema: required keys, no unknown keys, no defaulted key required', () => {
    const schema = projectJsonSchema() as {
      required: string[];
      additionalProperties: boolean;
      properties: Record<string, { additionalProperties: { required: string[]; properties: object } }>;
    };
    expect(schema.additionalProperties).toBe(false);
    expect([...schema.required].sort()).toEqual(['datasets', 'models', 'project', 'requirements', 'version']);
    const model = schema.properties.models!.additionalProperties;
    expect([...model.required].sort()).toEqual(['code', 'data']);
    expect(Object.keys(model.properties)).toContain('resources');
  });
});

describe('the rules no schema can say', () => {
  const broken = (from: string, to: string) => {
    expect(fashion).toContain(from);
    return () => parseProject(fashion.replace(from, to));
  };

  it('names a gate on a metric that nobody measures, and the one that was meant', () => {
    expect(broken('metric: accuracy', 'metric: acc')).toThrow(
      /cdl\.yaml:\d+:\d+ {2}models\.fashion\.gates\.0\.metric "acc" is not one of accuracy, .{1,40} — did you mean accuracy\?/,
    );
    expect(broken('metric: accuracy', 'metric: xyzzy')).toThrow(
      /"xyzzy" is not one of accuracy, .*, latency_ms$/,
    );
  });

  it('names such a gate together with whatever else is wrong, except where that hides what it needs', () => {
    const problems = (text: string): string[] => {
      try {
        parseProject(text);
        return [];
      } catch (error) {
        return (error as Error).message.split('\n');
      }
    };
    const misspelt = fashion
      .replace('    resources:', '    sead: 7\n    resources:')
      .replace('{metric: accuracy, min: 0.85}', '{metric: acc, maxx: 0.85}')
      .replace('{metric: accuracy, max_drop', '{metric: "accuracy[x=1]", max_drop')
      .replace('metric: "recall[Ankle boot]', 'metric: "recall[Ankel boot]');
    expect(problems(misspelt)).toEqual([
      expect.stringContaining('models.fashion.sead is not a known key — did you mean seed?'),
      expect.stringMatching(/gates\.0\.metric "acc" is not one of .* — did you mean accuracy\?/),
      expect.stringContaining('gates.0.maxx is not a known key — did you mean max?'),
      expect.stringContaining('"accuracy[x=1]" names no slice'),
      expect.stringContaining('did you mean recall[Ankle boot]?'),
    ]);
    const hidden = misspelt.replace(/classes:/, 'klasses:');
    expect(problems(hidden).filter((one) => /Ankel/.test(one))).toEqual([]);
    for (const text of ['models: [1]', 'models: { a: 1, b: { gates: { metric: acc } } }', '7']) {
      expect(problems(text).join('\n')).not.toMatch(/metric/);
    }
  });

  it('names a hyperparameter of the trainer that cannot be, or is nearly spelled like one', () => {
    expect(broken('learning_rate: 0.001', 'learning_rate: -1')).toThrow(/takes a number above 0/);
    expect(broken('learning_rate: 0.001', 'learnin_rate: 0.001')).toThrow(/did you mean learning_rate\?/);
  });

  it('names what a search cannot vary, and a budget that would stop nothing', () => {
    const tune = (space: string, more = '') =>
      broken('    resources:\n', `    tune: { space: { ${space} }${more} }\n    resources:\n`);
    expect(tune('epochs: { int: [1, 9] }')).toThrow(
      /tune\.space\.epochs cannot vary: the search itself decides/,
    );
    expect(tune('patience: { int: [1, 9] }')).toThrow(/tune\.space\.patience cannot vary/);
    expect(tune('batch_size: { uniform: [16, 64] }')).toThrow(/batch_size [\d.]+ takes a whole number/);
    expect(tune('optimizer: { choice: [adam, adma] }')).toThrow(/optimizer "adma" .*did you mean adam\?/);
    expect(tune('learnin_rate: { log: [0.001, 0.1] }')).toThrow(/did you mean learning_rate\?/);
    const budget = ', gpu_seconds: 60';
    expect(tune('hidden: { int: [8, 64] }', budget)).toThrow(/gpu_seconds would stop nothing.*say seconds/);
    expect(tune('hidden: { int: [8, 64] }')().models.fashion!.tune?.trials).toBe(64);
  });

  it('says what a launcher lacks, and what is not for it', () => {
    const entry = '    entry: models/fashion/model.ts\n';
    const train = (more: string) =>
      broken(entry, `${entry}    train: { command: [python, t.py], ${more} }\n`);
    expect(train('launcher: torchrun')).toThrow(
      /models\.fashion\.train\.launcher torchrun starts a process for each GPU; set train\.processes or/,
    );
    expect(train('processes: 2')).toThrow(/train\.processes is for launcher: torchrun/);
    expect(train('address: http://head:8265')).toThrow(/train\.address is for launcher: ray/);
    expect(train('launcher: ray, address: head')).toThrow(/train\.address/);
    const at = (host: string) => train(`launcher: ray, address: http://${host}:8265`)().models.fashion!;
    expect(configDigest(at('head'))).toBe(configDigest(at('other')));
    expect(train('launcher: torchrun, processes: 2')().models.fashion!.train?.processes).toBe(2);
  });

  it('names an entry that no glob of code: reaches', () => {
    expect(broken('entry: models/fashion/model.ts', 'entry: modell.ts')).toThrow(
      /is matched by none of code:/,
    );
  });

  it.each([
    ['tensor', 'clean: [trim]', /datasets\.d\.clean: only raw items are cleaned/],
    ['tensor', 'rules: { characters: { min: 1 } }', /characters is about raw items/],
    ['image', 'clean: [lowercase]', /lowercase is for texts, not item: image/],
    ['image', 'rules: { duplicates: { max_near: 0.1 } }', /say split\.group_near/],
    ['text', 'clean: [{ run: { code: [a.ts] } }]', /either a module or a command/],
    ['text', 'clean: [shine]', /clean/],
  ])('of items of kind %s: %s', (item, line, message) => {
    const format = item === 'tensor' ? 'idx, images: [i], labels: [l]' : `${item}-folder`;
    const text = `version: 1
project: p
requirements: { problem: x, owner: y }
datasets:
  d:
    item: ${item}
    ${item === 'tensor' ? 'shape: [2]' : ''}
    classes: [a, b]
    sources: [{ file: [f], sha256: ${'a'.repeat(64)}, read: { format: ${format} } }]
    split: { key: k, test: 0.2 }
    ${line}
models: { m: { data: d, code: [model.ts] } }
`;
    expect(() => parseProject(text)).toThrow(message);
    expect(parseProject(text.replace(line, '')).datasets.d!.clean).toBeUndefined();
  });

  it('tells of raw items without item: that, and not that they have no shape', () => {
    const text = `version: 1
project: p
requirements: { problem: x, owner: y }
datasets:
  d:
    classes: [a, b]
    sources: [{ file: [f], read: { format: FORMAT } }]
    split: { key: k, test: 0.2 }
models: { m: { data: d, code: [model.ts] } }
`;
    const message = (format: string) => {
      try {
        return parseProject(text.replace('FORMAT', format)) && '';
      } catch (error) {
        return (error as Error).message;
      }
    };
    expect(message('class-folders')).toContain('say item: text, image');
    expect(message('class-folders')).not.toContain('shape');
    expect(message('idx, images: [i], labels: [l]')).toContain('datasets.d.shape is missing');
  });

  it('refuses more classes than a label has room for', () => {
    const text = (count: number) => `version: 1
project: p
requirements: { problem: x, owner: y }
datasets:
  d:
    item: text
    classes: [${Array.from({ length: count }, (_, n) => `c${n}`).join(', ')}]
    sources: [{ file: [f], sha256: ${'a'.repeat(64)}, read: { format: text-folder } }]
    split: { key: k, test: 0.2 }
models: { m: { data: d, code: [model.ts] } }
`;
    expect(parseProject(text(256)).datasets.d!.classes).toHaveLength(256);
    expect(() => parseProject(text(257))).toThrow(/datasets\.d\.classes: at most 256 classes/);
  });

  it('refuses a glob that excludes', () => {
    expect(broken('code: ["models/lenet/**"]', 'code: ["!models/lenet/**"]')).toThrow(/no exclusion/);
  });
});
