import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  type Decision,
  decisionDigest,
  decisionKey,
  decisionPrefix,
  type Envelope,
  keyId,
  openChain,
  openDecision,
  type SigningKey,
  signDecision,
} from '../../src/core/decision.ts';
import { digestBytes } from '../../src/core/digest.ts';

function newKey(): { signer: SigningKey; public: KeyObject } {
  const pair = generateKeyPairSync('ed25519');
  return { signer: { id: keyId(pair.privateKey), key: pair.privateKey }, public: pair.publicKey };
}

const key = newKey();
const stranger = newKey();
const trusted = new Map([[key.signer.id, key.public]]);

const first: Decision = {
  candidate: digestBytes('candidate'),
  evaluation: digestBytes('evaluation'),
  project: 'team/fashion',
  model: 'fashion',
  environment: 'production',
  baseline: null,
  plan: digestBytes('plan'),
  decision: 'approved',
  approvers: [{ id: '7', name: 'vera', role: 'validator' }],
  policy: digestBytes('policy'),
  change: '!12',
  seq: 1,
  prev: null,
  time: '2026-01-02T03:04:05.000Z',
};

/** A chain of `length` decisions, signed by `signer`. */
function chain(length: number, signer = key.signer, start: Decision = first): Envelope[] {
  const envelopes: Envelope[] = [];
  for (let seq = 1; seq <= length; seq++) {
    const before = envelopes.at(-1);
    const kind = (['approved', 'promoted', 'revoked'] as const)[seq % 3]!;
    const decision = { ...start, seq, decision: kind, prev: before ? decisionDigest(before) : null };
    envelopes.push(signDecision(decision, signer));
  }
  return envelopes;
}

const invalid = expect.objectContaining({ code: 'decision-invalid' });

describe('a signed decision', () => {
  it('comes back as it was signed', () => {
    const overruled: Decision = { ...first, override: { reason: 'known outage of the test set' } };
    for (const decision of [first, overruled]) {
      expect(openDecision(signDecision(decision, key.signer), trusted)).toEqual(decision);
    }
  });

  it('is an in-toto statement in a DSSE envelope', () => {
    const envelope = signDecision(first, key.signer);
    const statement = JSON.parse(Buffer.from(envelope.payload, 'base64').toString()) as Record<
      string,
      unknown
    >;
    expect(envelope.payloadType).toBe('application/vnd.in-toto+json');
    expect(statement._type).toBe('https://in-toto.io/Statement/v1');
    expect(statement.subject).toEqual([
      { name: 'candidate', digest: { sha256: first.candidate.slice(7) } },
      { name: 'evaluation', digest: { sha256: first.evaluation.slice(7) } },
    ]);
  });

  it('fails when any character of its text is another', () => {
    const text = JSON.stringify(signDecision(first, key.signer));
    fc.assert(
      fc.property(fc.nat(text.length - 1), fc.constantFrom(...'AQgwabz019+/=-_ \n"{}x'), (at, letter) => {
        fc.pre(text[at] !== letter);
        const altered = text.slice(0, at) + letter + text.slice(at + 1);
        let value: unknown;
        try {
          value = JSON.parse(altered);
        } catch {
          return;
        }
        expect(() => openDecision(value, trusted)).toThrow(invalid);
      }),
      { numRuns: 600 },
    );
  });

  it('fails when a bit of its payload or signature is flipped', () => {
    const envelope = signDecision(first, key.signer);
    const flip = (text: string, bit: number) => {
      const bytes = Buffer.from(text, 'base64');
      bytes[bit >> 3]! ^= 1 << (bit & 7);
      return bytes.toString('base64');
    };
    const bits = Buffer.from(envelope.payload, 'base64').length * 8;
    fc.assert(
      fc.property(fc.nat(bits - 1), fc.nat(511), (a, b) => {
        const [signature] = envelope.signatures;
        const payload = { ...envelope, payload: flip(envelope.payload, a) };
        const signed = { ...envelope, signatures: [{ ...signature!, sig: flip(signature!.sig, b) }] };
        expect(() => openDecision(payload, trusted)).toThrow(invalid);
        expect(() => openDecision(signed, trusted)).toThrow(invalid);
      }),
    );
  });

  it('has one spelling: other base64 of the same bytes is refused', () => {
    const envelope = signDecision(first, key.signer);
    const [signature] = envelope.signatures;
    const letters = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/';
    // 64 bytes leave four unused bits in the last letter: setting one decodes to the same signature.
    const last = letters[letters.indexOf(signature!.sig[85]!) + 1]!;
    const sig = `${signature!.sig.slice(0, 85)}${last}==`;
    expect(Buffer.from(sig, 'base64')).toEqual(Buffer.from(signature!.sig, 'base64'));
    expect(() => openDecision({ ...envelope, signatures: [{ ...signature!, sig }] }, trusted)).toThrow(
      invalid,
    );
    expect(() => openDecision({ ...envelope, payload: ` ${envelope.payload}` }, trusted)).toThrow(invalid);
  });

  it('is not believed when its key is unknown, or it claims a known one', () => {
    const foreign = signDecision(first, stranger.signer);
    expect(() => openDecision(foreign, trusted)).toThrow(/not signed by a trusted key/);
    const claimed = { ...foreign, signatures: [{ ...foreign.signatures[0]!, keyid: key.signer.id }] };
    expect(() => openDecision(claimed, trusted)).toThrow(/not signed by a trusted key/);
    expect(() => openDecision(signDecision(first, key.signer), new Map())).toThrow(invalid);
  });

  it('is believed when one of several signatures is trusted', () => {
    const mine = signDecision(first, key.signer);
    const both = {
      ...mine,
      signatures: [...signDecision(first, stranger.signer).signatures, ...mine.signatures],
    };
    expect(openDecision(both, trusted)).toEqual(first);
  });

  it.each([
    ['no object', 'text'],
    ['no signature', { ...signDecision(first, key.signer), signatures: [] }],
    ['another payload type', { ...signDecision(first, key.signer), payloadType: 'text/plain' }],
    ['a malformed digest', signDecision({ ...first, candidate: 'sha256:12' }, key.signer)],
    ['number zero', signDecision({ ...first, seq: 0 }, key.signer)],
  ])('is refused with %s', (_what, value) => {
    expect(() => openDecision(value, trusted)).toThrow(invalid);
  });
});

