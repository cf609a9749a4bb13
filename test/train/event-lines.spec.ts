import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Ajv2020 } from 'ajv/dist/2020.js';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { packageRoot } from '../../src/exec/root.ts';
import type { CommandEvent } from '../../src/train/command-protocol.ts';
import { longestLine, openEventLines } from '../../src/train/event-lines.ts';

const utf8 = (text: string) => Buffer.from(text, 'utf8');

/** Reads a text in pieces of the given sizes, over and over. */
function readInPieces(bytes: Buffer, sizes: readonly number[]) {
  const lines = openEventLines();
  const events: CommandEvent[] = [];
  for (let at = 0, turn = 0; at < bytes.length; turn++) {
    const size = sizes[turn % sizes.length]!;
    events.push(...lines.push(bytes.subarray(at, at + size)));
    at += size;
  }
  return { events: [...events, ...lines.end()], refused: lines.refused };
}

const event = fc.oneof(
  fc.record({
    kind: fc.constant('epoch' as const),
    epoch: fc.integer({ min: 1, max: 1000 }),
    // What JavaScript takes for the prototype is no name: the test below.
    metrics: fc.dictionary(
      fc.stringMatching(/^[a-z_]{1,20}$/).filter((name) => name !== '__proto__'),
      fc.integer(),
      {
        maxKeys: 5,
        noNullPrototype: true,
      },
    ),
  }),
  fc.record({ kind: fc.constant('log' as const), message: fc.string({ maxLength: 200 }) }),
);

describe('the events of a training command', () => {
  it('have no metric of the name __proto__, which is passed over', () => {
    const line = '{"kind":"epoch","epoch":1,"metrics":{"__proto__":0,"loss":1}}\n';
    const { events } = readInPieces(utf8(line), [7]);
    expect(events).toEqual([{ kind: 'epoch', epoch: 1, metrics: { loss: 1 } }]);
    expect(Object.getPrototypeOf((events[0] as { metrics: object }).metrics)).toBe(Object.prototype);
  });

  it('are the same however the bytes are cut, with anything at all between them', () => {
    const noise = fc.oneof(
      fc.uint8Array({ maxLength: 100 }).map((bytes) => bytes.map((byte) => (byte === 10 ? 11 : byte))),
      fc
        .constantFrom('', '{', 'null', '[]', '{"kind":"epoch"}', '{"kind":"done","model":"../../etc"}')
        .map(utf8),
      fc.constant(Buffer.alloc(longestLine + 1, '7')),
    );
    const lines = fc.array(fc.oneof({ weight: 3, arbitrary: event }, noise), { maxLength: 20 });
    fc.assert(
      fc.property(
        lines,
        fc.array(fc.integer({ min: 1, max: 5000 }), { minLength: 1, maxLength: 4 }),
        (all, sizes) => {
          const bytes = all.flatMap((one) => [
            'kind' in one ? utf8(JSON.stringify(one)) : Buffer.from(one as Uint8Array),
            utf8('\n'),
          ]);
          const read = readInPieces(Buffer.concat(bytes), sizes);
          expect(read.events).toEqual(all.filter((one) => 'kind' in one));
        },
      ),
      { numRuns: 100 },
    );
  });

  it('may hold what Python and JavaScript write where JSON has no number', () => {
    const { events } = readInPieces(
      utf8('{"kind":"epoch","epoch":2,"metrics":{"loss":NaN,"a":-Infinity,"b":Infinity,"c":null}}'),
      [7],
    );
    expect(events).toMatchObject([
      {
        metrics: {
          loss: Number.NaN,
          a: Number.NEGATIVE_INFINITY,
          b: Number.POSITIVE_INFINITY,
          c: Number.NaN,
        },
      },
    ]);
    expect(readInPieces(utf8('{"kind":"log","message":"NaN, \\"Infinity\\""}'), [3]).events).toEqual([
      { kind: 'log', message: 'NaN, "Infinity"' },
    ]);
  });

  it('that are none are counted, and the first is shown', () => {
    const { refused } = readInPieces(utf8('hello\n{"kind":"epoch","epoch":0,"metrics":{}}\n'), [100]);
    expect(refused).toEqual({ count: 2, first: expect.stringContaining('hello') });
  });

  it('have a published JSON Schema that takes and refuses the same lines', async () => {
    const text = await readFile(join(packageRoot(), 'ci-components', 'train-event.schema.json'), 'utf8');
    const valid = new Ajv2020({ strict: false }).compile(JSON.parse(text) as object);
    for (const line of [
      '{"kind":"step","step":10,"metrics":{"loss":0.5},"samples_per_second":100}',
      '{"kind":"epoch","epoch":1,"metrics":{},"checkpoint":"checkpoints/1"}',
      '{"kind":"checkpoint","path":"checkpoints/1","step":3}',
      '{"kind":"done","model":"model","metrics":{"accuracy":"NaN"},"environment":{"torch":"2"}}',
      '{"kind":"epoch","metrics":{}}',
      '{"kind":"done"}',
      '{"kind":"other"}',
    ]) {
      const taken = openEventLines().push(utf8(`${line}\n`)).length === 1;
      expect({ line, taken: valid(JSON.parse(line)) }).toEqual({ line, taken });
    }
  });
});
