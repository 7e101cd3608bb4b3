import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import postgres from 'postgres';
import { deleteSent } from '../../src/hub/billing/store.ts';
import { completeRecords } from '../../src/hub/billing/usage.ts';
import { commitJournaled, recordFeedback } from '../../src/hub/trust/feedback.ts';
import { openHub, registerMiner, uniqueId } from '../durable/fleet.ts';
import { harness } from '../support/harness.ts';
import { billedMiner, feedback, recordsOf, report, storeProfile, unitsOf } from './world.ts';

const h = await harness();
const hub = await openHub(h);

const amountsOf = async (minerId: string) =>
  (await recordsOf(hub, minerId)).map(({ tenantId, resourceType, quantity, unitPrice, totalAmount }) => [
    tenantId,
    resourceType,
    quantity,
    unitPrice,
    totalAmount,
  ]);

test('a completed job gives hours of compute and of GPU, an accepted one a call', async () => {
  const id = await billedMiner(hub, { tenantId: 'tenant-a', gpuCount: 2 });
  await feedback(hub, id, 'accepted');
  const completed = await feedback(hub, id, 'completed', { latencyMs: 5_400_000 });
  const records = await recordsOf(hub, id);
  assert.deepEqual(await amountsOf(id), [
    ['tenant-a', 'api_calls', '1.00000000', '0.00010000', '0.00010000'],
    ['tenant-a', 'compute_hours', '1.50000000', '0.30000000', '0.45000000'],
    ['tenant-a', 'gpu_hours', '3.00000000', '0.50000000', '1.50000000'],
  ]);
  assert.equal(records[1]?.jobId, completed.jobId);
  assert.deepEqual(records[1]?.metadata, { miner_id: id });
});

test('without a tenant the miner pays; without a GPU, a latency or success there is nothing to pay for', async () => {
  const id = await billedMiner(hub, { tenantId: null, gpuCount: 0 });
  await feedback(hub, id, 'completed');
  await feedback(hub, id, 'completed', { latencyMs: 0.001 });
  await feedback(hub, id, 'failed', { latencyMs: 1e6 });
  await feedback(hub, id, 'rejected', { latencyMs: 1e6 });
  assert.deepEqual(await amountsOf(id), []);
  await feedback(hub, id, 'completed', { latencyMs: 3_600 });
  assert.deepEqual(await amountsOf(id), [[id, 'compute_hours', '0.00100000', '0.30000000', '0.00030000']]);
});

test('replays and duplicates, at once or later, make no second record', async () => {
  const id = await billedMiner(hub, { tenantId: 'tenant-b', gpuCount: 1 });
  const same = report(id, 'completed', { latencyMs: 1000 });
  await Promise.all(Array.from({ length: 8 }, () => recordFeedback(hub, same)));
  await recordFeedback(hub, { ...same, latencyMs: 2000 });
  assert.equal((await recordsOf(hub, id)).length, 2);
});

test('feedback that waited in the journal is used once, also when the drain repeats it', async () => {
  const id = await billedMiner(hub, { tenantId: 'tenant-j', gpuCount: 1 });
  const entry = {
    job_id: uniqueId('job'),
    miner_id: id,
    outcome: 'completed' as const,
    latency_ms: 7_200_000,
    fail_code: null,
    tokens_spent: null,
    reservation_id: null,
    at_ms: Date.UTC(2026, 0, 2),
  };
  await commitJournaled(hub, entry);
  await commitJournaled(hub, entry);
  const records = await recordsOf(hub, id);
  assert.equal(records.length, 2);
  for (const { usedAt } of records) assert.equal(usedAt.getTime(), entry.at_ms);
});

