import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';
import { sql } from 'drizzle-orm';
import { createBillingCoordinator } from '../../src/hub/billing/coordinator.ts';
import { listFailures } from '../../src/hub/billing/failures.ts';
import { countUnsent } from '../../src/hub/billing/store.ts';
import { release, retry, sendDue } from '../../src/hub/billing/sync.ts';
import { usagePause, usageRecords } from '../../src/hub/billing/tables.ts';
import { billingTasks } from '../../src/hub/billing/tasks.ts';
import { openHub } from '../durable/fleet.ts';
import { harness } from '../support/harness.ts';
import { waitFor } from '../support/wait-for.ts';
import { startReceiver } from './receiver.ts';
import { billedMiner, feedback, recordsOf } from './world.ts';

const h = await harness();
const receiver = await startReceiver(h);
const hub = await openHub(h, {
  COORDINATOR_BILLING_URL: `${receiver.url}/`,
  COORDINATOR_API_KEY: 'key-of-the-hub',
  COORDINATOR_BILLING_TIMEOUT_MS: '400',
});
const coordinator = createBillingCoordinator(hub.config);
assert.ok(coordinator);

const send = () => sendDue(hub, coordinator, 5_000);

/** As if the backoff of every record were over. */
const passTime = () =>
  hub.db.run(async (orm) => {
    await orm.delete(usagePause);
    await orm.execute(
      sql`update ${usageRecords} set due_at = now() - interval '1 s' where due_at is not null and claim is null`,
    );
  });

/** Records of a new miner that are due: `count` jobs, two records each. */
async function due(count: number): Promise<{ id: string; ids: () => Promise<Map<string, string | null>> }> {
  const id = await billedMiner(hub, { tenantId: 'tenant-s', gpuCount: 1 });
  for (let n = 1; n <= count; n += 1) await feedback(hub, id, 'completed', { latencyMs: n * 1_234_567 });
  await release(hub, { minerId: id });
  const ids = async () =>
    new Map((await recordsOf(hub, id)).map((record) => [record.id, record.sentAt?.toISOString() ?? null]));
  return { id, ids };
}

const acceptedOf = (ids: ReadonlyMap<string, unknown>) =>
  receiver.accepted().filter(({ key }) => ids.has(key));

beforeEach(async () => {
  receiver.misbehave([], 0);
  await passTime();
  await send();
});

test('a record is sent under its id, with the key, decimals as strings', async () => {
  const { id, ids } = await due(1);
  assert.deepEqual(await send(), { sent: 2, postponed: 0 });
  const records = await recordsOf(hub, id);
  for (const record of records) assert.ok(record.sentAt !== null && record.dueAt === null);
  const [call] = receiver.arrived().filter(({ key }) => key === records[0]?.id);
  assert.equal(call?.authorization, 'Bearer key-of-the-hub');
  assert.equal(call?.path, '/api/billing/usage');
  const [{ body } = assert.fail()] = acceptedOf(await ids()).filter(({ key }) => key === records[0]?.id);
  assert.deepEqual(body, {
    tenant_id: 'tenant-s',
    event_type: 'usage',
    resource_type: 'compute_hours',
    quantity: '0.34293528',
    unit_price: '0.3',
    total_amount: '0.10288058',
    currency: 'USD',
    timestamp: records[0]?.usedAt.toISOString(),
    metadata: { miner_id: id },
    job_id: records[0]?.jobId,
  });
  assert.deepEqual(await send(), { sent: 0, postponed: 0 });
});

for (const kind of [
  '500',
  '500-accepted',
  'hang',
  'hang-accepted',
  'reset-accepted',
  'cut-off',
  'page',
  '422',
]) {
  test(`after ${kind} a record is sent again, later, and accepted once`, async () => {
    const { id, ids } = await due(1);
    receiver.misbehave([kind], 2);
    assert.deepEqual(await send(), { sent: 0, postponed: 2 });
    for (const { lastError, dueAt, sentAt, attempts } of await recordsOf(hub, id)) {
      assert.ok(lastError !== null && sentAt === null && attempts === 1);
      assert.ok(dueAt !== null && dueAt.getTime() > Date.now(), 'it is put off');
    }
    assert.deepEqual(await send(), { sent: 0, postponed: 0 });
    await passTime();
    assert.deepEqual(await send(), { sent: 2, postponed: 0 });
    assert.deepEqual(acceptedOf(await ids()).length, 2);
  });
}

