/** A value with the ends of its interval. */
interface Measured {
  value: number;
  low: number;
  high: number;
}

/** Metrics that are a share of items (or the mean of such shares), also of one class or slice. */
const shares = /^((balanced_|top\d_)?accuracy|(macro_)?(precision|recall|specificity)|sensitivity)(\[|$)/;

/** Of three digits that say something, as `308`, `30.8` or `3.08`. */
function threeDigits(value: number): string {
  const size = Math.abs(value);
  return value.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : 2);
}

/** Bytes in the largest unit (powers of 1000) that leaves a number above 1, as `1 byte`, `999 bytes`, `2.00 MB`. */
export function bytesText(bytes: number): string {
  const units = ['KB', 'MB', 'GB', 'TB'];
  let value = bytes;
  let unit = Math.abs(bytes) === 1 ? 'byte' : 'bytes';
  // What rounds to 1000 of a unit is 1.00 of the next.
  while (Math.abs(value) >= 999.5 && units.length > 0) {
    value /= 1000;
    unit = units.shift()!;
  }
  return `${value === bytes ? Number(bytes.toFixed(1)) : threeDigits(value)} ${unit}`;
}

/** A plain number: whole ones with separators, fractions with four decimals, more where four would be zero. */
export function numberText(value: number): string {
  if (!Number.isFinite(value)) return String(value);
  if (Number.isInteger(value)) return value.toLocaleString('en-US');
  const size = Math.abs(value);
  if (size < 0.0001) return value.toExponential(1);
  return value.toLocaleString('en-US', fixed(size >= 100 ? 1 : 4));
}

const fixed = (digits: number) => ({ minimumFractionDigits: digits, maximumFractionDigits: digits });

/** Hundredths with two decimals, and as many more as a small one needs not to be zero. */
function hundredths(value: number): string {
  const all = value * 100;
  const size = Math.abs(all);
  return size === 0 || size >= 0.005 ? all.toFixed(2) : String(Number(all.toPrecision(1)));
}

/** A value of a metric as people read it: shares as `89.34 %`, sizes as `2.00 MB`, times as `1.93 ms`, all else a number. */
export function metricText(metric: string, value: number): string {
  if (!Number.isFinite(value)) return String(value);
  if (metric === 'size_bytes') return bytesText(value);
  if (metric === 'latency_ms') return `${threeDigits(value)} ms`;
  return shares.test(metric) ? `${hundredths(value)} %` : numberText(value);
}

/** As {@link metricText} for a difference of two values, where shares differ by points (of a hundred). */
export function differenceText(metric: string, difference: number): string {
  return metricText(metric, difference).replace(/ %$/, ' points');
}

/** As {@link metricText} for what people wrote themselves: without zeros at the end, as `≤ 2 MB`. */
export function limitText(text: string): string {
  return text
    .replace(/(\.\d*?)0+(?= |$)/, '$1')
    .replace(/\.(?= |$)/, '')
    .replace(/^1 points$/, '1 point');
}

function withInterval(
  text: (value: number) => string,
  one: Measured | null | undefined,
  word: string,
): string {
  if (!one) return '–';
  if (one.low === one.high) return text(one.value);
  const [low, high] = [text(one.low), text(one.high)];
  const unit = / \S+$/.exec(high)?.[0] ?? '';
  return `${text(one.value)} (${word}${low.endsWith(unit) ? low.slice(0, low.length - unit.length) : low} … ${high})`;
}

/** A value with its interval where it has one, as `89.34 % (88.72 … 89.93 %)`; `–` for none. `word` introduces the interval. */
export function measureText(metric: string, one: Measured | null | undefined, word = ''): string {
  return withInterval((value) => metricText(metric, value), one, word);
}

/** As {@link measureText} for a difference, whose sign is what matters of it. */
export function signedText(metric: string, one: Measured | null | undefined, word = ''): string {
  const text = withInterval((value) => differenceText(metric, value), one, word);
  return one && one.value > 0 ? `+${text}` : text;
}
