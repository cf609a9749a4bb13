// Lists what a vitest run skipped and why (the name says it), then counts, as the last line.
import { readFileSync } from 'node:fs';

const report = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const tests = report.testResults.flatMap((file) => file.assertionResults);
const skipped = tests.filter((test) => ['skipped', 'pending', 'todo', 'disabled'].includes(test.status));
const reasons = new Map();
for (const test of skipped) {
  const reason = test.ancestorTitles.find((title) => title.includes('skipped:')) ?? test.fullName;
  reasons.set(reason, (reasons.get(reason) ?? 0) + 1);
}
console.log(`\nSkipped: ${skipped.length === 0 ? 'nothing' : ''}`);
for (const [reason, count] of reasons) console.log(`  ${count} × ${reason}`);
const failed = tests.filter((test) => test.status === 'failed').length;
// A file that could not even be loaded has no tests of its own, and must not look like success.
const broken = report.testResults.filter(
  (file) => file.status === 'failed' && file.assertionResults.length === 0,
).length;
console.log(
  `${tests.filter((test) => test.status === 'passed').length} passed, ${failed + broken} failed, ${skipped.length} skipped`,
);
