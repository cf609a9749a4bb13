import { stringify } from 'yaml';
import { type Parameter, parametersOf } from './parameters.ts';
import type { Step } from './types.ts';

/** An entry of `spec:inputs` (GitLab docs: ci/inputs). */
interface ComponentInput {
  type?: 'string' | 'number' | 'boolean' | 'array';
  default?: unknown;
  options?: string[];
  description: string;
}

/** The environment variable that carries a parameter into a job. */
export function parameterVariable(name: string): string {
  return `CDL_PARAM_${name.toUpperCase()}`;
}

function parameterInput(parameter: Parameter): ComponentInput {
  return {
    // A whole block keeps its type, and the value of a variable must be a string (GitLab docs: ci/yaml, variables).
    type: 'string',
    ...(parameter.required ? {} : { default: String(parameter.default ?? '') }),
    ...(parameter.options && { options: parameter.options }),
    description: parameter.description,
  };
}

/** The inputs every component has; the step's own parameters come after them. */
function commonInputs(step: Step, version: string): Record<string, ComponentInput> {
  return {
    stage: { default: step.stage, description: 'Stage of the job.' },
    'job-name': { default: step.name, description: 'Name of the job.' },
    image: {
      default: `$CI_REGISTRY/cdl/cdl:${version}`,
      description: 'Image with cdl; ignored by shell runners. runners/gpu builds one.',
    },
    tags: { type: 'array', default: [], description: 'Runner tags, e.g. [gpu].' },
    needs: { type: 'array', default: [], description: 'Jobs whose .cdl/ artifacts this one reads.' },
    rules: { type: 'array', default: [{ when: 'on_success' }], description: 'When the job runs.' },
    timeout: { default: '1h', description: 'Longest run of the job.' },
    interruptible: {
      type: 'boolean',
      default: !step.deploys,
      description: 'Whether a newer pipeline of the branch may cancel the job.',
    },
    cpu: { default: '1', description: 'CPU request on Kubernetes runners.' },
    memory: { default: '2Gi', description: 'Memory request on Kubernetes runners.' },
    ...(step.shards && {
      parallel: { type: 'number' as const, default: 1, description: step.shards },
    }),
  };
}

/** All inputs of a step's component by name; parameters are written with hyphens. */
export function componentInputs(step: Step, version: string): Record<string, ComponentInput> {
  const inputs = commonInputs(step, version);
  for (const parameter of parametersOf(step.params)) {
    inputs[parameter.name.replaceAll('_', '-')] = parameterInput(parameter);
  }
  return inputs;
}

/**
 * The component `templates/<step>.yml`: one job whose script is constantly `cdl <step>`. Inputs reach the program only
 * through variables that are not expanded, never through the script's text.
 */
export function renderComponent(step: Step, version: string): string {
  const input = (name: string) => `$[[ inputs.${name} ]]`;
  const variables: Record<string, unknown> = {
    KUBERNETES_CPU_REQUEST: input('cpu'),
    KUBERNETES_MEMORY_REQUEST: input('memory'),
  };
  for (const parameter of parametersOf(step.params)) {
    variables[parameterVariable(parameter.name)] = {
      value: input(parameter.name.replaceAll('_', '-')),
      expand: false,
    };
  }
  const job: Record<string, unknown> = {
    stage: input('stage'),
    image: input('image'),
    tags: input('tags'),
    needs: input('needs'),
    rules: input('rules'),
    timeout: input('timeout'),
    ...(step.shards && { parallel: input('parallel') }),
    variables,
    ...(step.deploys && {
      environment: { name: input('environment') },
      resource_group: `cdl-${input('model')}-${input('environment')}`,
    }),
    interruptible: input('interruptible'),
    script: [`cdl ${step.name}`],
    artifacts: {
      when: 'always',
      expire_in: '30 days',
      paths: ['.cdl/'],
      exclude: ['.cdl/store/**/*'],
      ...(step.reports && {
        expose_as: 'CDL report',
        paths: ['.cdl/'],
        reports: { metrics: '.cdl/metrics.txt' },
      }),
      ...(step.judges && { reports: { metrics: '.cdl/metrics.txt', junit: '.cdl/junit.xml' } }),
    },
  };
  const header = `# ${step.summary}\n# Generated from the step's parameters; change src/steps/${step.name}.ts and run npm run generate.\n`;
  const spec = stringify({ spec: { inputs: componentInputs(step, version) } }, { lineWidth: 0 });
  return `${header}${spec}---\n${stringify({ [input('job-name')]: job }, { lineWidth: 0, defaultStringType: 'PLAIN' })}`;
}

/** The table of a component's inputs in markdown, for the component project's README. */
export function renderInputTable(step: Step, version: string): string {
  const cell = (value: unknown) => `\`${JSON.stringify(value)}\``.replaceAll('|', '\\|');
  const rows = Object.entries(componentInputs(step, version)).map(
    ([name, input]) =>
      `| \`${name}\` | ${'default' in input ? cell(input.default) : '**required**'} | ${input.description.replaceAll('|', '\\|')} |`,
  );
  return `| input | default | what |\n| --- | --- | --- |\n${rows.join('\n')}\n`;
}
