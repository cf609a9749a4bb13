import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse, parseAllDocuments, stringify } from 'yaml';
import { projectJsonSchema } from '../../src/core/project.ts';
import { packageRoot } from '../../src/exec/root.ts';
import { run } from '../../src/exec/run.ts';
import type { JobSpec } from '../../src/sandbox/state.ts';
import { parameterVariable, renderComponent, renderInputTable } from '../../src/steps/component.ts';
import { steps } from '../../src/steps/index.ts';
import { parametersOf } from '../../src/steps/parameters.ts';
import type { Step } from '../../src/steps/types.ts';
import { asChange, filesOf, openStarter, type Starter } from './starter.ts';

const root = packageRoot();
const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string };
const schemaFile = resolve(
  process.env.CDL_SHARED ?? join(root, '..', 'shared'),
  'specs/gitlab-ci-schema.json',
);
const hasSchema = existsSync(schemaFile);
if (!hasSchema) console.warn(`SKIPPED components against GitLab's CI schema: ${schemaFile} is not there`);

const digest = `sha256:${'c'.repeat(64)}`;
const asked = { cdl_task: 'evaluate', cdl_model: 'fashion', cdl_candidate: digest, cdl_question: digest };
/** The three things a pipeline of the starter is for. */
const modes = {
  change: asChange,
  push: { source: 'push' },
  evaluation: { source: 'api', inputs: asked },
} as const;

let starter: Starter;
let loaded: Step[];
/** Head of main once the bot wrote a lock. */
let locked: string;

beforeAll(async () => {
  starter = await openStarter(version);
  loaded = await Promise.all(steps.map((entry) => entry.load()));
  locked = await starter.app.commit({ 'cdl.lock': 'version: 1\nmodels: {}\n' });
});
afterAll(() => starter.remove());

/** Compiles a project that includes these components, with these inputs, and nothing else. */
async function including(wanted: Record<string, Record<string, unknown>>) {
  const sha = await starter.app.commit({
    '.gitlab-ci.yml': stringify({
      stages: ['data', 'train', 'register', 'evaluate', 'deploy'],
      include: Object.entries(wanted).map(([step, inputs]) => ({
        component: `$CI_SERVER_FQDN/cdl/ci-components/${step}@${version}`,
        inputs,
      })),
    }),
  });
  return { sha, outcome: await starter.compile({}, sha) };
}

/** A value for each input that has no default. */
const required = (step: Step) =>
  Object.fromEntries(parametersOf(step.params).flatMap((one) => (one.required ? [[one.name, digest]] : [])));

describe('the starter pipeline', () => {
  const shape = (jobs: JobSpec[]) =>
    stringify(
      jobs.map((job) => ({
        name: job.name,
        stage: job.stage,
        needs: job.needs?.map((need) => need.job) ?? null,
        script: job.script,
        variables: Object.fromEntries(
          job.variables
            .filter(({ key }) => key.startsWith('CDL_PARAM_'))
            .map(({ key, value, expand }) => [key, { value, expand }]),
        ),
        environment: job.environment?.name ?? null,
        resource_group: job.resourceGroup,
        expose_as: job.artifacts?.exposeAs ?? null,
      })),
    );

  it.each(Object.keys(modes) as (keyof typeof modes)[])('makes the jobs of a %s', async (mode) => {
    const jobs = await starter.jobs(modes[mode], locked);
    await expect(shape(jobs)).toMatchFileSnapshot(`../golden/components/starter-${mode}.yml`);
  });

  it('runs nothing on the default branch before there is a lock', async () => {
    expect(await starter.compile(modes.push)).toMatchObject({ kind: 'empty' });
  });

  it('runs nothing twice: a branch that is no change and not the default one has no pipeline', async () => {
    expect(await starter.compile({ source: 'push', ref: 'experiment' }, locked)).toMatchObject({
      kind: 'empty',
    });
  });

  it('refuses an unknown task, and an input that it does not have', async () => {
    const task = await starter.compile({ source: 'api', inputs: { ...asked, cdl_task: 'nothing' } }, locked);
    expect(JSON.stringify(task)).toMatch(/invalid.*cdl_task/);
    const unknown = await starter.compile({ source: 'api', inputs: { ...asked, cdl_modle: 'x' } }, locked);
    expect(JSON.stringify(unknown)).toMatch(/invalid.*cdl_modle/);
  });

  it('gives test data, evaluation and deployment to no pipeline of a change', async () => {
    const names = (await starter.jobs(modes.change, locked)).map((job) => job.name);
    for (const name of ['ingest-test', 'evaluate', 'deploy']) expect(names).not.toContain(name);
    const asChangeToo = await starter.jobs({ ...asChange, inputs: asked }, locked);
    expect(asChangeToo.map((job) => job.name)).not.toContain('evaluate');
  });
});

