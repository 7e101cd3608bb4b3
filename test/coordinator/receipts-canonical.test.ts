import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { canonicalText, pythonNumber } from '../../src/coordinator/receipts/canonical.ts';
import { createSigner, isSignatureOf, keyHex } from '../../src/coordinator/receipts/ed25519.ts';
import {
  type JsonObject,
  JsonTextError,
  memberTexts,
  objectText,
  parseJsonText,
  writeJsonText,
} from '../../src/coordinator/receipts/json-text.ts';
import { read } from '../support/source.ts';

interface Vectors {
  readonly private_key_hex: string;
  readonly sample: {
    readonly private_key_hex: string;
    readonly verify_key_hex: string;
    readonly canonical: string;
    readonly signature: { readonly alg: 'Ed25519'; readonly key_id: string; readonly sig: string };
  };
  readonly cases: ReadonlyArray<{ readonly wire: string; readonly canonical: string; readonly sig: string }>;
}

const { text: vectorsText } = read('test/fixtures/receipts.json');
const vectors: Vectors = JSON.parse(vectorsText);
const signer = createSigner(vectors.private_key_hex);

test('the published sample: bytes, key and signature', () => {
  const { sample } = vectors;
  const file = parseJsonText(vectorsText) as JsonObject;
  const payload = (file.get('sample') as JsonObject).get('payload') as JsonObject;
  const canonical = canonicalText(payload);
  assert.equal(canonical, sample.canonical);
  const own = createSigner(sample.private_key_hex);
  assert.deepEqual(own.sign(canonical), sample.signature);
  assert.equal(keyHex(own.keyId), sample.verify_key_hex);
  assert.ok(isSignatureOf(canonical, sample.signature));
});

for (const { wire, canonical, sig } of vectors.cases) {
  test(`vector ${wire}`, () => {
    const written = canonicalText(parseJsonText(wire) as JsonObject);
    assert.equal(written, canonical);
    assert.equal(signer.sign(written).sig, sig);
    assert.ok(isSignatureOf(written, { key_id: signer.keyId, sig }));
  });
}

/** What CPython 3.11 answers to json.dumps(json.loads(lexeme)). */
const NUMBERS: ReadonlyArray<readonly [lexeme: string, python: string]> = [
  ['-0', '0'],
  ['0', '0'],
  ['0e0', '0.0'],
  ['-0E+5', '-0.0'],
  ['1E2', '100.0'],
  ['1e15', '1000000000000000.0'],
  ['123456789012345680.0', '1.2345678901234568e+17'],
  ['9999999999999998.0', '9999999999999998.0'],
  ['99999999999999999.0', '1e+17'],
  ['0.00012', '0.00012'],
  ['0.000099', '9.9e-05'],
  ['1e-7', '1e-07'],
  ['1.7976931348623157e308', '1.7976931348623157e+308'],
  ['1e400', 'Infinity'],
  ['-1e400', '-Infinity'],
  ['1e-400', '0.0'],
  ['2.50', '2.5'],
  ['-1234.5e-2', '-12.345'],
  ['1e100', '1e+100'],
  ['2.2250738585072014e-308', '2.2250738585072014e-308'],
];

for (const [lexeme, python] of NUMBERS) {
  test(`${lexeme} is written as ${python}`, () => assert.equal(pythonNumber(lexeme), python));
}

test('a float keeps its value, and its layout follows the rule of repr', () => {
  const floats = fc.double({ noNaN: true, noDefaultInfinity: true });
  fc.assert(
    fc.property(floats, (value) => {
      const sign = Object.is(value, -0) ? '-' : '';
      const text = pythonNumber(`${sign}${value.toExponential()}`);
      assert.ok(Object.is(Number(text), value), text);
      const magnitude = Math.abs(value);
      const plain = value === 0 || (magnitude >= 1e-4 && magnitude < 1e16);
      assert.match(text, plain ? /^-?(0|[1-9]\d*)\.\d+$/ : /^-?\d(\.\d*[1-9])?e[+-]\d\d+$/);
      // Shortest digits: one fewer would be another float.
      assert.equal(digitsOf(text), digitsOf(value.toExponential()));
    }),
    { numRuns: 1000 },
  );
});

