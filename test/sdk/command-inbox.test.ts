import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { fullJitterMs } from '../../src/sdk/backoff.ts';
import { CommandInbox } from '../../src/sdk/command-inbox.ts';
import { waitFor } from '../support/wait-for.ts';

const command = (id: string) => ({ id, name: 'custom', args: {} });

function inboxOf(handle: (id: string) => void | Promise<void>) {
  const ran: string[] = [];
  const failed: string[] = [];
  let ready = 0;
  const inbox = new CommandInbox({
    handle: async ({ id }) => {
      await handle(id);
      ran.push(id);
    },
    onReady: () => {
      ready += 1;
    },
    onFailed: ({ id }) => failed.push(id),
  });
  return { inbox, ran, failed, readyCount: () => ready };
}

describe('commands that may come more than once', () => {
  test('run once, while at work, waiting for their acknowledgement, and after it', async () => {
    let release = () => {};
    const gate = new Promise<void>((resolve) => {
      release = resolve;
    });
    const { inbox, ran, readyCount } = inboxOf(() => gate);
    inbox.take(command('1'));
    inbox.take(command('1'));
    assert.deepEqual(inbox.acks(), [], 'not before it is done');
    release();
    await waitFor(() => ran.length === 1);
    inbox.take(command('1'));
    assert.deepEqual(inbox.acks(), ['1']);
    inbox.acknowledged(['1']);
    assert.deepEqual(inbox.acks(), []);
    inbox.take(command('1'));
    assert.deepEqual(inbox.acks(), ['1'], 'the acknowledgement was lost: it is given again');
    assert.deepEqual(ran, ['1']);
    assert.equal(readyCount(), 2);
  });

  test('run in the order they came in, one at a time', async () => {
    let running = 0;
    const { inbox, ran } = inboxOf(async () => {
      running += 1;
      assert.equal(running, 1);
      await new Promise(setImmediate);
      running -= 1;
    });
    for (const id of ['1', '2', '3']) inbox.take(command(id));
    await waitFor(() => ran.length === 3);
    assert.deepEqual(ran, ['1', '2', '3']);
  });

  test('are not acknowledged when they failed, run again when they come again, and do not hold up the rest', async () => {
    let broken = true;
    const { inbox, ran, failed } = inboxOf((id) => {
      if (broken && id === '1') throw new Error('not now');
    });
    inbox.take(command('1'));
    inbox.take(command('2'));
    await waitFor(() => ran.length === 1);
    assert.deepEqual([failed, inbox.acks()], [['1'], ['2']]);
    broken = false;
    inbox.take(command('1'));
    await waitFor(() => ran.length === 2);
    assert.deepEqual(inbox.acks(), ['2', '1']);
  });

  test('are acknowledged in portions that a heartbeat takes', async () => {
    const { inbox, ran } = inboxOf(() => {});
    for (let n = 0; n < 100; n += 1) inbox.take(command(String(n)));
    await waitFor(() => ran.length === 100);
    const first = inbox.acks();
    assert.equal(first.length, 64);
    inbox.acknowledged(first);
    assert.equal(inbox.acks().length, 36);
  });
});

test('backoff doubles its ceiling up to the cap, and spreads over all of it', () => {
  const limits = { baseMs: 100, capMs: 1_000 };
  for (const [attempt, ceiling] of [
    [0, 100],
    [1, 200],
    [3, 800],
    [4, 1_000],
    [5_000, 1_000],
  ] as const) {
    const waits = Array.from({ length: 2_000 }, () => fullJitterMs(attempt, limits));
    assert.ok(waits.every((wait) => wait >= 0 && wait < ceiling));
    assert.ok(Math.min(...waits) < ceiling * 0.1 && Math.max(...waits) > ceiling * 0.9);
  }
});
