import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readClaim } from '../../bot/claim.ts';
import { createEntry, emptyLock, renderLock, withEntry } from '../../src/core/lock.ts';
import type { Job } from '../../src/sandbox/state.ts';
import { openStage, type Stage, withheldFolder } from './stage.ts';
import { model } from './tiny-project.ts';

/** Far more than it takes: pipelines run for real, on machines that do other things. */
const timeout = 400_000;

let stage: Stage;
let looked: Job | null = null;
/** Bytes of the pictures of the test side, with their header. */
const testBlocks = 16 + 600 * 64;
beforeAll(async () => {
  // The scientist has the role too: it is authorship, not the lack of a role, that must stop them.
  stage = await openStage({ validators: ['vera', 'dana'], withheld: true });
  if (!stage.rig.hides) {
    console.warn('what a job of a change can read: skipped, there are no user namespaces here');
  }
});
afterAll(async () => {
  const { violations, problems } = stage?.rig.sandbox ?? { violations: [], problems: [] };
  await stage?.close();
  expect(violations).toEqual([]);
  expect(problems).toEqual([]);
});

const digest = (digit: string) => `sha256:${digit.repeat(64)}` as const;

/** A job added to the merge request's pipeline by its author. */
const extraJob = (name: string, script: string[]): string =>
  `\n${name}:\n  stage: register\n  needs: []\n  rules: [{ if: $CI_PIPELINE_SOURCE == "merge_request_event" }]\n  script:\n${script
    .map((line) => `    - ${JSON.stringify(line)}\n`)
    .join('')}  artifacts:\n    paths: [.cdl/]\n`;

async function jobNamed(iid: number, name: string): Promise<Job> {
  const { project } = stage.rig;
  return stage.until(`job ${name}`, () => {
    const found = [...project.jobs.values()].filter(
      (job) =>
        job.spec.name === name &&
        project.pipelines.get(job.pipelineId)?.mergeRequestIid === iid &&
        job.finishedAt !== null,
    );
    return found.at(-1) ?? null;
  });
}