test('records that failed are told from those that were refused, page by page, and tried again on demand', async () => {
  const refused = await due(1);
  receiver.misbehave(['422'], 2);
  await send();
  const failing = await due(1);
  receiver.misbehave(['500'], 2);
  await send();
  receiver.misbehave([], 0);
  const list = (filter: object) =>
    hub.db.run((orm) => listFailures(orm, { state: undefined, limit: 100, ...filter }));
  const idsOf = ({ items }: Awaited<ReturnType<typeof list>>) => new Set(items.map(({ id }) => id));
  const idsOfRefused = new Set((await refused.ids()).keys());
  assert.deepEqual(idsOf(await list({ state: 'refused' })), idsOfRefused);
  assert.deepEqual(idsOf(await list({ state: 'failing' })), new Set((await failing.ids()).keys()));
  for (const [id, no] of [
    [refused.id, 2],
    [failing.id, 0],
  ] as const) {
    const counts = await hub.db.run((orm) => countUnsent(orm, { minerId: id }));
    assert.deepEqual([counts.records, counts.failing, counts.refused, counts.pending], [2, 2, no, 0]);
  }

  const all = await list({});
  const paged: typeof all.items = [];
  for (let cursor: string | undefined, more = true; more; more = cursor !== undefined) {
    const page = await list({ limit: 1, ...(cursor === undefined ? {} : { cursor }) });
    paged.push(...page.items);
    cursor = page.nextCursor;
  }
  assert.deepEqual(paged, all.items);
  assert.deepEqual(idsOf(await list({ miner_id: refused.id })), idsOfRefused);
  const [first] = (await list({ miner_id: refused.id, state: 'refused' })).items;
  assert.deepEqual([first?.attempts, first?.tenant_id], [1, 'tenant-s']);
  assert.match(first?.last_error ?? '', /^status 422, .*not this one/);
  assert.ok(Date.parse(first?.next_attempt_at ?? '') > Date.now());

  assert.equal(await retry(hub, { minerId: refused.id }), 2);
  assert.equal(await retry(hub, { minerId: refused.id }), 0);
  assert.deepEqual(await send(), { sent: 2, postponed: 0 });
  assert.deepEqual(idsOf(await list({})), new Set((await failing.ids()).keys()));
});

test('a coordinator that takes a record twice has it once', async () => {
  const { ids } = await due(3);
  receiver.misbehave(['twice'], 6);
  assert.deepEqual(await send(), { sent: 6, postponed: 0 });
  assert.equal(acceptedOf(await ids()).length, 6);
});

test('429 with Retry-After stops everything for that long', async () => {
  const { ids } = await due(20);
  receiver.misbehave(['429'], 1);
  const first = await send();
  assert.ok(first.postponed === 1 && first.sent < 40, JSON.stringify(first));
  const [row] = await hub.db.run((orm) => orm.select().from(usagePause));
  assert.ok(row !== undefined && row.until.getTime() > Date.now());
  const before = receiver.arrived().length;
  assert.deepEqual(await send(), { sent: 0, postponed: 0 });
  assert.equal(receiver.arrived().length, before, 'nothing is sent during the pause');
  await passTime();
  await send();
  assert.equal(acceptedOf(await ids()).length, 40);
});

test('a coordinator that is away costs a few calls, not one for each record', async () => {
  const { id, ids } = await due(15);
  receiver.misbehave(['500'], 1000);
  const before = receiver.arrived().length;
  await send();
  assert.ok(receiver.arrived().length - before <= 8);
  const untried = (await recordsOf(hub, id)).filter(({ attempts }) => attempts === 0);
  assert.ok(untried.length >= 22, 'the others are given back as they were');
  receiver.misbehave([], 0);
  await passTime();
  await send();
  assert.equal(acceptedOf(await ids()).length, 30);
});

