import { readFile } from 'node:fs/promises';
import { openLocalTarget } from '../../src/deploy/local.ts';

// Applies a plan and stands still after a given number of steps, so that the test can kill it exactly there.
const [planFile, folder, packageFolder, program, haltAfter] = process.argv.slice(2) as [
  string,
  string,
  string,
  string,
  string,
];
const target = openLocalTarget({ folder, program, observe: { requests: 1, milliseconds: 0 } });
const plan = JSON.parse(await readFile(planFile, 'utf8'));
let count = 0;
for await (const step of target.apply(plan, packageFolder, new AbortController().signal)) {
  process.stdout.write(`${JSON.stringify(step)}\n`);
  if (++count === Number(haltAfter)) await new Promise(() => setInterval(() => {}, 60_000));
}
