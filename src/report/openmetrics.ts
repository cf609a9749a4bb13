import { cleanLine } from './text.ts';

/** One sample: a name, what it is about, a number. */
export interface Sample {
  /** Without the prefix `cdl_`; what cannot stand in a name becomes `_`. */
  name: string;
  labels: Readonly<Record<string, string>>;
  value: number;
}

/**
 * Metrics in OpenMetrics text (openmetrics.io, exposition format) as GitLab's metrics report reads it: no space may stand
 * inside the braces, so label values have theirs replaced.
 */
export function renderOpenMetrics(samples: readonly Sample[]): string {
  const lines = samples
    .filter((sample) => Number.isFinite(sample.value))
    .map(({ name, labels, value }) => {
      const inside = Object.entries(labels)
        .map(
          ([key, text]) =>
            `${key}="${cleanLine(text)
              .replace(/[\\"{}]/g, '_')
              .replace(/\s+/g, '_')}"`,
        )
        .join(',');
      return `cdl_${name.replace(/[^a-zA-Z0-9_]/g, '_')}{${inside}} ${value}`;
    });
  return `${lines.join('\n')}\n# EOF\n`;
}
