import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sql } from 'drizzle-orm';
import { usagePause, usageRecords } from '../../src/hub/billing/tables.ts';
import { openApp } from '../hub/edge/app.ts';
import { harness, TEST_SECRETS } from '../support/harness.ts';
import type { TestProcess } from '../support/processes.ts';
import { Random } from '../support/random.ts';
import { waitFor } from '../support/wait-for.ts';
import { startReceiver } from './receiver.ts';
import { billedMiner, feedback, recordsOf, unitsOf } from './world.ts';

const h = await harness();

const MISCHIEF = [
  '500',
  'hang-accepted',
  'die-accepted',
  'reset-accepted',
  '429',
  'twice',
  'cut-off',
  'die',
  '500-accepted',
  'page',
  'reset',
];
const MISCHIEVOUS_CALLS = 60;
const MINERS = 4;
const JOBS = 25;
const KILLS = 3;

test('whatever dies, hangs or overlaps, each record is accepted exactly once', {
  timeout: 240_000,
}, async (t) => {
  const seed = Number(process.env.TEST_SEED ?? Date.now() % 1e6);
  t.diagnostic(`TEST_SEED=${seed}`);
  const random = new Random(seed);
  const receiver = await startReceiver(h);
  const settings = {
    COORDINATOR_BILLING_URL: receiver.url,
    COORDINATOR_API_KEY: 'key-of-the-hub',
    COORDINATOR_BILLING_TIMEOUT_MS: '300',
    BILLING_SYNC_INTERVAL_HOURS: '0.0002',
    SHUTDOWN_TIMEOUT_SEC: '5',
  };
  const app = await openApp(h, settings);
  const env = await h.env({ ...settings, LOG_LEVEL: 'silent' });
  const startWorker = () => h.startProcess('src/bin/worker.ts', { env, ready: /worker is running/ });
  const stopWatching = receiver.keepAlive();
  receiver.misbehave(MISCHIEF, MISCHIEVOUS_CALLS);

  const ids = await Promise.all(
    Array.from({ length: MINERS }, (_, n) => billedMiner(app.deps, { tenantId: `tenant-${n}`, gpuCount: n })),
  );
  const workers: TestProcess[] = [await startWorker(), await startWorker()];
  const syncs: Promise<number>[] = [];
  const sync = async (body: object) => {
    const headers = { 'X-Admin-Key': TEST_SECRETS.ADMIN_API_KEY };
    return (await app.call('POST', '/v1/sla/billing/sync', { headers, body })).status;
  };
  for (let job = 0; job < JOBS; job += 1) {
    for (const id of ids) {
      const { jobId } = await feedback(app.deps, id, 'accepted');
      await feedback(app.deps, id, 'completed', { jobId, latencyMs: random.below(36_000_000) });
    }
    if (random.chance(0.3))
      syncs.push(sync({ miner_id: random.pick(ids), hours_back: 1 + random.below(48) }));
    if (random.chance(0.3)) syncs.push(sync({ hours_back: 1 + random.below(48) }));
  }
  for (let kills = 0; kills < KILLS; kills += 1) {
    const before = receiver.arrived().length;
    await passTime(app);
    await waitFor(() => receiver.arrived().length > before, { timeoutMs: 60_000, what: 'the workers go on' });
    const [victim] = workers.splice(random.below(workers.length), 1);
    victim?.signal('SIGKILL');
    await victim?.exited;
    workers.push(await startWorker());
  }

  const sent = async () => {
    await passTime(app);
    const rows = (await Promise.all(ids.map((id) => recordsOf(app.deps, id)))).flat();
    return rows.every((row) => row.sentAt !== null) ? rows : undefined;
  };
  const rows = await waitFor(sent, { timeoutMs: 120_000, intervalMs: 300, what: 'every record is sent' });
  for (const status of await Promise.all(syncs)) assert.ok(status === 200 || status === 202, String(status));
  await stopWatching();
  await Promise.all(workers.map((worker) => worker.stop()));

  const accepted = receiver.accepted();
  const keys = accepted.map(({ key }) => key);
  assert.equal(new Set(keys).size, keys.length, 'no record was accepted twice');
  assert.deepEqual(new Set(keys), new Set(rows.map((row) => row.id)), 'no record was lost, none made up');
  const jobs = MINERS * JOBS;
  assert.ok(rows.length >= 2 * jobs, `${rows.length} records`);
  const of = new Map(rows.map((row) => [row.id, row]));
  for (const { key, body } of accepted) {
    const row = of.get(key);
    assert.equal(body.tenant_id, row?.tenantId);
    assert.equal(unitsOf(String(body.total_amount)), unitsOf(row?.totalAmount ?? ''));
  }
  assert.ok(receiver.arrived().length > keys.length, 'some were sent again');
});

/** As if every backoff and pause were over; claims go on, and lapse by themselves. */
async function passTime(app: Awaited<ReturnType<typeof openApp>>): Promise<void> {
  await app.deps.db.run(async (orm) => {
    await orm.delete(usagePause);
    await orm.execute(
      sql`update ${usageRecords} set due_at = now() - interval '1 s' where due_at is not null and claim is null`,
    );
  });
}
