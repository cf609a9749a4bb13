import fc from 'fast-check';
import { XMLParser, XMLValidator } from 'fast-xml-parser';
import { describe, expect, test } from 'vitest';
import { renderJunit } from '../../src/report/junit.ts';
import { renderOpenMetrics } from '../../src/report/openmetrics.ts';

describe('the JUnit report', () => {
  test('has one case a gate, with what failed and what was not applied', () => {
    const text = renderJunit('fashion for production', [
      { name: 'accuracy ≥ 0.85', status: 'pass', explanation: '0.9 is 0.05 above the limit' },
      { name: 'recall[A & "B"] ≥ 0.5', status: 'fail', explanation: '0.4 is <0.1 below' },
      { name: 'accuracy drop ≤ 0.01', status: 'skip', explanation: 'nothing is in production yet' },
    ]);
    const parsed = new XMLParser({
      ignoreAttributes: false,
      parseAttributeValue: false,
      processEntities: true,
    }).parse(text);
    const suite = parsed.testsuites.testsuite;
    expect(suite).toMatchObject({ '@_tests': '3', '@_failures': '1', '@_skipped': '1' });
    expect(suite.testcase[1]).toMatchObject({ '@_name': 'recall[A & "B"] ≥ 0.5' });
    expect(suite.testcase[1].failure['@_message']).toBe('0.4 is <0.1 below');
    expect(suite.testcase[2].skipped['@_message']).toBe('nothing is in production yet');
  });

  test('is well-formed whatever a class or metric is called', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), fc.string({ unit: 'binary' }), (name, explanation) => {
        const text = renderJunit(name, [{ name, status: 'fail', explanation }]);
        expect(XMLValidator.validate(text)).toBe(true);
        expect(text.match(/<testcase/g)).toHaveLength(1);
      }),
    );
  });
});

test('OpenMetrics have no space in their braces, one line each, and no value that is no number', () => {
  const text = renderOpenMetrics([
    { name: 'macro_f0.5', labels: { model: 'fashion', environment: 'a "b" \\ c\nd' }, value: 0.5 },
    { name: 'ece', labels: {}, value: Number.NaN },
  ]);
  expect(text).toBe('cdl_macro_f0_5{model="fashion",environment="a__b____c_d"} 0.5\n# EOF\n');
});
