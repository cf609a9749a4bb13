import { candidateDigest } from '../core/candidate.ts';
import { claimPath, claimSchema } from '../core/claim.ts';
import { type Digest, shortDigest } from '../core/digest.ts';
import { UserError } from '../core/error.ts';
import { evaluationKey } from '../core/evaluation.ts';
import { openZone } from '../steps/context.ts';
import { readEvaluation, readLive } from '../steps/trusted.ts';
import { testItems } from './demo-predict.ts';
import { environment, followPipeline, modelOf, reportOf, traceOf, type Workplace } from './demo-work.ts';
import type { Rig } from './rig.ts';
import { type ApiMergeRequest, openApi, until } from './rig-client.ts';
import type { Story } from './story.ts';

/** From the push of a branch to the bot's report on it. */
export async function proposeChange(
  story: Story,
  rig: Rig,
  place: Workplace,
  change: {
    branch: string;
    title: string;
    told: string;
    /** Hyperparameters with their values; one that is undefined is taken out. */
    parameters: Record<string, unknown>;
    /** What the items are called. */
    items?: string;
    /** What to look for in the log of a job, or of the first of several that share its work, and how to tell it. */
    tell?: readonly { job: string; line: RegExp; say: (found: readonly string[]) => string }[];
  },
): Promise<{ mr: ApiMergeRequest; report: { id: number; body: string }; evaluation: Digest }> {
  const { scientist } = rig.people;
  const api = openApi(rig, scientist);
  const opened = await story.chapter(change.told, async () => {
    const sha = await place.push(scientist, change.branch, change.parameters, change.title);
    const mr = await api.openMergeRequest(change.branch, change.title);
    story.milestone('pushed', { branch: change.branch, sha, merge_request: mr.iid, url: mr.web_url });
    return { text: `branch ${change.branch}, merge request !${mr.iid}  ${mr.web_url}`, value: { mr, sha } };
  });
  const version = await story.chapter(
    'The pipeline collects the data, trains and registers',
    async (detail) => {
      const { pipeline, jobs } = await followPipeline(rig, opened.mr.iid, opened.sha, detail);
      story.milestone('pipeline', {
        pipeline: pipeline.id,
        status: pipeline.status,
        jobs: jobs.map((job) => job.id),
        url: pipeline.web_url,
      });
      const register = jobs.find((job) => job.name === 'register')!;
      const response = await fetch(
        `${rig.sandbox.url}/api/v4/projects/${rig.project.id}/jobs/${register.id}/artifacts/${claimPath(modelOf(rig))}`,
        { headers: { 'private-token': scientist.token } },
      );
      const claim = claimSchema.parse(await response.json());
      const candidate = candidateDigest(claim.candidate);
      story.milestone('registered', {
        model: modelOf(rig),
        version: claim.version,
        candidate,
        job: register.id,
      });
      const logs = await traceOf(rig, jobs.find((job) => job.name === 'train')!.id);
      const best = [...logs.matchAll(/epoch \d+: [^\n]*/g)].at(-1)?.[0] ?? '';
      const told = await Promise.all(
        (change.tell ?? []).map(async ({ job, line, say }) => {
          const named = jobs.find((one) => one.name === job || one.name.startsWith(`${job} 1/`));
          const log = await traceOf(rig, named!.id, Number.POSITIVE_INFINITY);
          // The report in it is broken into lines of the terminal.
          const found = line.exec(log.replaceAll(/\s+/g, ' '));
          return found ? say(found) : '';
        }),
      );
      return {
        text: [
          `${jobs.length} jobs, each in a clean clone  ${pipeline.web_url}`,
          ...told,
          `version ${claim.version}, candidate ${shortDigest(candidate)}`,
          best,
        ]
          .filter(Boolean)
          .join('\n'),
        value: claim.version,
      };
    },
  );
  const report = await story.chapter(
    'The bot has it evaluated on the default branch and reports',
    async (detail) => {
      detail('the evaluation runs on the withheld test set');
      const evaluation = await until(rig, 'the evaluation', () => {
        const runs = [...rig.project.pipelines.values()].filter(
          (one) => one.source === 'api' && one.mergeRequestIid === null,
        );
        const last = runs.at(-1);
        if (!last || last.inputs.cdl_change !== String(opened.mr.iid)) return null;
        if (last.status === 'failed')
          throw new UserError('not-available', `the evaluation pipeline ${last.id} failed`);
        return last.status === 'success' ? last : null;
      });
      const question = String(evaluation.inputs.cdl_question);
      const trusted = await openZone(rig.botEnvironment, 'trusted', null);
      const answer = (await trusted.readRecord(evaluationKey(question as Digest)))?.value as {
        evaluation: Digest;
      };
      story.milestone('evaluated', { pipeline: evaluation.id, ref: evaluation.ref, question, ...answer });
      detail('the report is being written');
      const short = shortDigest(answer.evaluation, 8);
      const found = await until(rig, 'the report', () => reportOf(rig, opened.mr.iid, new RegExp(short)));
      const url = `${opened.mr.web_url}#note_${found.id}`;
      story.milestone('reported', { note: found.id, version, url });
      const { scores, gates, verdict: said } = await readEvaluation(trusted, answer.evaluation);
      const { value, low, high } = scores.metrics.accuracy!;
      const broken = gates.filter((gate) => gate.status === 'fail').map((gate) => gate.name);
      const text = [
        `accuracy ${value.toFixed(4)} (95 %: ${low.toFixed(4)} … ${high.toFixed(4)}) on ${scores.count} withheld ${change.items ?? 'pictures'}`,
        said === 'fail' ? `fails ${broken.join(', ')}` : `meets all ${gates.length} gates`,
        url,
      ];
      return { text: text.join('\n'), value: { found, evaluation: answer.evaluation } };
    },
  );
  return { mr: opened.mr, report: report.found, evaluation: report.evaluation };
}

