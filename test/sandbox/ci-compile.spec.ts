import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Compiler, openCompiler } from '../../src/sandbox/ci/compile.ts';
import type { PipelineRequest } from '../../src/sandbox/ci-port.ts';
import type { JobSpec, World } from '../../src/sandbox/state.ts';
import { addProject, openWorld, request, type TestProject } from './ci-world.ts';

let world: World;
let remove: () => Promise<void>;
let compiler: Compiler;
let app: TestProject;
let kit: TestProject;

beforeAll(async () => {
  ({ world, remove } = await openWorld());
  compiler = openCompiler(world, process.env.PATH ?? '');
  app = await addProject(world, 'team', 'app');
  kit = await addProject(world, 'team', 'kit');
});
afterAll(() => remove());

async function compile(
  yaml: string,
  over: Partial<PipelineRequest> = {},
  files: Record<string, string> = {},
) {
  const sha = await app.commit({ ...files, '.gitlab-ci.yml': yaml });
  return compiler.compile(app.project, request(sha, over));
}

async function jobs(yaml: string, over: Partial<PipelineRequest> = {}): Promise<JobSpec[]> {
  const outcome = await compile(yaml, over);
  if (outcome.kind !== 'compiled') throw new Error(JSON.stringify(outcome));
  return outcome.pipeline.jobs;
}

async function problems(yaml: string, over: Partial<PipelineRequest> = {}): Promise<string[]> {
  const outcome = await compile(yaml, over);
  if (outcome.kind !== 'invalid') throw new Error(JSON.stringify(outcome));
  return outcome.messages;
}