test('what a miner did before its profile was stored is billed to its tenant once that is known', async () => {
  const id = await registerMiner(hub, uniqueId('fresh'));
  await feedback(hub, id, 'accepted');
  await feedback(hub, id, 'completed', { latencyMs: 3_600_000 });
  const complete = () => hub.db.run((orm) => completeRecords(orm, hub.config, 1000));
  await complete();
  assert.deepEqual(
    (await amountsOf(id)).map(([tenant, resource]) => [tenant, resource]),
    [
      [null, 'api_calls'],
      [null, 'compute_hours'],
    ],
  );
  await storeProfile(hub, id, { tenantId: 'tenant-c', gpuCount: 3 });
  await Promise.all([complete(), complete(), complete()]);
  assert.deepEqual(await amountsOf(id), [
    ['tenant-c', 'api_calls', '1.00000000', '0.00010000', '0.00010000'],
    ['tenant-c', 'compute_hours', '1.00000000', '0.30000000', '0.30000000'],
    ['tenant-c', 'gpu_hours', '3.00000000', '0.50000000', '1.50000000'],
  ]);
});

test('records that another pass has taken hold no other up', async () => {
  const [taken, free] = [await registerMiner(hub), await registerMiner(hub)];
  for (const id of [taken, free]) {
    await feedback(hub, id, 'accepted');
    await storeProfile(hub, id, { tenantId: 'tenant-l', gpuCount: 1 });
  }
  const tenantOf = async (id: string) => (await recordsOf(hub, id))[0]?.tenantId;
  const client = postgres(hub.config.db_dsn, { max: 1 });
  h.cleanup(() => client.end());
  const whileTaken = (work: () => Promise<unknown>) =>
    client.begin(async (tx) => {
      await tx`select from poolhub.usage_records where miner_id = ${taken} for update`;
      await work();
    });
  await whileTaken(() => hub.db.run((orm) => completeRecords(orm, hub.config, 1000)));
  assert.deepEqual([await tenantOf(taken), await tenantOf(free)], [null, 'tenant-l']);
  await client`update poolhub.usage_records set sent_at = '2020-01-01' where miner_id in (${taken}, ${free})`;
  await whileTaken(() => hub.db.run((orm) => deleteSent(orm, new Date('2020-01-02'), 1000)));
  assert.deepEqual([(await recordsOf(hub, taken)).length, (await recordsOf(hub, free)).length], [1, 0]);
});

test('property: quantities and amounts are exact to the eighth decimal', async () => {
  const latency = fc.double({ min: 0, max: 30 * 86_400_000, noNaN: true });
  await fc.assert(
    fc.asyncProperty(latency, fc.integer({ min: 0, max: 1024 }), async (latencyMs, gpuCount) => {
      const id = await billedMiner(hub, { tenantId: null, gpuCount });
      await feedback(hub, id, 'completed', { latencyMs });
      const found = new Map((await recordsOf(hub, id)).map((record) => [record.resourceType, record]));
      for (const [resource, factor, price] of [
        ['compute_hours', 1n, 30_000_000n],
        ['gpu_hours', BigInt(gpuCount), 50_000_000n],
      ] as const) {
        const quantity = roundHalfUp(
          exact(latencyMs).numerator * factor * UNIT,
          exact(latencyMs).denominator * 3_600_000n,
        );
        const record = found.get(resource);
        assert.equal(unitsOf(record?.quantity ?? '0'), quantity, `${resource} of ${latencyMs} ms`);
        assert.equal(unitsOf(record?.totalAmount ?? '0'), roundHalfUp(quantity * price, UNIT));
      }
    }),
    { numRuns: 60 },
  );
});

const UNIT = 100_000_000n;

/** The decimal that a number is written as, as a fraction. */
function exact(value: number): { numerator: bigint; denominator: bigint } {
  const [, whole = '0', fraction = '', power = '0'] =
    /^(\d+)(?:\.(\d+))?(?:e([+-]?\d+))?$/.exec(String(value)) ?? [];
  const scale = fraction.length - Number(power);
  const digits = BigInt(whole + fraction);
  return scale >= 0
    ? { numerator: digits, denominator: 10n ** BigInt(scale) }
    : { numerator: digits * 10n ** BigInt(-scale), denominator: 1n };
}

function roundHalfUp(numerator: bigint, denominator: bigint): bigint {
  return (2n * numerator + denominator) / (2n * denominator);
}