/** The validator's answer to the report, and the merge. */
export async function approveAndMerge(
  story: Story,
  rig: Rig,
  iid: number,
  version: { mr: ApiMergeRequest },
): Promise<void> {
  const validator = openApi(rig, rig.people.validator);
  const maintainer = openApi(rig, rig.people.maintainer);
  await story.chapter('Vera, the validator, reads it and answers with the line of the report', async () => {
    const asked = await until(rig, 'the approval line', () =>
      reportOf(rig, iid, /cdl \/approve ([0-9a-f]{6,64})/),
    );
    const line = asked.match[0];
    const note = await validator.comment(iid, line);
    await until(rig, 'the approval', async () => {
      const mr = await maintainer.mergeRequest(iid);
      const statuses = await maintainer.statuses(mr.sha);
      return statuses.some((one) => one.name === `cdl/${modelOf(rig)}` && one.status === 'success')
        ? true
        : null;
    });
    story.milestone('approved', {
      note: note.id,
      review: asked.match[1],
      by: rig.people.validator.user.username,
    });
    return { text: `“${line}” — signed by the bot`, value: null };
  });
  await story.chapter('Max merges; the lock entry comes along', async (detail) => {
    const mr = await until(rig, 'the merge request being mergeable', async () => {
      const now = await maintainer.mergeRequest(iid);
      detail(`merge status ${now.detailed_merge_status}`);
      return now.detailed_merge_status === 'mergeable' ? now : null;
    });
    const merged = await maintainer.merge(iid, mr.sha);
    story.milestone('merged', { merge_request: iid, sha: merged.merge_commit_sha, url: version.mr.web_url });
    return { text: `merge commit ${merged.merge_commit_sha?.slice(0, 12)}`, value: null };
  });
}

