import { type Forge, projectFile } from '../../src/index.ts';
import { setTuneSeed } from '../edit.ts';
import type { Facts } from '../types.ts';
import { readVersion } from '../version.ts';
import { refuseOverBudget } from './budget.ts';
import { permitMember } from './permission.ts';
import { inBlock, longHeld, movedAnswer, notOpen, quoted, subjectOf } from './subject.ts';
import type { Command, Tools } from './types.ts';

/** The job that trains, where the head's pipeline has one but none for the search; null where a seed would be searched with. */
function trainsAlone({ pipeline, claim }: Facts): string | null {
  // Whatever its job is called: the last one has searched.
  if (claim.kind === 'verified' && claim.claim.tuned) return null;
  const names = pipeline?.jobs.map((job) => job.name) ?? [];
  const isFor = (step: string) => (name: string) => new RegExp(`(^|[^a-z])${step}([^a-z]|$)`).test(name);
  return names.some(isFor('tune')) ? null : (names.find(isFor('train')) ?? null);
}

/** How the search gets a job in the pipeline. */
async function howToInclude(forge: Forge['kind'], facts: Facts, train: string): Promise<string> {
  const { model, headProject } = facts;
  const { data } = headProject.models[model]!;
  const before = headProject.datasets[data]!.item === 'tensor' ? 'validate' : 'transform';
  if (forge === 'github') {
    return `Give \`.github/workflows/cdl.yml\` a job \`tune\` between \`${before}\` and ${quoted(train)}, like that of \`package\` but with \`cdl tune\`, and let ${quoted(train)} need it and fetch its artifact. The workflow of \`cdl init --forge github --tune\` has it.`;
  }
  return `Include the component in \`.gitlab-ci.yml\`, from where \`train\` comes, and let ${quoted(train)} need it:

\`\`\`yaml
  - component: $CI_SERVER_FQDN/cdl/ci-components/tune@${await readVersion()}
    inputs:
      model: ${model}
      needs: [${before}]
      rules:
        - if: $CI_PIPELINE_SOURCE == "merge_request_event"
  # and in the inputs of ${inBlock(train)}:
  #   needs: [tune]
\`\`\``;
}

/** Searches anew, with the next seed: the same seed would only be looked up. */
export const tune: Command<Pick<Tools, 'forge' | 'member' | 'editFile' | 'keep'>> = {
  name: 'tune',
  usage: '/tune [--model name]',
  summary: 'Commit the next seed of `tune:` to `cdl.yaml` of this branch, which searches anew.',
  examples: ['/tune'],
  role: 'member',
  holds: longHeld,
  async handle(call, tools) {
    const closed = notOpen(call);
    if (closed) return closed;
    const subject = subjectOf(call);
    if ('answer' in subject) return subject.answer;
    const { model, headProject } = subject.facts;
    const config = headProject.models[model]!.tune;
    if (!config) {
      return {
        emoji: 'confused',
        text: `**${model}** has no \`tune:\` in \`cdl.yaml\` of this branch, so there is nothing to search. Say what may vary:\n\n\`\`\`yaml\ntune:\n  space: { learning_rate: { log: [0.0001, 0.1] } }\n\`\`\``,
      };
    }
    const alone = trainsAlone(subject.facts);
    if (alone !== null) {
      return {
        emoji: 'confused',
        text: `The pipeline of this branch trains (${quoted(alone)}) but has no job \`tune\`, so another seed would search nothing: \`cdl.yaml\` is as it was. ${await howToInclude(tools.forge, subject.facts, alone)}`,
      };
    }
    const over = refuseOverBudget(call);
    if (over) return over;
    const permission = await permitMember(call, tools);
    if ('refused' in permission) return permission.refused;
    const seed = Number(await tools.keep(call.comment.id, `tune/${model}`, String(config.seed + 1)));
    const done = await tools.editFile(
      call.change,
      projectFile,
      (text) => setTuneSeed(text, model, seed),
      `tune(${model}): seed ${seed}`,
      permission.person,
    );
    if (done === 'moved') return movedAnswer;
    // The command was given twice in a comment, or is done again after a kill.
    if (done === 'same') {
      return {
        emoji: 'thumbsup',
        text: `Seed ${seed} of the search is in \`cdl.yaml\` of this branch already; one comment searches **${model}** anew once. The report of its pipeline follows.`,
        converge: true,
      };
    }
    return {
      emoji: 'thumbsup',
      text: `Committed seed ${seed} of the search to \`cdl.yaml\` of this branch, in the name of \`${permission.person.username}\`. Its pipeline tries up to ${config.trials} other configurations of **${model}**; the report follows. Approvals of earlier states are void.`,
      converge: true,
    };
  },
};