describe('a component', () => {
  const templates = join(root, 'ci-components', 'templates');

  it('is what the sources make: npm run generate was not forgotten', async () => {
    const files = await filesOf(templates);
    expect(Object.keys(files).sort()).toEqual(loaded.map((step) => `${step.name}.yml`).sort());
    for (const step of loaded)
      expect(files[`${step.name}.yml`], step.name).toBe(renderComponent(step, version));
    const { 'README.md': readme, 'cdl.schema.json': schema } = await filesOf(join(root, 'ci-components'));
    for (const step of loaded)
      expect(readme).toContain(`${step.summary}.\n\n${renderInputTable(step, version)}`);
    expect(JSON.parse(schema!)).toEqual(JSON.parse(JSON.stringify(projectJsonSchema())));
    const front = readFileSync(join(root, 'README.md'), 'utf8');
    for (const step of loaded) expect(front).toContain(`| \`${step.name}\` | ${step.summary} |`);
  });

  it('has one job, no global keyword, and nothing in its script but the step', async () => {
    for (const [name, text] of Object.entries(await filesOf(templates))) {
      const [header, body] = parseAllDocuments(text).map((document) => document.toJS());
      expect(Object.keys(header), name).toEqual(['spec']);
      expect(Object.keys(body), name).toEqual(['$[[ inputs.job-name ]]']);
      const job = Object.values(body)[0] as Record<string, unknown>;
      expect(job.script, name).toEqual([`cdl ${name.replace('.yml', '')}`]);
      for (const key of ['before_script', 'after_script', 'extends', 'cache', 'services']) {
        expect(job, name).not.toHaveProperty(key);
      }
    }
  });

  it('refuses an input that it does not have, one that is missing, and one of another type', async () => {
    const said = async (step: string, inputs: Record<string, unknown>) =>
      JSON.stringify((await including({ [step]: inputs })).outcome);
    expect(await said('train', { modle: 'fashion' })).toMatch(/invalid.*modle/);
    expect(await said('evaluate', { model: 'fashion' })).toMatch(/invalid.*candidate/);
    expect(await said('ingest', { side: 'both' })).toMatch(/invalid.*side/);
    expect(await said('train', { tags: 'gpu' })).toMatch(/invalid.*tags/);
    expect(await said('train', { model: ['fashion'] })).toMatch(/invalid.*model/);
  });

  const hostile = [
    `'; rm -rf / #`,
    '"; touch pwned; "',
    '$(touch pwned)',
    '`touch pwned`',
    '$CI_JOB_TOKEN $'.concat('{CI_JOB_TOKEN} %CI_JOB_TOKEN%'),
    '$[[ inputs.job-name ]] $[[ inputs.x | expand_vars ]]',
    'line one\nscript: [touch pwned]\n- line: three',
    '{a: [b, *anchor, &anchor]} !!js/function "x" # comment',
    '---\nother: document',
    '- x\t\u00e9\u{1f600}\\ ',
    'true',
    '012',
    '~',
  ];

  // Written in a file, a mention of an input would be read as one; it can come as pipeline input only, see below.
  it.each(hostile.filter((value) => !value.includes('$[[')))(
    'hands %j on by a variable, as it is and not expanded',
    async (value) => {
      const tried = loaded.filter((step) => !step.deploys);
      const texts = (step: Step) =>
        parametersOf(step.params).filter((one) => one.type === 'string' && one.options === null);
      const given = (step: Step) =>
        Object.fromEntries(texts(step).map((one) => [one.name.replaceAll('_', '-'), value]));
      const { outcome } = await including(Object.fromEntries(tried.map((step) => [step.name, given(step)])));
      if (outcome.kind !== 'compiled') throw new Error(JSON.stringify(outcome));
      const { jobs } = outcome.pipeline;
      expect(jobs.map((job) => job.script).sort()).toEqual(tried.map((step) => [`cdl ${step.name}`]).sort());
      for (const step of tried) {
        // A job that may be one of several says which.
        const job = jobs.find((one) => one.name === (step.shards ? `${step.name} 1/1` : step.name))!;
        expect([...job.beforeScript, ...job.afterScript]).toEqual([]);
        for (const one of texts(step)) {
          const key = parameterVariable(one.name);
          expect(job.variables, step.name).toContainEqual({ key, value, expand: false });
        }
      }
    },
  );

  it.each(hostile)(
    'of the starter pipeline gets %j as pipeline input, also through two files',
    async (value) => {
      const inputs = { cdl_task: 'evaluate', cdl_model: value, cdl_candidate: value, cdl_question: value };
      const jobs = await starter.jobs({ source: 'api', inputs }, locked);
      const job = jobs.find((one) => one.name === 'evaluate')!;
      expect(jobs.map((one) => one.script)).toEqual([['cdl ingest'], ['cdl evaluate']]);
      for (const name of ['model', 'candidate', 'question']) {
        expect(job.variables).toContainEqual({ key: parameterVariable(name), value, expand: false });
      }
    },
  );
});

