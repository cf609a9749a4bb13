import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { writeExample } from '../../src/cli/init.ts';
import { steps } from '../../src/steps/index.ts';
import { workflowProblems } from './github-parser.ts';

interface WorkflowStep {
  run?: string;
  uses?: string;
  with?: Record<string, unknown>;
  env?: Record<string, string>;
}
interface Job {
  if?: string;
  needs?: string;
  environment?: string;
  env?: Record<string, string>;
  steps: WorkflowStep[];
}
interface Workflow {
  on: Record<string, unknown> & { workflow_dispatch: { inputs: Record<string, unknown> } };
  permissions: Record<string, string>;
  jobs: Record<string, Job>;
}

describe.each(['fashion', 'news'])('the starter workflow for GitHub of the example %s', (example) => {
  let folder: string;
  let text: string;
  let workflow: Workflow;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'cdl-workflow-'));
    const options = { version: '9.8.7', components: '', validators: [], forge: 'github' };
    await writeExample(example, join(folder, 'shop'), options);
    text = await readFile(join(folder, 'shop/.github/workflows/cdl.yml'), 'utf8');
    workflow = parse(text) as Workflow;
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  const jobs = () => Object.entries(workflow.jobs);
  const commandsOf = (job: Job) => job.steps.filter((one) => one.run?.startsWith('cdl '));
  /** What a job is for: its last command. */
  const commandOf = (job: Job) => commandsOf(job).at(-1)!;
  /** Jobs that only people ask for; on GitLab their components are included by who wants them. */
  const asked = ['label', 'reproduce'];

  it('is filled in, and takes the place of GitLab’s pipeline', async () => {
    expect(text).not.toContain('__');
    expect(text).toContain(':9.8.7');
    await expect(readFile(join(folder, 'shop/.gitlab-ci.yml'))).rejects.toMatchObject({ code: 'ENOENT' });
    const options = { version: '1', components: '', validators: [], forge: 'gitea' };
    await expect(writeExample(example, join(folder, 'x'), options)).rejects.toMatchObject({
      code: 'usage',
    });
  });

  it('never pastes an expression into a script', () => {
    const scripts = jobs().flatMap(([, job]) => job.steps.flatMap((one) => one.run ?? []));
    expect(scripts.length).toBeGreaterThan(10);
    for (const script of scripts) expect(script).not.toContain('${{');
  });

  it('runs the steps of the starter pipeline for GitLab, in that order, each by its name and parameters', async () => {
    const forGitlab = { version: '1', components: 'cdl/ci-components', validators: [] };
    await writeExample(example, join(folder, 'gitlab'), forGitlab);
    const gitlab = await readFile(join(folder, 'gitlab/.gitlab-ci.yml'), 'utf8');
    const wanted = [...gitlab.matchAll(/ci-components\/([a-z-]+)@/g)].map((one) => one[1]);
    expect(jobs().map(([, job]) => commandOf(job).run!.split(' ')[1])).toEqual([...wanted, ...asked]);
    for (const [name, job] of jobs()) {
      for (const command of commandsOf(job)) {
        const entry = steps.find((one) => command.run === `cdl ${one.name}`);
        const step = await entry!.load();
        const parameters = Object.keys(step.params.shape).map((one) => `CDL_PARAM_${one.toUpperCase()}`);
        for (const variable of Object.keys(command.env!)) expect(parameters, name).toContain(variable);
      }
    }
  });

  it('is a workflow by the words of GitHub’s own parser, with and without a search', async () => {
    expect(await workflowProblems(text)).toEqual([]);
    if (example !== 'fashion') return;
    const options = { version: '1', components: '', validators: [], forge: 'github', tune: true };
    await writeExample(example, join(folder, 'tuned'), options);
    const tuned = await readFile(join(folder, 'tuned/.github/workflows/cdl.yml'), 'utf8');
    expect(await workflowProblems(tuned)).toEqual([]);
    expect((parse(tuned) as Workflow).jobs.tune).toMatchObject({ needs: 'validate' });
    expect((parse(tuned) as Workflow).jobs.train).toMatchObject({ needs: 'tune' });
    // It does find what is wrong: a job that is not there, a context, a key.
    for (const [from, to] of [
      ['needs: package', 'needs: packing'],
      ['inputs.cdl_candidate', 'input.cdl_candidate'],
      ['timeout-minutes: 360', 'timeout: 360'],
    ]) {
      expect(text).toContain(from);
      expect(await workflowProblems(text.replace(from!, to!)), to).not.toEqual([]);
    }
  });

  it('is started by pull requests with the code of the change, never with the rights of the default branch', () => {
    const events = ['pull_request', 'push', 'schedule', 'workflow_dispatch'];
    expect(Object.keys(workflow.on)).toEqual(events);
    expect(text).not.toMatch(/pull_request_target|workflow_run:|issue_comment/);
  });

  it('collects and cleans before it gives items to people', () => {
    const commands = commandsOf(workflow.jobs.label!).map((one) => one.run);
    const clean = example === 'news' ? ['cdl clean'] : [];
    expect(commands).toEqual(['cdl ingest', ...clean, 'cdl label']);
  });

  it('hands each job’s folder on under the job’s name, from the project’s root', () => {
    for (const [name, job] of jobs()) {
      const upload = job.steps.at(-1)!;
      expect(upload.uses, name).toMatch(/^actions\/upload-artifact@/);
      expect(upload.with!.name).toMatch(/^\$\{\{ github\.job \}\}$/);
      const paths = String(upload.with!.path).split('\n');
      expect(paths).toContain('cdl.yaml');
      expect(upload.with!['include-hidden-files']).toBe(true);
      const download = job.steps.find((one) => one.uses?.startsWith('actions/download-artifact@'));
      expect(download?.with?.name, name).toBe(job.needs);
    }
  });

  it('pins every action to a major version and asks GitHub for no more than reading', () => {
    for (const [, job] of jobs()) {
      for (const { uses } of job.steps) if (uses) expect(uses).toMatch(/^actions\/[a-z-]+@v\d+$/);
      expect(job).not.toHaveProperty('permissions');
    }
    expect(workflow.permissions).toEqual({ contents: 'read' });
    expect(jobs().flatMap(([, job]) => job.steps[0]!.with!['persist-credentials'])).toEqual(
      jobs().map(() => false),
    );
  });

  it('gives the trusted zone to jobs of the default branch alone, and nothing to forks', () => {
    const start = (name: string): Job => {
      const job = workflow.jobs[name]!;
      return job.needs ? start(job.needs) : job;
    };
    for (const [name, job] of jobs()) {
      // The workflow itself gives every job the work zone's key; other secrets are an environment's.
      const secrets = /secrets\.(?!CDL_WORK_)/.test(JSON.stringify(job));
      expect(secrets, name).toBe(job.environment !== undefined);
      const trusted = Object.keys(job.env ?? {}).some((one) => one.startsWith('CDL_TRUSTED_'));
      const condition = start(name).if!;
      expect(trusted, name).toBe(job.environment !== undefined);
      if (trusted) expect(condition).toContain('github.ref_name == github.event.repository.default_branch');
      // A schedule runs on the default branch alone.
      else if (name === 'poll') expect(condition).toMatch(/^github\.event_name == 'schedule' \|\| /);
      else if (name === 'reproduce')
        expect(condition).toMatch(/^github\.event_name == 'workflow_dispatch' && /);
      else expect(condition).toContain('head.repo.full_name == github.repository');
    }
  });

  it('takes the inputs the bot sends', () => {
    const inputs = Object.keys(workflow.on.workflow_dispatch.inputs);
    const sent = ['task', 'model', 'environment', 'candidate', 'change', 'question', 'run'];
    // The last is for people only.
    expect(inputs).toEqual([...sent, 'version'].map((one) => `cdl_${one}`));
  });
});

it('has a job for every component', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'cdl-workflow-'));
  const made = await Promise.all(
    [
      ['fashion', true],
      ['news', false],
    ].map(async ([example, tune]) => {
      const options = {
        version: '1',
        components: '',
        validators: [],
        forge: 'github',
        tune: tune as boolean,
      };
      await writeExample(example as string, join(folder, example as string), options);
      return readFile(join(folder, example as string, '.github/workflows/cdl.yml'), 'utf8');
    }),
  ).finally(() => rm(folder, { recursive: true, force: true }));
  const ran = new Set(made.flatMap((text) => [...text.matchAll(/run: cdl (\w+)/g)].map((one) => one[1])));
  expect([...ran].sort()).toEqual(steps.map((one) => one.name).sort());
});
