import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import postgres from 'postgres';
import { forEachLimited } from '../../src/cli/bulk.ts';
import { CoordinatorClient } from '../../src/sdk/coordinator-client.ts';
import { HubError } from '../../src/sdk/errors.ts';
import { HubClient } from '../../src/sdk/hub-client.ts';
import { replicaEnv } from '../coordinator/replica.ts';
import { startHubProcess } from '../sdk/hub-process.ts';
import { harness, TEST_SECRETS } from '../support/harness.ts';
import { waitFor } from '../support/wait-for.ts';
import { startFleet, type WorkingFleet } from './fleet.ts';

const MINERS = 20;
const JOBS = process.env.POOLHUB_LONG === '1' ? 500 : 120;
const MODEL = 'books';
const PRICE = '0.25';
const AT_A_TIME = 8;
const WAIT = { timeoutMs: 120_000, intervalMs: 100 };

const h = await harness();
let alice: CoordinatorClient;
let root: CoordinatorClient;
let sql: postgres.Sql;
let fleet: WorkingFleet;
let hubUrl: string;

before(async () => {
  sql = postgres(await h.db(), { max: 2 });
  h.cleanup(() => sql.end());
  const hub = await startHubProcess(h);
  hubUrl = hub.url;
  const env = await replicaEnv(h, {
    LOG_LEVEL: 'info',
    POOLHUB_URL: hub.url,
    POOLHUB_SECRET: TEST_SECRETS.COORDINATOR_SHARED_SECRET,
    RECEIPT_SIGNING_KEY_HEX: '44'.repeat(32),
  });
  const coordinator = await h.startProcess('src/bin/coordinator.ts', { env, ready: /"url":"(http:[^"]+)"/ });
  const url = coordinator.ready[1] as string;
  const billing = {
    COORDINATOR_BILLING_URL: url,
    COORDINATOR_API_KEY: 'key-of-root',
    BILLING_SYNC_INTERVAL_HOURS: '0.0003',
    LOG_LEVEL: 'info',
  };
  await h.startProcess('src/bin/worker.ts', { env: await h.env(billing), ready: /worker is running/ });
  alice = new CoordinatorClient({ urls: [url], apiKey: 'key-of-alice' });
  root = new CoordinatorClient({ urls: [url], apiKey: 'key-of-root' });
  fleet = await startFleet(h, { hubUrl: hub.url, coordinatorUrl: url, count: MINERS, model: MODEL });
});

/** One job in ten fails and one is canceled; the others differ in what they do and how long it takes. */
function payloadOf(index: number): Record<string, unknown> {
  if (index % 10 === 0) return { type: 'fail', error_code: 'on_purpose' };
  if (index % 10 === 1) return { type: 'sleep', ms: 300 };
  if (index % 3 === 0) return { type: 'sum', values: [index, 1] };
  return index % 3 === 1 ? { type: 'sleep', ms: index % 50 } : { type: 'sha256', data: String(index) };
}

/** Submits all jobs, and cancels some. @returns how many were canceled in time */
async function submitAll(): Promise<number> {
  let canceled = 0;
  await forEachLimited(Array.from({ length: JOBS }).keys(), AT_A_TIME, undefined, async (index) => {
    const constraints = { models: [MODEL] };
    const { job_id } = await alice.submit({ payload: payloadOf(index), constraints, payment_amount: PRICE });
    if (index % 10 !== 1) return;
    try {
      await alice.cancel(job_id);
      canceled += 1;
    } catch (error) {
      if (!(error instanceof HubError && error.code === 'conflict')) throw error;
    }
  });
  return canceled;
}

const countBy = async (
  rows: Promise<readonly { word: string; n: number }[]>,
): Promise<Record<string, number>> => Object.fromEntries((await rows).map(({ word, n }) => [word, n]));

