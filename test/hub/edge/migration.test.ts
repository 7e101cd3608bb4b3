import assert from 'node:assert/strict';
import { test } from 'node:test';
import { harness } from '../../support/harness.ts';
import { waitFor } from '../../support/wait-for.ts';
import { PROFILE } from './app.ts';

const h = await harness();
const LISTENING = /"url":"(http:[^"]+)"/;

test('hubs started together on an empty database, before it is there, migrate it and serve', {
  timeout: 90_000,
}, async () => {
  const postgres = await h.privatePostgres();
  await postgres.stop();
  const env = await h.env({ DB_DSN: postgres.dsn, MINER_ENROLLMENT: 'open', LOG_LEVEL: 'info' });
  const hubs = await Promise.all(
    [1, 2].map(() => h.startProcess('src/bin/hub.ts', { env, ready: LISTENING })),
  );
  await postgres.start();
  await Promise.all(
    hubs.map(async (hub, i) => {
      const register = () =>
        fetch(`${hub.ready[1]}/v1/miners/register`, {
          method: 'POST',
          body: JSON.stringify({ ...PROFILE, miner_id: `early-${i}`, api_key: 'phk_early' }),
        });
      await waitFor(async () => (await register()).status === 200, { timeoutMs: 60_000 });
    }),
  );
  for (const hub of hubs) {
    hub.signal('SIGTERM');
    assert.deepEqual(await hub.exited, { code: 0, signal: null });
  }
});
