import type { GateLine } from '../core/report.ts';

const entities: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
};

/** Characters that draw nothing or turn the direction in which people read. */
const directions = /[\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g;

/** Characters XML 1.0 allows nowhere become U+FFFD; special ones become entities. */
function xml(text: string): string {
  return (
    text
      // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what XML 1.0 (§2.2) forbids.
      .replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]|[\ud800-\udfff]/gu, '\ufffd')
      .replace(/[\t\n\r\u0085\u2028\u2029]/g, ' ')
      .replace(directions, '')
      .replace(/[&<>"]/g, (one) => entities[one]!)
  );
}

/**
 * Gates as a JUnit report, one test case each, as GitLab's test report widget reads it (GitLab docs: ci/testing/unit_test_reports).
 */
export function renderJunit(suite: string, gates: readonly GateLine[]): string {
  const count = (status: GateLine['status']) => gates.filter((gate) => gate.status === status).length;
  const cases = gates.map((gate) => {
    const head = `    <testcase classname="${xml(suite)}" name="${xml(gate.name)}"`;
    if (gate.status === 'pass') return `${head}/>`;
    const what = gate.status === 'fail' ? 'failure' : 'skipped';
    return `${head}>\n      <${what} message="${xml(gate.explanation)}"/>\n    </testcase>`;
  });
  const counts = `tests="${gates.length}" failures="${count('fail')}" skipped="${count('skip')}"`;
  return [
    '<?xml version="1.0" encoding="UTF-8"?>',
    `<testsuites ${counts}>`,
    `  <testsuite name="${xml(suite)}" ${counts}>`,
    ...cases,
    '  </testsuite>',
    '</testsuites>',
    '',
  ].join('\n');
}