test('what jobs came to adds up wherever it is written down', { timeout: 280_000 }, async () => {
  const canceled = await submitAll();
  const stats = await waitFor(async () => {
    const now = await root.stats();
    return now.active_jobs === 0 && now.total_jobs === JOBS && now.hub_reports_waiting === 0
      ? now
      : undefined;
  }, WAIT);
  const failed = JOBS / 10;
  const completed = JOBS - failed - canceled;
  const { COMPLETED, FAILED, CANCELED } = stats.jobs_by_state;
  assert.deepEqual([COMPLETED, FAILED, CANCELED], [completed, failed, canceled]);

  await waitFor(() => fleet.events.get('job_completed') === completed, WAIT);
  assert.equal(fleet.events.get('job_failed'), failed);
  await assertOnePerJob(completed);
  await assertHubHeard({ completed, failed });
  await assertServiceLevels({ completed, failed });
  await assertUsageArrived();
  await assertInvoice(completed);
  await assertInvoicesOfMiners();
});

/** Each completed job has one receipt, one settlement and one usage record, and no other job has any. */
async function assertOnePerJob(completed: number): Promise<void> {
  const rows = await sql`
    select j.job_id, j.state,
      (select count(*)::int from coordinator.receipts r where r.job_id = j.job_id) as receipts,
      (select count(*)::int from coordinator.settlements s where s.job_id = j.job_id) as settlements,
      (select count(*)::int from coordinator.usage_records u where u.job_id = j.job_id and u.resource_type = 'jobs') as usage
    from coordinator.jobs j`;
  for (const { job_id, state, receipts, settlements, usage } of rows) {
    const expected = state === 'COMPLETED' ? [1, 1, 1] : [0, 0, 0];
    assert.deepEqual([receipts, settlements, usage], expected, `${job_id} (${state})`);
  }
  assert.equal(rows.filter(({ state }) => state === 'COMPLETED').length, completed);
}

/** The hub has each report once, and its outcomes are those of the jobs. */
async function assertHubHeard({ completed, failed }: { completed: number; failed: number }): Promise<void> {
  const reported = await countBy(
    sql`select outcome as word, count(*)::int as n from coordinator.hub_outbox group by outcome`,
  );
  const heard = await countBy(
    sql`select outcome as word, count(*)::int as n from poolhub.feedback group by outcome`,
  );
  assert.deepEqual(heard, reported);
  assert.deepEqual([heard.completed, heard.failed], [completed, failed]);
  const [assigned] = await sql`select count(*)::int as n from coordinator.jobs where attempts > 0`;
  assert.equal(heard.accepted, assigned?.n);
}

interface MinerBooks {
  readonly miner_id: string;
  readonly completed: number;
  readonly failed: number;
  /** Of the completed jobs, ms. */
  readonly latency: number;
}

/** What the jobs of each miner came to, by the coordinator alone. */
const booksOfMiners = () => sql<MinerBooks[]>`
  select assigned_miner_id as miner_id, count(*) filter (where state = 'COMPLETED')::int as completed,
    count(*) filter (where state = 'FAILED')::int as failed,
    coalesce(sum(o.latency_ms) filter (where state = 'COMPLETED'), 0)::float8 as latency
  from coordinator.jobs j left join coordinator.hub_outbox o
    on o.job_id = j.job_id and o.miner_id = j.assigned_miner_id and o.outcome = 'completed'
  where state in ('COMPLETED', 'FAILED') group by assigned_miner_id`;

/** The success rate and response time of each miner are those of its jobs. */
async function assertServiceLevels(totals: { completed: number; failed: number }): Promise<void> {
  const hub = new HubClient({ urls: [hubUrl], adminKey: TEST_SECRETS.ADMIN_API_KEY });
  await waitFor(async () => {
    const headers = { 'X-Admin-Key': TEST_SECRETS.ADMIN_API_KEY };
    return (await fetch(`${hubUrl}/sla/metrics/collect`, { method: 'POST', headers })).status === 200;
  }, WAIT);
  const sum = { completed: 0, failed: 0 };
  for (const { miner_id, completed, failed, latency } of await booksOfMiners()) {
    const measured = await hub.slaMetrics(miner_id, { hours: '2' });
    // A run that crosses the hour has a measurement for each part.
    const of = (type: string) => measured.filter(({ metric_type }) => metric_type === type);
    const total = (type: string) =>
      of(type).reduce((all, { metric_value, metadata }) => all + metric_value * metadata.samples, 0);
    const samples = of('completion_rate').reduce((all, { metadata }) => all + metadata.samples, 0);
    assert.equal(samples, completed + failed, miner_id);
    assert.equal(Math.round(total('completion_rate') / 100), completed, miner_id);
    assert.ok(Math.abs(total('response_time') - latency) < 1e-6 * latency + 1e-6, miner_id);
    sum.completed += completed;
    sum.failed += failed;
  }
  assert.deepEqual(sum, totals);
}