describe('a chain of decisions', () => {
  const five = chain(5);

  it('opens, oldest first', () => {
    expect(openChain(five, trusted).map((decision) => decision.seq)).toEqual([1, 2, 3, 4, 5]);
    expect(openChain([], trusted)).toEqual([]);
  });

  it('opens in no other order, with none left out in the middle and none twice', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(4), { maxLength: 7 }), (order) => {
        const envelopes = order.map((index) => five[index]!);
        if (order.every((index, place) => index === place))
          expect(openChain(envelopes, trusted)).toHaveLength(order.length);
        else expect(() => openChain(envelopes, trusted)).toThrow(invalid);
      }),
    );
  });

  it('takes no link with a forged predecessor', () => {
    const forged = signDecision({ ...first, seq: 2, prev: digestBytes('another') }, key.signer);
    expect(() => openChain([five[0], forged], trusted)).toThrow(/decision 2 does not follow/);
    const cut = signDecision({ ...first, seq: 2, prev: null }, key.signer);
    expect(() => openChain([five[0], cut], trusted)).toThrow(/decision 2 does not follow/);
  });

  it('takes no link whose number leaves a gap or comes again', () => {
    for (const seq of [1, 3]) {
      const odd = signDecision({ ...first, seq, prev: decisionDigest(five[0]!) }, key.signer);
      expect(() => openChain([five[0], odd], trusted)).toThrow(/decision 2 does not follow/);
    }
  });

  it('takes no link rewritten by somebody whose key is not trusted', () => {
    const rewritten = [...five];
    rewritten[2] = chain(5, stranger.signer)[2]!;
    expect(() => openChain(rewritten, trusted)).toThrow(/decision 3 is not signed/);
  });

  it('belongs to one project, model and environment', () => {
    const scope = { project: 'team/fashion', model: 'fashion', environment: 'production' };
    expect(openChain(five, trusted, scope)).toHaveLength(5);
    for (const other of [{ project: 'x' }, { model: 'x' }, { environment: 'staging' }]) {
      expect(() => openChain(five, trusted, { ...scope, ...other })).toThrow(/decision 1 is about/);
      const next = { ...first, ...other, seq: 2, prev: decisionDigest(five[0]!) };
      expect(() => openChain([five[0], signDecision(next, key.signer)], trusted)).toThrow(
        /decision 2 is about/,
      );
    }
  });

  it('keeps its links when a new key signs all of it again', () => {
    const again = five.map((envelope) => signDecision(openDecision(envelope, trusted), stranger.signer));
    expect(again.map(decisionDigest)).toEqual(five.map(decisionDigest));
    const rotated = new Map([[stranger.signer.id, stranger.public]]);
    expect(openChain(again, rotated)).toEqual(openChain(five, trusted));
    expect(() => openChain(five, rotated)).toThrow(invalid);
    const during = new Map([...trusted, ...rotated]);
    expect(openChain([...again.slice(0, 2), ...five.slice(2)], during)).toHaveLength(5);
  });
});

describe('the key of a decision', () => {
  it('sorts by number and keeps projects apart', () => {
    expect(decisionKey('a/b', 'm', 'e', 12)).toBe('decisions/a%2Fb/m/e/00000012.json');
    expect(decisionKey('p', 'm', 'e', 9) < decisionKey('p', 'm', 'e', 10)).toBe(true);
    expect(decisionPrefix('a/b', 'c', 'd')).not.toBe(decisionPrefix('a', 'b/c', 'd'));
  });
});