function digitsOf(text: string): string {
  const digits = (text.split('e')[0] as string).replace(/[-.]/g, '').replace(/^0+/, '').replace(/0+$/, '');
  return digits;
}

test('what is not JSON for JSON.parse is none here, and the other way round', () => {
  const mangled = fc.tuple(
    fc.json(),
    fc.nat(),
    fc.constantFrom('', ',', '"', '}', '0', '\\', '\n', '[', 'e', '.', '-', ' '),
  );
  fc.assert(
    fc.property(mangled, ([json, at, mark]) => {
      const cut = at % (json.length + 1);
      const text = json.slice(0, cut) + mark + json.slice(cut + (mark === '' ? 1 : 0));
      let expected: unknown;
      let bad = false;
      try {
        expected = JSON.parse(text);
      } catch {
        bad = true;
      }
      if (bad) assert.throws(() => parseJsonText(text), JsonTextError);
      else assert.deepEqual(JSON.parse(writeJsonText(parseJsonText(text))), expected);
    }),
    { numRuns: 2000 },
  );
});

test('canonical text is ASCII, holds no null, and does not depend on order or blanks', () => {
  fc.assert(
    fc.property(fc.dictionary(fc.string({ unit: 'binary' }), fc.jsonValue()), (value) => {
      const text = canonicalText(parseJsonText(JSON.stringify(value)) as JsonObject);
      assert.match(text, /^[ -~]*$/);
      const reversed = Object.fromEntries(Object.entries(value).reverse());
      assert.equal(canonicalText(parseJsonText(JSON.stringify(reversed, null, 2)) as JsonObject), text);
      // Reading it again and writing it again changes nothing.
      assert.equal(canonicalText(parseJsonText(text) as JsonObject), text);
    }),
  );
});

test('member texts keep the digits of numbers; a repeated key counts once', () => {
  const members = memberTexts(
    '{ "a": {"x" : 1.0, "y": 1E400, "z": 12345678901234567890}, "b": 1, "b": -0.0, "__proto__": [1.50] }',
  );
  assert.deepEqual(
    [...members],
    [
      ['a', '{"x":1.0,"y":1E400,"z":12345678901234567890}'],
      ['b', '-0.0'],
      ['__proto__', '[1.50]'],
    ],
  );
  assert.equal(objectText({ a: '1.0', b: undefined, 'c"': 'null' }), '{"a":1.0,"c\\"":null}');
  assert.throws(() => memberTexts('[1]'), JsonTextError);
});

test('depth is bounded, length is not a matter of the stack', () => {
  assert.throws(() => parseJsonText('['.repeat(100_000)), JsonTextError);
  parseJsonText(`${'['.repeat(64)}${']'.repeat(64)}`);
  const long = 'a\\n'.repeat(500_000);
  assert.equal(parseJsonText(`"${long}"`), 'a\n'.repeat(500_000));
  assert.equal((parseJsonText(`[${'1,'.repeat(200_000)}1]`) as unknown[]).length, 200_001);
});

test('a key has one way to be written, and nonsense is no signature', () => {
  const signature = signer.sign('{}');
  assert.ok(isSignatureOf('{}', signature));
  assert.ok(!isSignatureOf('{ }', signature));
  assert.ok(!isSignatureOf('{}', { ...signature, key_id: `${signature.key_id}=` }));
  assert.ok(!isSignatureOf('{}', { ...signature, sig: `${signature.sig}AA` }));
  assert.ok(!isSignatureOf('{}', { ...signature, sig: '' }));
  assert.ok(!isSignatureOf('{}', { key_id: '', sig: signature.sig }));
  assert.ok(!isSignatureOf('{}', { key_id: 'A'.repeat(43), sig: signature.sig }));
  assert.equal(keyHex('not a key'), undefined);
});