test('passes at once and windows that overlap send every record once', async () => {
  const { id, ids } = await due(0);
  for (let n = 0; n < 12; n += 1) await feedback(hub, id, 'completed', { latencyMs: 60_000 + n });
  const hourAgo = new Date(Date.now() - 3_600_000);
  const dayAgo = new Date(Date.now() - 86_400_000);
  const windows = [
    {},
    { from: hourAgo },
    { from: dayAgo },
    { minerId: id, from: hourAgo },
    { tenantId: 'tenant-s' },
  ];
  const before = receiver.arrived().length;
  await Promise.all(
    windows.map(async (window) => {
      await release(hub, window);
      await send();
    }),
  );
  await send();
  assert.equal(acceptedOf(await ids()).length, 24);
  assert.equal(receiver.arrived().length - before, 24, 'nobody sent what another had claimed');
  assert.equal(await release(hub, {}), 0);
});

test('a window leaves out what was used before it, and other miners', async () => {
  const id = await billedMiner(hub, { tenantId: 'tenant-w', gpuCount: 0 });
  await feedback(hub, id, 'accepted');
  assert.equal(await release(hub, { minerId: id, from: new Date(Date.now() + 60_000) }), 0);
  assert.equal(await release(hub, { minerId: 'another' }), 0);
  assert.equal(await release(hub, { minerId: id, from: new Date(Date.now() - 60_000) }), 1);
});

test('who waits for a release is not kept for all that has gathered in a year', async () => {
  const many = sql`miner_id = 'many'`;
  await hub.db.run((orm) =>
    orm.execute(sql`
      insert into ${usageRecords} (tenant_id, miner_id, resource_type, quantity, unit_price, total_amount, metadata, used_at)
      select 'tenant-m', 'many', 'api_calls', 1, 1, 1, '{}', now() from generate_series(1, 5001)`),
  );
  assert.equal(await release(hub, { minerId: 'many' }, performance.now()), 5_000);
  assert.equal(await release(hub, { minerId: 'many' }, performance.now()), 1);
  await hub.db.run((orm) => orm.delete(usageRecords).where(many));
});

test('an answer that comes after the claim has lapsed still counts, a late failure does not', async () => {
  const { id } = await due(1);
  receiver.misbehave(['hold'], 2);
  const patient = createBillingCoordinator({ ...hub.config, coordinator_billing_timeout_ms: 60_000 });
  assert.ok(patient);
  const slow = sendDue(hub, patient, 5_000);
  const mine = new Set((await recordsOf(hub, id)).map((record) => record.id));
  const arrived = () => receiver.arrived().filter(({ key }) => mine.has(key));
  await waitFor(() => arrived().length === 2, { what: 'both calls hang' });
  receiver.misbehave([], 0);
  // Another pass takes over while the first one still waits.
  await hub.db.run((orm) =>
    orm.execute(
      sql`update ${usageRecords} set due_at = now() - interval '1 s' where miner_id = ${id} and claim is not null`,
    ),
  );
  assert.deepEqual(await send(), { sent: 2, postponed: 0 });
  receiver.misbehave(['let-go'], 0);
  assert.deepEqual(await slow, { sent: 0, postponed: 2 });
  for (const record of await recordsOf(hub, id)) assert.ok(record.sentAt !== null && record.dueAt === null);
});

test('records that were sent go after SLA_RETENTION_DAYS, those that were not stay', async () => {
  const { id } = await due(3);
  await send();
  await feedback(hub, id, 'accepted');
  const long = sql`now() - make_interval(days => ${hub.config.sla_retention_days + 1})`;
  await hub.db.run((orm) =>
    orm.execute(sql`
      update ${usageRecords} set used_at = ${long}, sent_at = case when sent_at is not null then ${long} end
      where miner_id = ${id}`),
  );
  await feedback(hub, id, 'completed', { latencyMs: 3_600_000 });
  await release(hub, { minerId: id, from: new Date(Date.now() - 60_000) });
  await send();
  const task = billingTasks({ ...hub, migrated: async () => {} }).find(
    ({ name }) => name === 'billing-retain',
  );
  assert.deepEqual(await task?.run({ batch: 4 }, Date.now()), { deleted: 6 });
  const left = (await recordsOf(hub, id)).map(({ resourceType, sentAt }) => [resourceType, sentAt !== null]);
  assert.deepEqual(left, [
    ['api_calls', false],
    ['compute_hours', true],
    ['gpu_hours', true],
  ]);
});
