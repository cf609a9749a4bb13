import { describe, expect, it } from 'vitest';
import {
  bytesText,
  differenceText,
  limitText,
  measureText,
  metricText,
  signedText,
} from '../../src/index.ts';

describe('numbers of metrics', () => {
  it.each([
    [0, '0 bytes'],
    [1, '1 byte'],
    [999, '999 bytes'],
    [1000, '1.00 KB'],
    [308_417, '308 KB'],
    [999_499, '999 KB'],
    [999_500, '1.00 MB'],
    [1_691_583, '1.69 MB'],
    [-25_300_000, '-25.3 MB'],
    [7e15, '7000 TB'],
  ])('%d bytes are %s', (bytes, text) => {
    expect(bytesText(bytes)).toBe(text);
  });

  it.each([
    ['accuracy', 0.89341, '89.34 %', '89.34 points'],
    ['recall[T-shirt/top]', 1, '100.00 %', '100.00 points'],
    ['accuracy[lighting=night]', 0.5, '50.00 %', '50.00 points'],
    ['top5_accuracy', 0.00001, '0.001 %', '0.001 points'],
    ['macro_precision', -0.012, '-1.20 %', '-1.20 points'],
    ['macro_f1', 0.89341, '0.8934', '0.8934'],
    ['log_loss', 0.000012, '1.2e-5', '1.2e-5'],
    ['brier', Number.POSITIVE_INFINITY, 'Infinity', 'Infinity'],
    ['latency_ms', 1.234, '1.23 ms', '1.23 ms'],
    ['their_own', 12_345.678, '12,345.7', '12,345.7'],
  ])('%s %d is %s, as a difference %s', (metric, value, text, difference) => {
    expect(metricText(metric, value)).toBe(text);
    expect(differenceText(metric, value)).toBe(difference);
  });

  it('come without their last zeros where people wrote them', () => {
    const texts = [
      '85.00 %',
      '85.50 %',
      '1.00 points',
      '10.00 points',
      '2.00 MB',
      '0.5000',
      '100 ms',
      '1,000',
      '1.0e-5',
    ];
    expect(texts.map(limitText)).toEqual([
      ...['85 %', '85.5 %', '1 point', '10 points', '2 MB', '0.5', '100 ms', '1,000', '1.0e-5'],
    ]);
  });

  it('have their interval behind them, with the unit once, and a sign where they are gains', () => {
    const of = (value: number, half: number) => ({ value, low: value - half, high: value + half });
    expect(measureText('accuracy', of(0.9, 0.01))).toBe('90.00 % (89.00 … 91.00 %)');
    expect(measureText('size_bytes', of(1000, 10))).toBe('1.00 KB (990 bytes … 1.01 KB)');
    expect(signedText('accuracy', of(0.02, 0.01), '95 % interval ')).toBe(
      '+2.00 points (95 % interval 1.00 … 3.00 points)',
    );
    expect(signedText('accuracy', of(-0.02, 0))).toBe('-2.00 points');
    expect(measureText('accuracy', null)).toBe('–');
  });
});
