/** Metrics of one process in the Prometheus text format, and the labels that tell it from the others. */
export interface Exposition {
  labels: Readonly<Record<string, string>>;
  text: string;
}

const escapes: Record<string, string> = { '\\': '\\\\', '"': '\\"', '\n': '\\n' };

function rendered(labels: Readonly<Record<string, string>>): string {
  return Object.entries(labels)
    .map(([name, value]) => `${name}="${value.replace(/[\\"\n]/g, (c) => escapes[c]!)}"`)
    .join(',');
}

/**
 * Joins expositions into one (Prometheus text format 0.0.4): each family once with its HELP and TYPE, every sample with
 * the labels of where it comes from.
 */
export function mergeExpositions(parts: readonly Exposition[]): string {
  const families = new Map<string, { head: string[]; samples: string[] }>();
  for (const { labels, text } of parts) {
    const extra = rendered(labels);
    let family = '';
    for (const line of text.split('\n')) {
      const head = /^# (HELP|TYPE) (\S+)/.exec(line);
      if (head) {
        family = head[2]!;
        const known = families.get(family) ?? { head: [], samples: [] };
        families.set(family, known);
        if (known.samples.length === 0 && !known.head.some((one) => one.startsWith(`# ${head[1]} `))) {
          known.head.push(line);
        }
        continue;
      }
      const sample = /^([A-Za-z_:][\w:]*)(?:\{(.*)\})?( .+)$/.exec(line);
      if (!sample) continue;
      const [, name, own, value] = sample as unknown as [string, string, string | undefined, string];
      const all = [own, extra].filter((one) => one).join(',');
      families.get(family)?.samples.push(`${name}${all ? `{${all}}` : ''}${value}`);
    }
  }
  return `${[...families.values()].flatMap(({ head, samples }) => [...head, ...samples]).join('\n')}\n`;
}
