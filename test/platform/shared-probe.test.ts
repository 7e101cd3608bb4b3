import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sharedProbe } from '../../src/platform/shared-probe.ts';
import { waitFor } from '../support/wait-for.ts';

test('one answer serves all who ask meanwhile; a failure serves only those who asked for it', async () => {
  let asked = 0;
  const probe = sharedProbe(async () => {
    asked += 1;
    if (asked === 1) throw new Error('away');
    return asked;
  }, 60_000);
  const failed = await Promise.allSettled([probe(), probe()]);
  assert.deepEqual(
    failed.map(({ status }) => status),
    ['rejected', 'rejected'],
  );
  assert.equal(asked, 1);
  assert.deepEqual(await Promise.all([probe(), probe()]), [2, 2]);
  assert.equal(await probe(), 2);
});

test('an answer that is no longer fresh is asked for again', async () => {
  let asked = 0;
  const probe = sharedProbe(async () => ++asked, 1);
  assert.equal(await probe(), 1);
  await waitFor(async () => (await probe()) > 1);
});