describe('who may approve what', { timeout }, () => {
  let iid = 0;
  let first = '';

  it('a comment from somebody without the role changes nothing and says who has it', async () => {
    await stage.push('scientist', 'change', { hidden: 12 });
    iid = (await stage.propose('scientist', 'change', 'Twelve units')).iid;
    first = await stage.approveLine(iid);
    const answer = await stage.ask('maintainer', iid, `/approve ${first}`);
    expect(answer).toMatch(/`max` does not have the role \*\*validator\*\*.*`vera`/);
    await stage.reaches(iid, 'pending', /waiting for approval \(0 of 1/);
  });

  it('an author who has the role cannot approve the own change', async () => {
    const answer = await stage.ask('scientist', iid, `/approve ${first}`);
    expect(answer).toContain('You are an author of this change');
    await stage.reaches(iid, 'pending', /0 of 1/);
    expect(await stage.decisions()).toEqual([]);
  });

  it('a bare /approve is answered with the line to copy', async () => {
    const answer = await stage.ask('validator', iid, '/approve');
    expect(answer).toContain(`/approve ${first}`);
    await stage.reaches(iid, 'pending', /0 of 1/);
    expect(await stage.decisions()).toEqual([]);
  });

  it('a push after the approval voids it: the status is pending again and the report says so', async () => {
    await stage.approve(iid);
    expect((await stage.decisions()).map((one) => one.decision)).toEqual(['approved']);
    await stage.push('scientist', 'change', { hidden: 13 }, { onTop: true });
    await stage.reaches(iid, 'pending', /0 of 1 approval/);
    const { note } = await stage.said(iid, new RegExp(`approval of ${first} by vera is void`));
    expect(note.body).not.toContain(`/approve ${first}`);
    const { detailed_merge_status } = await stage.api.maintainer.mergeRequest(iid);
    expect(detailed_merge_status).not.toBe('mergeable');
  });

  it('the digest of an older report approves nothing and is answered with the newer one', async () => {
    const answer = await stage.ask('validator', iid, `/approve ${first}`);
    expect(answer).toContain('the report of an earlier state');
    expect(answer).toContain(`/approve ${await stage.approveLine(iid)}`);
    await stage.reaches(iid, 'pending', /0 of 1/);
    expect(await stage.decisions()).toHaveLength(1);
  });

  it('a lock edited by hand is replaced by the entry of the bot', async () => {
    const before = await stage.approveLine(iid);
    await stage.push(
      'scientist',
      'change',
      async ({ read, write }) => {
        const text = await read('cdl.lock');
        await write('cdl.lock', text.replace(/package: sha256:[0-9a-f]{8}/, 'package: sha256:00000000'));
      },
      { onTop: true, message: 'fix: a better package' },
    );
    await stage.said(iid, /cdl\.lock cannot be read|is not the one for this candidate/);
    await stage.until('the lock as the bot writes it', async () => {
      const mr = await stage.api.maintainer.mergeRequest(iid);
      await stage.git('maintainer', 'fetch', '--quiet', 'origin');
      const [lock, by] = await Promise.all([
        stage.git('maintainer', 'show', `${mr.sha}:cdl.lock`),
        stage.git('maintainer', 'log', '-1', '--format=%an', mr.sha),
      ]);
      return by === 'CDL' && !lock.includes('00000000') ? true : null;
    });
    // Nothing but the lock was touched, so what is reviewed is the same.
    expect(await stage.approveLine(iid)).toBe(before);
    await stage.reaches(iid, 'pending', /0 of 1/);
  });
});

describe('what the author of a change may do', { timeout }, () => {
  let rules = 0;
  let liar = 0;

  it('gates and roles of the change itself do not count for it, and the report says so', async () => {
    const made = { evaluation: digest('7'), verdict: 'pass', candidate: digest('8') };
    const script = [
      'mkdir -p .cdl',
      `printf %s '${JSON.stringify(made)}' > .cdl/${model}.evaluate.outputs.json`,
    ];
    await stage.push('scientist', 'rules', async ({ read, write }) => {
      const text = await read('cdl.yaml');
      await write(
        'cdl.yaml',
        text
          .replace('accuracy, min: 0.85', 'accuracy, min: 0.05')
          .replace('validator: [vera, dana]', 'validator: [max]')
          .replace('learning_rate: 0.01', 'learning_rate: 0.000001'),
      );
      await write('.gitlab-ci.yml', `${await read('.gitlab-ci.yml')}${extraJob('evaluate', script)}`);
    });
    rules = (await stage.propose('scientist', 'rules', 'Friendlier rules')).iid;
    await stage.reaches(rules, 'failed', /^gate failed: accuracy ≥ 85 %/);
    const { note } = await stage.said(rules, /This change alters .*\. It is judged by those of main/);
    expect(note.body).toMatch(/This change alters (?=.*roles)(?=.*gates)/);
    const line = await stage.approveLine(rules);
    const answer = await stage.ask('maintainer', rules, `/approve ${line} --override "I appointed myself"`);
    expect(answer).toContain('`max` does not have the role');
    await stage.reaches(rules, 'failed', /^gate failed/);
  });

  it('an evaluation made up by a job of the change is not believed', async () => {
    expect((await jobNamed(rules, 'evaluate')).status).toBe('success');
    const mr = await stage.reaches(rules, 'failed', /^gate failed: accuracy/);
    for (const note of await stage.botNotes(rules)) expect(note.body).not.toContain('7777777');
    await expect(stage.api.maintainer.merge(rules, mr.sha)).rejects.toThrow(/: 405 /);
  });

  it('a claim made up by a job of the change is not believed', async () => {
    const claim = {
      v: 1,
      candidate: {
        model,
        code: digest('1'),
        config: digest('2'),
        dataset: digest('3'),
        transform: null,
        checkpoint: digest('4'),
        package: digest('5'),
      },
      version: 99,
      run: digest('6'),
    };
    await stage.push('scientist', 'liar', async ({ read, write }) => {
      // In place of the real one: the only claim of this pipeline is the made-up one.
      const text = (await read('.gitlab-ci.yml')).replace(
        / {2}- component: [^\n]*\/register@[\s\S]*?(?= {2}- component)/,
        '',
      );
      const yaml = text.replace('needs: [register]', 'needs: [package]');
      const path = `.cdl/${model}.candidate.json`;
      const lie = ['mkdir -p .cdl', `printf %s '${JSON.stringify(claim)}' > ${path}`];
      const { folder } = stage.rig;
      const trusted = join(folder, 'store', 'trusted');
      const files = (where: string) => `$(find ${where} -type f 2>/dev/null | wc -l)`;
      const look = [
        'env | cut -d= -f1 | sort',
        'printenv CDL_TRUSTED_STORE || echo "no trusted store"',
        `echo "in the work store, more than $(( ${files(`${folder}/store/work`)} > 5 ? 5 : 0 ))"`,
        `umount ${trusted} || echo "still hidden"`,
        `echo "in the trusted store ${files(trusted)}"`,
        `echo "through others ${files(`/proc/[0-9]*/root${trusted}`)}"`,
        `echo "test source ${files(withheldFolder(folder))}"`,
        `echo "kept of it $(find "$CDL_CACHE" -size ${testBlocks}c | wc -l)"`,
        'cdl ingest --side test || echo "test side: exit $?"',
        'sed -i "s/side: train/side: none/;s/side: test/side: train/;s/side: none/side: test/" cdl.yaml',
        'cdl ingest || echo "test source as training data: exit $?"',
      ];
      await write('.gitlab-ci.yml', `${yaml}${extraJob('register', lie)}${extraJob('look-around', look)}`);
    });
    liar = (await stage.propose('scientist', 'liar', 'Trust me')).iid;
    await stage.reaches(liar, 'failed', /the claim is not what the commit makes/);
    const { note } = await stage.said(liar, /The claim of the pipeline is not what the commit makes/);
    expect(note.body).toContain('code: the claim names other files than the commit has');
    expect(note.body).toContain('not in the store');
    expect(note.body).not.toMatch(/\/approve [0-9a-f]/);
  });

  it('a job of a merge request sees neither the trusted zone nor its keys', async () => {
    looked = await jobNamed(liar, 'look-around');
    const trace = await stage.trace(looked);
    expect(trace).toMatch(/^CDL_WORK_STORE$/m);
    expect(trace).toMatch(/^no trusted store$/m);
    expect(trace).toContain('has no access to the trusted zone');
    expect(trace).toMatch(/^test side: exit [1-9]/m);
    expect(trace).toMatch(/^kept of it 0$/m);
    for (const name of ['CDL_TRUSTED_STORE', 'CDL_TRUSTED_KEYS', 'CDL_LOCAL_TARGET', 'CDL_BOT_TOKEN']) {
      expect(trace).not.toMatch(new RegExp(`^${name}$`, 'm'));
    }
  });
});

describe('what a job of a change tries to read', { timeout }, () => {
  it('is not there: neither the trusted store, by whatever way, nor the source of the test side', async (ctx) => {
    if (!stage.rig.hides) return ctx.skip();
    const files = async (folder: string) => (await readdir(folder, { recursive: true })).length;
    const { folder } = stage.rig;
    expect(await files(join(folder, 'store', 'trusted'))).toBeGreaterThan(5);
    expect(await files(withheldFolder(folder))).toBe(2);
    const trace = await stage.trace(looked!);
    expect(trace).toMatch(/^in the work store, more than 5$/m);
    expect(trace).toMatch(/^still hidden$/m);
    expect(trace).toMatch(/^in the trusted store 0$/m);
    expect(trace).toMatch(/^through others 0$/m);
    expect(trace).toMatch(/^test source 0$/m);
    expect(trace).toMatch(/there is no file .*images\.idx/);
    expect(trace).toMatch(/^test source as training data: exit [1-9]/m);
  });
});

describe('a merge that passes the bot by', { timeout }, () => {
  it('without an approval is refused by the deploy job, and nothing goes live', async () => {
    await stage.push('scientist', 'eager', { hidden: 14 });
    const { iid } = await stage.propose('scientist', 'eager', 'No time to wait');
    await stage.approveLine(iid);
    const mr = await stage.until('the lock commit', async () => {
      const now = await stage.api.maintainer.mergeRequest(iid);
      await stage.git('maintainer', 'fetch', '--quiet', 'origin');
      return (await stage.git('maintainer', 'log', '-1', '--format=%an', now.sha)) === 'CDL' ? now : null;
    });
    await expect(stage.api.maintainer.merge(iid, mr.sha)).rejects.toThrow(/: 405 /);
    stage.rig.project.settings.onlyAllowMergeIfPipelineSucceeds = false;
    const sha = await stage.merge(iid);
    stage.rig.project.settings.onlyAllowMergeIfPipelineSucceeds = true;
    const job = await stage.deployJob(sha);
    const trace = await stage.trace(job);
    expect(trace).toMatch(/cdl: nobody approved candidate [0-9a-f]{12} for corners in production/);
    expect(trace).toContain('ask a validator to answer the report');
    expect(trace).toContain('exit code 5');
    expect(trace).not.toMatch(/^\s+at /m);
    expect(job.status).toBe('failed');
    expect(await stage.live()).toBeNull();
    await stage.said(iid, /Merged without approval: the deploy job will refuse/);
  });

  it('by a push to the default branch is refused too, also with a lock entry made by hand', async () => {
    await stage.git('maintainer', 'fetch', '--quiet', 'origin');
    const approved = (await stage.decisions())[0]!;
    const { candidate, version, run } = (await readClaim(stage.trusted, approved.candidate))!;
    // Code and configuration of an approved candidate, but an evaluation nobody has seen.
    const entry = createEntry(candidate, digest('9'), { version, run });
    const sha = await stage.push(
      'maintainer',
      'main',
      async ({ read, write }) => {
        const text = await read('cdl.yaml');
        await write('cdl.yaml', text.replace(/hidden: \d+/, 'hidden: 12'));
        await write('cdl.lock', renderLock(withEntry(emptyLock, model, 'production', entry)));
      },
      { onTop: true },
    );
    const job = await stage.deployJob(sha);
    const trace = await stage.trace(job);
    expect(trace).toContain('was approved with another evaluation than 999999999999');
    expect(trace).toContain('exit code 5');
    expect(await stage.live()).toBeNull();
  });
});