describe('a configuration', () => {
  it('is expanded: extends, !reference, default, matrix, needs, rules', async () => {
    const found = await jobs(`
stages: [build, check]
default:
  before_script: [echo before]
  timeout: 5 minutes
  tags: [small]
variables:
  GLOBAL: g
.shared:
  script: [echo shared]
  rules:
    - if: $CI_COMMIT_BRANCH == "main"
      variables: {FROM_RULE: "yes"}
make:
  extends: .shared
  stage: build
  parallel:
    matrix:
      - SIZE: [small, large]
        KIND: [cpu]
  variables:
    RAW: {value: "a$GLOBAL", expand: false}
check:
  stage: check
  needs:
    - job: make
      parallel: {matrix: [{SIZE: large, KIND: cpu}]}
  script:
    - !reference [.shared, script]
    - echo last
never:
  stage: check
  rules: [{if: $NOTHING}]
  script: [echo no]
`);
    expect(found.map((job) => job.name)).toEqual(['make: [small, cpu]', 'make: [large, cpu]', 'check']);
    expect(found[0]).toMatchObject({ timeout: 300, tags: ['small'], beforeScript: ['echo before'] });
    expect(found[1]?.variables).toEqual(
      expect.arrayContaining([
        { key: 'GLOBAL', value: 'g', expand: true },
        { key: 'RAW', value: 'a$GLOBAL', expand: false },
        { key: 'SIZE', value: 'large', expand: true },
        { key: 'FROM_RULE', value: 'yes', expand: true },
      ]),
    );
    expect(found[2]?.needs).toEqual([{ job: 'make: [large, cpu]', artifacts: true, optional: false }]);
    expect(found[2]?.script).toEqual(['echo shared', 'echo last']);
  });

  it('takes components and files of other projects with their inputs', async () => {
    await kit.commit({
      'templates/train.yml': `spec:
  inputs:
    stage: {default: test}
    job-name: {default: train}
    epochs: {type: number, default: 3}
    fast: {type: boolean, default: false}
    tags: {type: array, default: []}
    message: {default: ""}
---
"$[[ inputs.job-name ]]":
  stage: $[[ inputs.stage ]]
  tags: $[[ inputs.tags ]]
  interruptible: $[[ inputs.fast ]]
  variables:
    EPOCHS: {value: "$[[ inputs.epochs ]]", expand: false}
    MESSAGE: {value: '$[[ inputs.message | posix_escape | truncate(0,9) ]]', expand: false}
  script: [cdl train]
`,
      'ci/extra.yml': 'extra:\n  script: [echo extra]\n',
    });
    await kit.git('tag', '1.2.0');
    await kit.git('tag', '1.10.1');
    await kit.git('tag', '2.0.0-rc1');
    await kit.git('push', '-q', '--tags', 'origin');
    const found = await jobs(`
include:
  - component: $CI_SERVER_FQDN/team/kit/train@1
    inputs: {job-name: fit, epochs: 7, fast: true, tags: [gpu, big], message: "it's $HOME"}
  - project: team/kit
    ref: main
    file: /ci/extra.yml
  - local: /missing.yml
    rules: [{if: $NOTHING}]
fit:
  script: [echo overridden]
`);
    expect(found.map((job) => job.name).sort()).toEqual(['extra', 'fit']);
    const fit = found.find((job) => job.name === 'fit');
    expect(fit).toMatchObject({ tags: ['gpu', 'big'], interruptible: true, script: ['echo overridden'] });
    expect(fit?.variables).toEqual([
      { key: 'EPOCHS', value: '7', expand: false },
      { key: 'MESSAGE', value: "it\\'s\\ \\$", expand: false },
    ]);
  });

  it('says which input is wrong, where', async () => {
    const component = 'include: [{component: $CI_SERVER_FQDN/team/kit/train@1.2.0, inputs: ';
    expect(await problems(`${component}{epoch: 7}}]`)).toMatchInlineSnapshot(`
      [
        "team/kit:templates/train.yml@1.2.0: unknown input arguments: epoch (known: stage, job-name, epochs, fast, tags, message)",
      ]
    `);
    expect(await problems(`${component}{epochs: "7"}}]`)).toMatchInlineSnapshot(`
      [
        "team/kit:templates/train.yml@1.2.0: \`epochs\` input: provided value is not a number",
      ]
    `);
    expect(await problems('spec:\n  inputs:\n    size:\n---\na: {script: [echo]}\n')).toMatchInlineSnapshot(`
      [
        ".gitlab-ci.yml: \`size\` input: required value has not been provided",
      ]
    `);
  });

  it('refuses what the sandbox does not know, by name and line', async () => {
    expect(
      await problems(`
stages: [test]
build:
  script: [echo]
  scirpt: [echo]
other:
  cache: {paths: [x]}
  script: [echo]
third:
  retry: 5
  services: [docker]
  script: [echo]
`),
    ).toMatchInlineSnapshot(`
      [
        ".gitlab-ci.yml:5: jobs:build config contains unknown keys: scirpt",
        ".gitlab-ci.yml:7: jobs:other cache: is not supported by the sandbox (keep files in artifacts: or in the store)",
        ".gitlab-ci.yml:10: jobs:third:retry expected number to be <=2",
        ".gitlab-ci.yml:11: jobs:third services: is not supported by the sandbox (its jobs run in a shell)",
      ]
    `);
    expect(await problems('a: {script: [echo], stage: nowhere}')).toMatchInlineSnapshot(`
      [
        ".gitlab-ci.yml:1: a job: chosen stage nowhere does not exist; see stages:",
      ]
    `);
    expect(await problems('a: {script: [echo], needs: [b]}')).toMatchInlineSnapshot(`
      [
        ".gitlab-ci.yml:1: a job: needs b, but no such job exists",
      ]
    `);
    expect(
      await problems('a: {script: [echo], needs: [b]}\nb: {script: [echo], rules: [{if: $NO}]}'),
    ).toMatchInlineSnapshot(`
      [
        "'a' job needs 'b' job, but 'b' does not exist in the pipeline (its rules leave it out of this pipeline; optional: true allows that)",
      ]
    `);
    expect(await problems('a: {script: [echo], rules: [{if: "$A = 1"}]}')).toMatchInlineSnapshot(`
      [
        "jobs:a:rules:if invalid expression syntax at \`= 1\`",
      ]
    `);
    expect(await problems('a: [')).toMatchInlineSnapshot(`
      [
        ".gitlab-ci.yml:1: Flow sequence in block collection must be sufficiently indented and end with a ]",
      ]
    `);
    expect(await problems('a: {extends: .b, script: [x]}')).toMatchInlineSnapshot(`
      [
        ".gitlab-ci.yml:1: a: unknown key in extends (.b)",
      ]
    `);
  });

  it('is empty, not wrong, without a file, or when rules leave nothing', async () => {
    expect(await compile('workflow: {rules: [{if: $NO}]}\na: {script: [echo]}')).toMatchObject({
      kind: 'empty',
    });
    expect(await compile('a: {script: [echo], rules: [{if: $NO}]}')).toMatchObject({ kind: 'empty' });
  });

  it('compares with the merge request or the push for changes, and with the tree for exists', async () => {
    const yaml = `
docs: {script: [echo], rules: [{changes: ["docs/**/*"]}]}
code: {script: [echo], rules: [{changes: [src/*.ts]}]}
has: {script: [echo], rules: [{exists: ["**/*.md"]}]}
`;
    const before = await app.commit({ '.gitlab-ci.yml': yaml, 'docs/a/b.md': '1' });
    const after = await app.commit({ 'docs/a/b.md': '2' });
    const outcome = await compiler.compile(app.project, request(after, { before }));
    expect(outcome.kind === 'compiled' && outcome.pipeline.jobs.map((job) => job.name)).toEqual([
      'docs',
      'has',
    ]);
  });

  it('runs by workflow rules and the values of its own inputs', async () => {
    const yaml = `
spec:
  inputs:
    target: {options: [staging, production]}
---
workflow:
  rules:
    - if: $CI_PIPELINE_SOURCE == "api"
      variables: {WHY: asked}
deploy:
  resource_group: $[[ inputs.target ]]
  environment: {name: "$[[ inputs.target ]]/$CI_COMMIT_REF_SLUG", url: "https://x"}
  rules: [{if: '"$[[ inputs.target ]]" == "production"', when: manual}]
  script: [echo]
`;
    const [job] = await jobs(yaml, { source: 'api', inputs: { target: 'production' } });
    expect(job).toMatchObject({
      when: 'manual',
      allowFailure: false,
      resourceGroup: 'production',
      environment: { name: 'production/main', url: 'https://x' },
      variables: [{ key: 'WHY', value: 'asked', expand: true }],
    });
    expect(await problems(yaml, { source: 'api', inputs: { target: 'moon' } })).toMatchInlineSnapshot(`
      [
        ".gitlab-ci.yml: \`target\` input: \`moon\` cannot be used because it is not in the list of allowed options: staging, production",
      ]
    `);
  });
});
