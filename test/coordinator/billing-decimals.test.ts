import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { decimalOfNumber, isProduct, product } from '../../src/coordinator/billing/decimals.ts';

const NUMBERS: ReadonlyArray<readonly [lexeme: string, decimal: string | undefined]> = [
  ['0', '0'],
  ['0e999999', '0'],
  ['1', '1'],
  ['1.50', '1.5'],
  ['1e3', '1000'],
  ['1E-8', '0.00000001'],
  ['5e-9', '0.00000001'],
  ['4.999e-9', '0'],
  ['1e-999999999', '0'],
  ['0.30000000000000004', '0.3'],
  ['123456789.12345678', '123456789.12345678'],
  ['999999999999.99999999', '999999999999.99999999'],
  ['999999999999.999999999', undefined],
  ['1e12', undefined],
  ['1e999999999', undefined],
  ['-1', undefined],
  ['-0', undefined],
];

for (const [lexeme, decimal] of NUMBERS) {
  test(`the number ${lexeme} is ${decimal ?? 'refused'}`, () =>
    assert.equal(decimalOfNumber(lexeme), decimal));
}

const units = (max: bigint) => fc.bigInt({ min: 0n, max });
const text = (value: bigint) => {
  const digits = value.toString().padStart(9, '0');
  return `${digits.slice(0, -8)}.${digits.slice(-8)}`;
};
const read = (decimal: string) => {
  const [whole = '', fraction = ''] = decimal.split('.');
  return BigInt(whole) * 10n ** 8n + BigInt(fraction.padEnd(8, '0'));
};

test('a decimal keeps its value, and is as short as can be', () => {
  fc.assert(
    fc.property(units(10n ** 20n - 1n), (value) => {
      const decimal = decimalOfNumber(text(value));
      assert.ok(decimal !== undefined);
      assert.equal(read(decimal), value);
      assert.match(decimal, /^(0|[1-9]\d*)(\.\d*[1-9])?$/);
    }),
  );
});

test('a product is the nearest eighth decimal, half up', () => {
  fc.assert(
    fc.property(units(10n ** 14n), units(10n ** 13n), (a, b) => {
      const found = product(text(a), text(b));
      assert.ok(found !== undefined);
      const error = read(found) * 10n ** 8n - a * b;
      assert.ok(2n * error <= 10n ** 8n && 2n * error > -(10n ** 8n), `${error}`);
      assert.ok(isProduct(found, text(a), text(b)));
    }),
  );
  assert.equal(product('999999999999', '999999999999'), undefined);
});

test('an amount that was rounded from rounded parts passes, another one does not', () => {
  assert.ok(isProduct('0.00617284', '0.01234568', '0.5'));
  assert.ok(isProduct('12.3456789', '0.01234568', '1000'));
  assert.ok(!isProduct('12.35', '0.01234568', '1000'));
  assert.ok(!isProduct('1', '1', '2'));
});