/** Every use that the hub wrote down is billed at the coordinator, once, for the same amount. */
async function assertUsageArrived(): Promise<void> {
  await waitFor(async () => {
    const [row] = await sql`
      select (select count(*)::int from poolhub.feedback where outcome = 'accepted') as calls,
        count(*) filter (where resource_type = 'api_calls')::int as billed,
        count(*) filter (where sent_at is null)::int as unsent
      from poolhub.usage_records`;
    return row?.calls === row?.billed && row?.unsent === 0;
  }, WAIT);
  const [difference] = await sql`
    select count(*)::int as rows, count(*) filter (where c.id is null or c.total_amount <> u.total_amount)::int as wrong
    from poolhub.usage_records u left join coordinator.usage_records c on c.id = u.id::text`;
  assert.ok(difference?.rows > 0);
  assert.equal(difference?.wrong, 0);
}

function invoiceOf(tenant_id: string) {
  const hourMs = 3_600_000;
  const period_start = new Date(Date.now() - hourMs).toISOString();
  return root.invoice({ tenant_id, period_start, period_end: new Date(Date.now() + hourMs).toISOString() });
}

async function assertInvoice(completed: number): Promise<void> {
  const invoice = await invoiceOf('alice');
  const [line] = invoice.line_items;
  assert.deepEqual(
    [line?.resource_type, line?.records, line?.quantity],
    ['jobs', completed, String(completed)],
  );
  assert.equal(Number(invoice.total_amount), completed * Number(PRICE));
}

/** The invoice of each miner has a call for each job that it took, the time of those that it completed, and nothing else. */
async function assertInvoicesOfMiners(): Promise<void> {
  const used = await sql<
    { tenant_id: string; resource_type: string; quantity: string; amount: string; n: number }[]
  >`
    select tenant_id, resource_type, trim_scale(sum(quantity))::text as quantity, trim_scale(sum(total_amount))::text as amount,
      count(*)::int as n
    from poolhub.usage_records group by tenant_id, resource_type order by resource_type`;
  const books = new Map((await booksOfMiners()).map((row) => [row.miner_id, row]));
  for (const tenant of new Set(used.map(({ tenant_id }) => tenant_id))) {
    const { line_items } = await invoiceOf(tenant);
    assert.deepEqual(
      line_items.map(({ resource_type, quantity, amount, records }) => [
        resource_type,
        quantity,
        amount,
        records,
      ]),
      used
        .filter(({ tenant_id }) => tenant_id === tenant)
        .map(({ resource_type, quantity, amount, n }) => [resource_type, quantity, amount, n]),
    );
    const hours = line_items.find(({ resource_type }) => resource_type === 'compute_hours');
    const { completed = 0, latency = 0 } = books.get(tenant) ?? {};
    assert.equal(hours?.records ?? 0, completed, tenant);
    // Each record is rounded to the eighth place.
    assert.ok(
      Math.abs(Number(hours?.quantity ?? 0) - latency / 3_600_000) <= completed * 0.5e-8 + 1e-12,
      tenant,
    );
  }
  const [calls] = await sql`select count(*)::int as n from coordinator.hub_outbox where outcome = 'accepted'`;
  const billed = used
    .filter(({ resource_type }) => resource_type === 'api_calls')
    .reduce((all, { n }) => all + n, 0);
  assert.equal(billed, calls?.n);
}
