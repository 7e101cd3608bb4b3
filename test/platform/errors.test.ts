import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as v from 'valibot';
import {
  AppError,
  ERROR_STATUS,
  invalid,
  isConnectionError,
  toAppError,
  unavailable,
} from '../../src/platform/errors.ts';

const withCode = (code: string, more: object = {}) => Object.assign(new Error('failed'), { code, ...more });

const AWAY: readonly Error[] = [
  withCode('ECONNREFUSED'),
  withCode('ECONNRESET'),
  withCode('ENOENT', { syscall: 'connect' }),
  withCode('CONNECT_TIMEOUT'),
  withCode('57P01'),
  new Error('Connection is closed.'),
  new Error('Command timed out'),
  new Error("Stream isn't writeable and enableOfflineQueue options is false"),
  new Error("Socket timeout. Expecting data, but didn't receive any in 800ms."),
  new Error('LOADING Redis is loading the dataset in memory'),
  new Error("READONLY You can't write against a read only replica."),
  new Error('OOM command not allowed when used memory > maxmemory'),
  new Error('the query failed', { cause: withCode('ECONNREFUSED') }),
];

const DEFECTS: readonly unknown[] = [
  new Error('x is not a function'),
  withCode('ENOENT', { syscall: 'open' }),
  withCode('23505'),
  new Error('ERR Error running script: LOADING'),
  new Error('WRONGTYPE Operation against a key holding the wrong kind of value'),
  'a thrown string',
  undefined,
];

test('a store that is away is told from a defect', () => {
  for (const error of AWAY) {
    assert.ok(isConnectionError(error), error.message);
    const told = toAppError(error);
    assert.deepEqual([told.code, told.retry_after_sec], ['unavailable', 1]);
  }
  for (const error of DEFECTS) {
    assert.ok(!isConnectionError(error), String(error));
    assert.deepEqual([toAppError(error).code, toAppError(error).message], ['internal', 'internal error']);
  }
});

test('an AppError stays itself', () => {
  const error = new AppError('conflict', 'taken');
  assert.equal(toAppError(error), error);
  assert.equal(error.status, 409);
  assert.equal(unavailable('Redis').status, 503);
});

test('an error that causes itself is no endless walk', () => {
  const error = new Error('round and round');
  error.cause = error;
  assert.equal(isConnectionError(error), false);
});

test('every code has the status of the contract', () => {
  assert.deepEqual(ERROR_STATUS, {
    bad_json: 400,
    unauthenticated: 401,
    session_unknown: 401,
    forbidden: 403,
    not_found: 404,
    conflict: 409,
    too_large: 413,
    invalid: 422,
    not_ready: 425,
    rate_limited: 429,
    quota_exceeded: 429,
    internal: 500,
    unavailable: 503,
  });
});

test('details are bounded in number and length', () => {
  const parsed = v.safeParse(v.array(v.number()), Array(1000).fill('x'));
  assert.equal(invalid(parsed.issues ?? []).details?.length, 50);
  const long = 'k'.repeat(10_000);
  const strict = v.safeParse(v.strictObject({}), { [long]: 1 });
  assert.ok((invalid(strict.issues ?? []).details?.[0]?.path.length ?? 0) <= 201);
});
