import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import * as v from 'valibot';
import { invalid } from '../../src/platform/errors.ts';
import { body, integer, jsonObject, listOf, maybe, moment, money, words } from '../../src/platform/fields.ts';

const MONEY: ReadonlyArray<readonly [given: unknown, stored: string | undefined]> = [
  [0, '0'],
  [0.5, '0.5'],
  ['0.50', '0.5'],
  ['000.10', '0.1'],
  ['12', '12'],
  [1e-8, '0.00000001'],
  ['999999999999.99999999', '999999999999.99999999'],
  [1e-9, undefined],
  ['0.123456789', undefined],
  [1e12, undefined],
  ['1000000000000', undefined],
  [-1, undefined],
  ['-1', undefined],
  ['1e3', undefined],
  ['', undefined],
  ['.5', undefined],
  [Number.NaN, undefined],
  [Number.POSITIVE_INFINITY, undefined],
  [true, undefined],
  [null, undefined],
];

for (const [given, stored] of MONEY) {
  test(`money ${JSON.stringify(given)} (${String(given)}) is ${stored ?? 'refused'}`, () => {
    const parsed = v.safeParse(money(), given);
    assert.equal(parsed.success ? parsed.output : undefined, stored);
  });
}

test('a price keeps its value through storage', () => {
  const cents = fc.integer({ min: 0, max: 99_999_999_999 });
  fc.assert(fc.property(cents, (value) => Number(v.parse(money(), value / 1000)) === value / 1000));
});

const Pair = body(
  { first: words(1, 4), second: maybe(integer(0, 9)), names: maybe(listOf(words(1, 3), 2)) },
  { one: 'first' },
);

function pathsOf(input: unknown): string[] {
  const parsed = v.safeParse(Pair, input);
  return parsed.success
    ? []
    : (invalid(parsed.issues).details ?? []).map(({ path, message }) => `${path}: ${message}`);
}

test('an alias is read under its other name, unless both are there', () => {
  assert.deepEqual(v.parse(Pair, { one: 'a' }), { first: 'a' });
  assert.deepEqual(pathsOf({ one: 'a', first: 'b' }), ['one: unknown key']);
});

test('null counts as left out', () => {
  assert.deepEqual(v.parse(Pair, { first: 'a', second: null }), { first: 'a', second: undefined });
});

test('every failing path is named, and every unknown key', () => {
  assert.deepEqual(pathsOf({ second: 'x', names: ['abcd', 'b', 'c'], what: 1, else: 2 }), [
    'first: is missing',
    'second: Invalid type: Expected number',
    'names.0: must have at most 3 characters',
    'names: must have at most 2 items',
    'what: unknown key',
    'else: unknown key',
  ]);
});

test('keys that mean something to JavaScript are unknown keys', () => {
  for (const key of ['__proto__', 'constructor', 'prototype', 'toString', 'hasOwnProperty']) {
    assert.deepEqual(pathsOf(JSON.parse(`{"first":"a","${key}":{"x":1}}`)), [`${key}: unknown key`]);
  }
});

test('what is no object is refused as such', () => {
  for (const input of [null, [], [1], 'text', 1, true])
    assert.deepEqual(pathsOf(input), [': must be an object']);
});

test('no message repeats what was received', () => {
  const secret = 'phk_secret';
  for (const input of [
    { first: secret },
    { first: 'a', second: secret },
    { first: 'a', names: secret },
    secret,
    [secret],
  ]) {
    assert.doesNotMatch(pathsOf(input).join(), /phk_/);
  }
});

test('control characters and broken Unicode are refused', () => {
  for (const bad of ['a\u0000', '\u001b[', 'a\n', '\ud800', '\udc00a', '\u0085']) {
    assert.deepEqual(pathsOf({ first: bad }), ['first: must not have control characters or broken Unicode']);
  }
  assert.deepEqual(pathsOf({ first: 'ü😀' }), []);
});

test('an object is handed on with all its keys', () => {
  const text = '{"constructor":1,"prototype":{"constructor":2},"__proto__":{"a":3},"plain":4}';
  assert.equal(JSON.stringify(v.parse(jsonObject(100), JSON.parse(text))), text);
  for (const value of [[], null, 'x', 1]) assert.equal(v.safeParse(jsonObject(100), value).success, false);
});

test('a moment is of an existing day, in a form that Date reads, in our time', () => {
  const takes = (text: string) => v.safeParse(moment(), text).success;
  for (const good of ['2027-02-28T00:00:00Z', '2028-02-29T23:59:59.5Z', '2027-12-31T00:00:00+05:30']) {
    assert.ok(takes(good), good);
  }
  for (const bad of [
    '2027-02-30T00:00:00Z',
    '2027-02-29T00:00:00Z',
    '2027-04-31T00:00:00Z',
    '2027-01-01',
    '2027-01-01T24:00:00Z',
    '2027-01-01T00:00:00+02',
    '1999-12-31T23:59:59Z',
    '9999-12-31T23:59:59-23:59',
    'soon',
    '',
  ]) {
    assert.ok(!takes(bad), bad);
  }
});
