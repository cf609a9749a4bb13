import type { ModelConfig } from '../core/project.ts';

/** The starter pipeline with what `resources:` asks for: CPU and memory as inputs, a GPU as a runner tag. */
export function withResources(
  pipeline: string,
  resources: Pick<ModelConfig['resources'], 'train' | 'evaluate'>,
): string {
  const inputs = ({ gpu, cpu, memory }: ModelConfig['resources']['train']) =>
    `      cpu: "${cpu}"\n      memory: ${memory}\n${gpu > 0 ? '      tags: [gpu]\n' : ''}`;
  return pipeline
    .replaceAll('      cpu: "2"\n      memory: 4Gi\n', inputs(resources.train))
    .replace('      cpu: "1"\n      memory: 2Gi\n', inputs(resources.evaluate));
}

/**
 * The starter pipeline with a job for a further step between `before` and `train`. Its job is like that of `package`, which
 * is why it is made from that one.
 */
export function withStep(pipeline: string, step: string, before: string): string {
  const job =
    /^ {2}- component: [^\n]*\/package@(?:(?!^ {2}- component:)[\s\S])*/m.exec(pipeline)?.[0] ??
    /^ {2}package:\n(?:(?!^ {2}[\w-]+:)[\s\S])*/m.exec(pipeline)![0];
  const made = job
    .replaceAll(/\bpackage(?=@|:\n|$)/gm, step)
    .replace('cdl package', `cdl ${step}`)
    .replace('needs: [train]', `needs: [${before}]`)
    .replace('needs: train', `needs: ${before}`)
    .replace('{ name: train }', `{ name: ${before} }`);
  const train = /^ {2}(?:- component: [^\n]*\/train@|train:\n)/m.exec(pipeline)!.index;
  const rest = pipeline
    .slice(train)
    .replace(`needs: [${before}]`, `needs: [${step}]`)
    .replace(`needs: ${before}`, `needs: ${step}`)
    .replace(`{ name: ${before} }`, `{ name: ${step} }`);
  return `${pipeline.slice(0, train)}${made}${rest}`.replace(
    `${before} → train`,
    `${before} → ${step} → train`,
  );
}

/**
 * The starter pipeline with a search between `before` and `train`. It trains, so its job is like that of `train`; on GitLab so
 * many jobs work on it (what comes late finds it done), in the workflow for GitHub one.
 */
export function withSearch(pipeline: string, before: string, workers: number): string {
  const train = jobOf(pipeline, 'train');
  const search = train
    .replace('/train@', '/tune@')
    .replace(/^ {2}train:$/m, '  tune:')
    .replace('cdl train', 'cdl tune')
    .replace(/^ {6}model: .*\n/m, (line) => `${line}      parallel: ${workers}\n`);
  const trained = train
    .replace(`needs: [${before}]`, 'needs: [tune]')
    .replace(`needs: ${before}`, 'needs: tune')
    .replace(`{ name: ${before} }`, '{ name: tune }');
  return pipeline
    .replace(train, () => search + trained)
    .replaceAll(`${before} → train`, `${before} → tune → train`);
}

/** The job of a component in the starter pipeline, or of that name in the starter workflow. */
function jobOf(pipeline: string, name: string, including = ''): string {
  const component = [
    ...pipeline.matchAll(
      new RegExp(`^ {2}- component: [^\\n]*/${name}@(?:(?!^ {2}- component:|^\\n|^ {2}#)[^\\n]*\\n)*`, 'gm'),
    ),
  ].find(([job]) => job.includes(including))?.[0];
  const job =
    component ?? new RegExp(`^ {2}${name}:\\n(?:(?!^ {2}[\\w-]+:)[\\s\\S])*`, 'm').exec(pipeline)?.[0];
  if (job === undefined) throw new TypeError(`the starter has no job ${name}`);
  return job;
}

/**
 * The starter pipeline for data that is cleaned: `clean` between `ingest` and `validate`, and on the withheld side, in the
 * protected jobs before an evaluation, `clean-test` and `validate-test` as well.
 */
export function withCleaning(pipeline: string): string {
  const isComponents = pipeline.includes('- component: ');
  const again = (job: string, changes: readonly [string, string][]) =>
    changes.reduce((text, [from, to]) => text.replaceAll(from, to), job);

  const validate = jobOf(pipeline, 'validate');
  const clean = again(validate, [
    ['/validate@', '/clean@'],
    ['  validate:\n', '  clean:\n'],
    ['cdl validate', 'cdl clean'],
  ]);
  const afterClean = again(validate, [
    ['needs: [ingest]', 'needs: [clean]'],
    ['needs: ingest', 'needs: clean'],
    ['{ name: ingest }', '{ name: clean }'],
  ]);

  const evaluate = jobOf(pipeline, 'evaluate');
  const afterValidate = again(evaluate, [
    ['needs: [ingest-test]', 'needs: [validate-test]'],
    ['needs: ingest-test', 'needs: validate-test'],
    ['{ name: ingest-test }', '{ name: validate-test }'],
  ]);
  const dataset = /CDL_PARAM_DATASET: (\S+)|dataset: (\S+)/.exec(pipeline)!;
  const onTest = (step: string, before: string): string => {
    if (isComponents) {
      const collect = jobOf(pipeline, 'ingest', 'job-name: ingest-test');
      return again(collect, [
        ['/ingest@', `/${step}@`],
        ['job-name: ingest-test\n', `job-name: ${step}-test\n      needs: [${before}]\n`],
      ]);
    }
    return again(evaluate, [
      ['  evaluate:\n', `  ${step}-test:\n`],
      ['needs: ingest-test', `needs: ${before}`],
      ['{ name: ingest-test }', `{ name: ${before} }`],
    ]).replace(
      /cdl evaluate\n {8}env:\n(?: {10}.*\n)+/,
      `cdl ${step}\n        env:\n          CDL_PARAM_DATASET: ${dataset[1]}\n          CDL_PARAM_SIDE: test\n`,
    );
  };
  // The workflow's job `label` collects for itself; components are put together by who wants them.
  const labelledAfter = `      - run: cdl clean\n        env:\n          CDL_PARAM_DATASET: ${dataset[1]}\n`;
  return pipeline
    .replace(validate, () => clean + afterClean)
    .replace(
      evaluate,
      () => onTest('clean', 'ingest-test') + onTest('validate', 'clean-test') + afterValidate,
    )
    .replace(/(?=^ {6}- run: cdl label\n)/m, () => labelledAfter)
    .replaceAll('ingest → validate', 'ingest → clean → validate')
    .replace('ingest-test → evaluate ', 'ingest-test → clean-test → validate-test → evaluate ');
}
