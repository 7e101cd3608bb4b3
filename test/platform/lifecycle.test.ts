import assert from 'node:assert/strict';
import { test } from 'node:test';
import { harness } from '../support/harness.ts';

const h = await harness();

function start(behaviour: string) {
  return h.startProcess('test/platform/small-program.ts', { args: [behaviour], ready: /"msg":"started"/ });
}

for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  test(`${signal} stops the service and exits with 0`, { timeout: 60_000 }, async () => {
    const program = await start('proper');
    program.signal(signal);
    assert.deepEqual(await program.exited, { code: 0, signal: null });
    assert.match(program.output(), /"msg":"stopped"/);
  });
}

test('a stop that outlasts its time exits with 1', { timeout: 60_000 }, async () => {
  const program = await start('hangs');
  program.signal('SIGTERM');
  assert.deepEqual(await program.exited, { code: 1, signal: null });
  assert.match(program.output(), /did not stop in time/);
});

test('a second signal ends a stop that hangs', { timeout: 60_000 }, async () => {
  const program = await start('hangs');
  program.signal('SIGTERM');
  program.signal('SIGINT');
  assert.deepEqual(await program.exited, { code: 1, signal: null });
});

test('a stop that fails exits with 1 and says why', { timeout: 60_000 }, async () => {
  const program = await start('fails-to-stop');
  program.signal('SIGTERM');
  assert.deepEqual(await program.exited, { code: 1, signal: null });
  assert.match(program.output(), /a store is stuck/);
});

test('an error that nobody caught stops the service and exits with 1', { timeout: 60_000 }, async () => {
  const program = await start('breaks');
  assert.deepEqual(await program.exited, { code: 1, signal: null });
  assert.match(program.output(), /a defect/);
  assert.match(program.output(), /"msg":"stopped"/);
});

test('a start that fails is one line', { timeout: 60_000 }, async () => {
  await assert.rejects(start('fails-to-start'), (error: Error) => {
    assert.match(error.message, /ended with 1/);
    assert.match(error.message, /^the disk is full$/m);
    assert.doesNotMatch(error.message, /\n\s+at /);
    return true;
  });
});