/** Waits for the deploy job; returns where the model answers. */
export async function deployed(story: Story, rig: Rig): Promise<string> {
  return story.chapter('The deploy job checks the decision and brings it to production', async (detail) => {
    const trusted = await openZone(rig.botEnvironment, 'trusted', null);
    const live = await until(rig, 'the deployment', async () => {
      const jobs = [...rig.project.jobs.values()].filter((job) => job.spec.name === 'deploy');
      const last = jobs.at(-1);
      if (last) detail(`job deploy is ${last.status}`);
      if (last?.status === 'failed') throw new UserError('deploy-failed', await traceOf(rig, last.id));
      const { state } = await readLive(trusted, modelOf(rig), modelOf(rig), environment);
      return last?.status === 'success' && state.current && state.endpoint ? { state, job: last.id } : null;
    });
    const { state, job } = live;
    story.milestone('deployed', {
      environment,
      version: state.current!.version,
      candidate: state.current!.candidate,
      job,
      endpoint: state.endpoint,
    });
    return { text: `version ${state.current!.version} at ${state.endpoint}`, value: state.endpoint! };
  });
}

/** Asks the served model about withheld pictures, through both protocols. */
export async function predict(story: Story, rig: Rig, endpoint: string): Promise<void> {
  await story.chapter('The served model answers through both protocols', async () => {
    const { x, y, classes } = await testItems(rig, 200);
    const v2 = await fetch(`${endpoint}/v2/models/${modelOf(rig)}/infer`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({
        inputs: [{ name: 'input', datatype: 'UINT8', shape: [y.length, 28, 28], data: x.flat() }],
      }),
    });
    if (!v2.ok) throw new UserError('deploy-failed', `v2 inference: ${v2.status} ${await v2.text()}`);
    const answer = (await v2.json()) as { outputs: { name: string; data: string[] }[] };
    const labels = answer.outputs.find((output) => output.name === 'label')!.data;
    const right = labels.filter((label, i) => label === classes[y[i]!]).length;
    const seldon = await fetch(`${endpoint}/api/v1.0/predictions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ data: { tensor: { shape: [1, 28, 28], values: x[0] } } }),
    });
    if (!seldon.ok)
      throw new UserError('deploy-failed', `Seldon v1: ${seldon.status} ${await seldon.text()}`);
    const version = v2.headers.get('x-cdl-version');
    story.milestone('predicted', {
      endpoint,
      items: y.length,
      right,
      served_version: version,
      v2: v2.status,
      seldon: seldon.status,
    });
    return {
      text: `${right} of ${y.length} withheld pictures told right by version ${version}`,
      value: null,
    };
  });
}

/** What happens to a change whose gate failed: nobody can merge it, and what is served stays. */
export async function refuse(story: Story, rig: Rig, mr: ApiMergeRequest, endpoint: string): Promise<void> {
  await story.chapter('The gate refuses it: it can be neither merged nor deployed', async () => {
    const maintainer = openApi(rig, rig.people.maintainer);
    const status = await until(rig, 'the verdict', async () => {
      const statuses = await maintainer.statuses(mr.sha);
      const ours = statuses.find((one) => one.name === `cdl/${modelOf(rig)}`);
      if (ours?.status === 'success') throw new UserError('gate-refused', 'the gate let it through');
      return ours?.status === 'failed' ? ours : null;
    });
    const now = await maintainer.mergeRequest(mr.iid);
    const trial = await maintainer.merge(mr.iid, now.sha).then(
      () => 'merged',
      (error: Error) => /: (\d{3}) /.exec(error.message)?.[1] ?? error.message,
    );
    if (trial === 'merged') throw new UserError('gate-refused', 'a refused change could be merged');
    const answers = await fetch(`${endpoint}/v2/models/${modelOf(rig)}`);
    story.milestone('refused', {
      merge_request: mr.iid,
      sha: mr.sha,
      status: status.status,
      why: status.description,
      merge_answer: Number(trial),
      still_served: answers.headers.get('x-cdl-version'),
    });
    return {
      text: `${status.description}\nmerging it: HTTP ${trial}; production still serves the approved version`,
      value: null,
    };
  });
}
