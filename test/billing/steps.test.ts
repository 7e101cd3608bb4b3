import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sql } from 'drizzle-orm';
import { hubTasks } from '../../src/hub/tasks.ts';
import { Holds, type RowHold } from '../coordinator/steps/holds.ts';
import { openHub, registerMiner } from '../durable/fleet.ts';
import { harness } from '../support/harness.ts';
import { waitFor } from '../support/wait-for.ts';
import { startReceiver } from './receiver.ts';
import { feedback, recordsOf, storeProfile, unitsOf } from './world.ts';

/**
 * The worker dies in the middle of every statement and call between a use and its place at the coordinator, and of what deletes and merges
 * the past. Postgres then undoes the statement, or commits it without anybody who hears of it.
 */

const h = await harness();
const receiver = await startReceiver(h);
const SETTINGS = {
  COORDINATOR_BILLING_URL: receiver.url,
  COORDINATOR_API_KEY: 'key-of-the-hub',
  COORDINATOR_BILLING_TIMEOUT_MS: '60000',
  DB_STATEMENT_TIMEOUT_MS: '60000',
};
const hub = await openHub(h, SETTINGS);
const holds = await Holds.open(h, [
  'poolhub.usage_records',
  'poolhub.usage_pause',
  'poolhub.sla_metrics',
  'poolhub.sla_violations',
]);
const TASKS = ['billing-sync', 'billing-send', 'billing-retain', 'sla-retain'] as const;

type Fate = 'undone' | 'committed';

/** A step of one task; all that it works on carries `key`. */
interface Step {
  readonly task: (typeof TASKS)[number];
  readonly name: string;
  readonly ready: (key: string) => Promise<unknown>;
  /** Where it is stopped: at a row, or (undefined) while the coordinator has the call. */
  readonly stop: (key: string) => RowHold | undefined;
  /** What the coordinator does with the first calls. */
  readonly mischief?: (fate: Fate) => readonly string[];
  /** After another worker has gone on; by itself each record of `key` is accepted once. */
  readonly ends?: (key: string) => Promise<unknown>;
}

const run = (statement: ReturnType<typeof sql>) =>
  hub.db.run((orm) => orm.execute<Record<string, string>>(statement));

const update = (key: string, changed: string): RowHold => ({
  table: 'usage_records',
  on: 'UPDATE',
  row: { miner_id: key },
  changed,
});

/** A miner that has worked before its profile was stored. */
async function early(key: string): Promise<void> {
  await registerMiner(hub, key);
  await feedback(hub, key, 'accepted');
  await feedback(hub, key, 'completed', { latencyMs: 3_600_000 });
  await storeProfile(hub, key, { tenantId: `tenant of ${key}`, gpuCount: 2 });
}

/** One record that waits. */
async function used(key: string): Promise<void> {
  await registerMiner(hub, key);
  await storeProfile(hub, key, { tenantId: `tenant of ${key}`, gpuCount: 0 });
  await feedback(hub, key, 'accepted');
}

/** One record that may be sent. */
async function due(key: string): Promise<void> {
  await used(key);
  await run(sql`update poolhub.usage_records set due_at = now() - interval '1 s' where miner_id = ${key}`);
}

/** One record that was sent long ago. */
async function forgotten(key: string): Promise<void> {
  await used(key);
  await run(
    sql`update poolhub.usage_records set sent_at = now() - interval '500 days' where miner_id = ${key}`,
  );
}

const isGone = (table: string) => async (key: string) => {
  const rows = await run(sql`select from ${sql.raw(`poolhub.${table}`)} where miner_id = ${key}`);
  assert.equal(rows.length, 0, key);
};

/** Hours of three days, the newest of which is not to be merged yet. */
const measured = (key: string) =>
  run(sql`
    insert into poolhub.sla_metrics (miner_id, starts_at, span_sec, collected_at, online_ms, expected_ms, completed)
    select ${key}, date_trunc('day', now() at time zone 'UTC') at time zone 'UTC' - make_interval(days => d, hours => -i),
      3600, now(), i, 3600, 1
    from unnest(array[2, ${hub.config.sla_rollup_days + 1}, ${hub.config.sla_rollup_days + 2}]) d, generate_series(0, 23) i`);

async function isMerged(key: string): Promise<void> {
  const rows = await run(sql`
    select span_sec, count(*) as rows, sum(online_ms) as online, sum(completed) as completed
    from poolhub.sla_metrics where miner_id = ${key} group by span_sec order by span_sec`);
  assert.deepEqual(
    rows.map((row) => Object.values(row).map(Number)),
    [
      [3600, 24, 276, 24],
      [86_400, 2, 2 * 276, 48],
    ],
    key,
  );
}

const pastOf = (table: string, columns: string, values: string) => (key: string) =>
  run(
    sql`insert into ${sql.raw(`poolhub.${table} (miner_id, ${columns})`)} values (${key}, ${sql.raw(values)})`,
  );