describe('scripts', () => {
  it('of the component project and the starter are POSIX shell', async () => {
    const texts = [
      readFileSync(join(root, 'ci-components', '.gitlab-ci.yml'), 'utf8'),
      readFileSync(join(root, 'templates', '.gitlab-ci.yml'), 'utf8').split('\n---\n')[1]!,
    ];
    for (const text of texts) {
      for (const [name, job] of Object.entries(parse(text) as Record<string, { script?: string[] }>)) {
        for (const line of job?.script ?? []) {
          expect(line, name).not.toMatch(/\[\[|<\(|\bfunction\b|\bsource\b|&>|\$'|<<</);
          const checked = await run('sh', ['-n'], { input: `${line}\n` });
          expect(checked.stderr.toString(), `${name}: ${line}`).toBe('');
        }
      }
    }
  });
});

describe.skipIf(!hasSchema)("GitLab's own schema", () => {
  /** A validator of configurations; gives what is wrong, nothing when all is well. */
  function openSchema(): (config: unknown) => string[] {
    const require = createRequire(createRequire(import.meta.url).resolve('fastify'));
    const Ajv = createRequire(require.resolve('@fastify/ajv-compiler'))('ajv').default;
    const ajv = new Ajv({ strict: false, allErrors: true, validateFormats: false });
    const validate = ajv.compile(JSON.parse(readFileSync(schemaFile, 'utf8')));
    return (config) =>
      validate(config)
        ? []
        : validate.errors!.map(
            (error: { instancePath: string; message: string }) => `${error.instancePath} ${error.message}`,
          );
  }
  const check = hasSchema ? openSchema() : () => [];
  // GitLab takes an empty list of tags (lib/gitlab/ci/config/entry/tags.rb: only "array of strings" and a limit); its schema
  // for editors does not, so that this one point is left out of the comparison.
  const problems = (config: unknown): string[] =>
    check(
      JSON.parse(
        JSON.stringify(config, (key, value) =>
          key === 'tags' && Array.isArray(value) && value.length === 0 ? undefined : value,
        ),
      ),
    );

  it('finds an error where there is one', () => {
    expect(problems({ job: { script: 'x', needs: 'y', tags: 3 } })).not.toEqual([]);
    expect(problems({ job: { script: ['x'], expose: 1 } })).not.toEqual([]);
  });

  it.each(Object.keys(modes) as (keyof typeof modes)[])(
    'holds for the starter, expanded for a %s',
    async (mode) => {
      const config = await starter.expanded(modes[mode], locked);
      expect(config).not.toHaveProperty('include');
      expect(JSON.stringify(config)).not.toContain('$[[');
      expect(problems(config)).toEqual([]);
    },
  );

  it('holds for every component with its defaults, its header, and the files around them', async () => {
    const { sha } = await including(Object.fromEntries(loaded.map((step) => [step.name, required(step)])));
    const config = await starter.expanded({}, sha);
    expect(Object.keys(config)).toEqual(expect.arrayContaining(loaded.map((step) => step.name)));
    expect(problems(config)).toEqual([]);
    for (const step of loaded) {
      const text = readFileSync(join(root, 'ci-components', 'templates', `${step.name}.yml`), 'utf8');
      expect(problems(parse(text.split('\n---\n')[0]!)), `${step.name} header`).toEqual([]);
    }
    const starterText = readFileSync(join(root, 'templates', '.gitlab-ci.yml'), 'utf8');
    expect(problems(parse(starterText.split('\n---\n')[1]!))).toEqual([]);
    for (const path of ['ci-components/.gitlab-ci.yml', '.gitlab-ci.yml']) {
      expect(problems(parse(readFileSync(join(root, path), 'utf8'))), path).toEqual([]);
    }
  });
});
