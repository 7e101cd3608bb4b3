import { createServer } from 'node:net';
import { test } from 'node:test';
import { harness } from './harness.ts';

// Run by harness.test.ts, which expects this file to fail: its only test passes, and forgets a server.
await harness();

test('forgets a server', (_t, done) => {
  createServer().listen(0, '127.0.0.1', done);
});