/** A kill hits one step of each task. */
const ROUNDS: readonly (readonly Step[])[] = [
  [
    {
      task: 'billing-sync',
      name: 'the tenant is named',
      ready: early,
      stop: (key) => update(key, 'tenant_id'),
    },
    { task: 'billing-send', name: 'it is noted', ready: due, stop: (key) => update(key, 'sent_at') },
    {
      task: 'billing-retain',
      name: 'it is deleted',
      ready: forgotten,
      stop: (key) => ({ table: 'usage_records', on: 'DELETE', row: { miner_id: key } }),
      ends: isGone('usage_records'),
    },
    {
      task: 'sla-retain',
      name: 'hours are taken',
      ready: measured,
      stop: (key) => ({ table: 'sla_metrics', on: 'DELETE', row: { miner_id: key } }),
      ends: isMerged,
    },
  ],
  [
    {
      task: 'billing-sync',
      name: 'hours of GPU are added',
      ready: early,
      stop: (key) => ({ table: 'usage_records', on: 'INSERT', row: { miner_id: key } }),
    },
    {
      task: 'billing-send',
      name: 'it is put off',
      ready: due,
      stop: (key) => update(key, 'last_error'),
      mischief: () => ['422'],
    },
    {
      task: 'sla-retain',
      name: 'a day is written',
      ready: measured,
      stop: (key) => ({ table: 'sla_metrics', on: 'INSERT', row: { miner_id: key, span_sec: 86_400 } }),
      ends: isMerged,
    },
  ],
  [
    { task: 'billing-sync', name: 'it is released', ready: used, stop: (key) => update(key, 'due_at') },
    { task: 'billing-send', name: 'it is claimed', ready: due, stop: (key) => update(key, 'claim') },
    {
      task: 'sla-retain',
      name: 'what is too old goes',
      ready: pastOf(
        'sla_metrics',
        'starts_at, span_sec, collected_at',
        "now() - interval '500 days', 86400, now()",
      ),
      stop: (key) => ({ table: 'sla_metrics', on: 'DELETE', row: { miner_id: key } }),
      ends: isGone('sla_metrics'),
    },
  ],
  [
    {
      task: 'billing-send',
      name: 'it is called',
      ready: due,
      stop: () => undefined,
      mischief: (fate) => [fate === 'committed' ? 'hang-accepted' : 'hang'],
    },
    {
      task: 'sla-retain',
      name: 'what was resolved goes',
      ready: pastOf(
        'sla_violations',
        'violation_type, severity, metric_value, threshold, created_at, resolved_at',
        "'uptime', 1, 1, 1, now() - interval '501 days', now() - interval '500 days'",
      ),
      stop: (key) => ({ table: 'sla_violations', on: 'DELETE', row: { miner_id: key } }),
      ends: isGone('sla_violations'),
    },
  ],
  [
    {
      task: 'billing-send',
      name: 'a pause is noted',
      ready: due,
      stop: () => ({ table: 'usage_pause', on: 'INSERT', row: { is_only: true } }),
      mischief: () => ['429'],
    },
  ],
];

for (const fate of ['undone', 'committed'] as const) {
  test(`killed in each step, which is then ${fate}: every record is accepted once, the past is merged and deleted once`, {
    timeout: 120_000,
  }, async () => {
    for (const [n, round] of ROUNDS.entries()) {
      const steps = round.map((step, k) => ({ step, key: `${fate}-${n}-${k}` }));
      await killIn(steps, fate);
      await goOn();
      for (const { step, key } of steps) await (step.ends ?? isAcceptedOnce)(key);
    }
  });
}

async function killIn(steps: readonly { step: Step; key: string }[], fate: Fate): Promise<void> {
  await Promise.all(steps.map(({ step, key }) => step.ready(key)));
  const mischief = steps.flatMap(({ step }) => step.mischief?.(fate) ?? []);
  receiver.misbehave(mischief, mischief.length);
  const before = receiver.arrived().length;
  const waits = await Promise.all(
    steps.map(async ({ step, key }) => {
      const row = step.stop(key);
      if (row === undefined) return () => waitFor(() => receiver.arrived().length > before, { what: key });
      const id = await holds.add(row);
      return () => holds.reached(id, `${key}: ${step.name}`);
    }),
  );
  const TASKS = steps.map(({ step }) => step.task).join();
  const env = await h.env({ ...SETTINGS, TASKS });
  const worker = await h.startProcess('test/billing/run-tasks.ts', { env, ready: /begun/ });
  await Promise.all(waits.map((wait) => wait()));
  worker.signal('SIGKILL');
  await worker.exited;
  await holds.end(fate);
  receiver.misbehave([], 0);
}

/** What the next worker does, once the claims of the dead one have lapsed: everything, twice. */
async function goOn(): Promise<void> {
  const tasks = hubTasks({ ...hub, migrated: async () => {} }).filter(({ name }) =>
    (TASKS as readonly string[]).includes(name),
  );
  for (let again = 0; again < 2; again += 1) {
    await run(sql`delete from poolhub.usage_pause`);
    await run(sql`update poolhub.usage_records set due_at = now() - interval '1 s' where due_at is not null`);
    for (const task of tasks) await task.run(task.scheduled, Date.now());
  }
}

async function isAcceptedOnce(key: string): Promise<void> {
  const records = await recordsOf(hub, key);
  const accepted = receiver.accepted().filter(({ body }) => body.tenant_id === `tenant of ${key}`);
  assert.deepEqual(accepted.map((call) => call.key).sort(), records.map(({ id }) => id).sort(), key);
  assert.ok(records.every(({ sentAt }) => sentAt !== null));
  const units = (total: bigint, amount: unknown) => total + unitsOf(String(amount));
  const paid = accepted.map(({ body }) => body.total_amount).reduce(units, 0n);
  // A call; of those that worked before their profile was there an hour, and two of GPU.
  assert.equal(paid, unitsOf(records.length === 1 ? '0.0001' : '1.3001'), key);
  assert.ok([1, 3].includes(records.length), `${records.length} records of ${key}`);
}
