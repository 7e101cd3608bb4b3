import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as tick } from 'node:timers/promises';
import { Turns } from '../../src/platform/turns.ts';

const PLENTY_MS = 60_000;

test('work under one key runs one at a time, in order; other keys run meanwhile', async () => {
  const turns = new Turns();
  const log: string[] = [];
  const work = (key: string, name: string) =>
    turns.take(key, PLENTY_MS, async () => {
      log.push(`${name} begins`);
      await tick();
      log.push(`${name} ends`);
    });
  await Promise.all([work('a', 'a1'), work('a', 'a2'), work('b', 'b1'), work('a', 'a3')]);
  const ofA = log.filter((line) => line.startsWith('a'));
  assert.deepEqual(ofA, ['a1 begins', 'a1 ends', 'a2 begins', 'a2 ends', 'a3 begins', 'a3 ends']);
  assert.ok(log.indexOf('b1 begins') < log.indexOf('a1 ends'));
});

test('work that fails does not hold up the next', async () => {
  const turns = new Turns();
  const failing = turns.take('a', PLENTY_MS, async () => {
    throw new Error('no');
  });
  const next = turns.take('a', PLENTY_MS, async () => 'done');
  await assert.rejects(failing, /no/);
  assert.equal(await next, 'done');
});

test('a turn that does not come in time is given up, and the order of the others stays', async () => {
  const turns = new Turns();
  let release = () => {};
  const held = new Promise<void>((resolve) => {
    release = resolve;
  });
  const log: string[] = [];
  const first = turns.take('a', PLENTY_MS, async () => {
    await held;
    log.push('first');
  });
  const late = turns.take('a', 1, async () => log.push('late'));
  const third = turns.take('a', PLENTY_MS, async (leftMs) => {
    assert.ok(leftMs > 0 && leftMs <= PLENTY_MS);
    log.push('third');
  });
  assert.equal(await late, undefined);
  release();
  await Promise.all([first, third]);
  assert.deepEqual(log, ['first', 'third']);
});
