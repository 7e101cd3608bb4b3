import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sql } from 'drizzle-orm';
import postgres from 'postgres';
import { fitsSql, IS_OPEN, offerOf, offerValues } from '../../src/coordinator/miners/fit.ts';
import { harness } from '../support/harness.ts';
import { waitFor } from '../support/wait-for.ts';
import { ALICE, asMiner, openReplica, pollOnce, type Replica, register, submit } from './replica.ts';
import { openDatabase } from './settlement-world.ts';

const h = await harness();
const db = await openDatabase(h);

/** Enough that reading all of them would be seen, or be dearer than an index for the planner. */
const FINISHED = 20_000;
const MINERS = 4;
/** Postgres keeps a plan from the sixth time on. */
const LIVES_TO_PLAN = 12;

async function finish(replica: Replica, minerId: string, jobId: string): Promise<void> {
  const answer = await replica.call('POST', `/v1/miners/${jobId}/result`, {
    headers: asMiner(minerId),
    body: { result: {} },
  });
  assert.equal(answer.status, 200, answer.text);
}

/** Jobs from submission to result, half of them taken by a first look, half by polls that are held. */
async function live(replica: Replica, count: number): Promise<void> {
  for (let n = 0; n < count; n += 1) {
    const minerId = `m${n % MINERS}`;
    const isHeld = n % 2 === 0;
    const before = isHeld ? pollOnce(replica, minerId, 10) : undefined;
    if (isHeld)
      await waitFor(async () => (await replica.call('GET', '/health')).json.polls_held === 1, {
        what: 'the poll is held',
      });
    const submitted = await submit(replica);
    const jobId = await (before ?? pollOnce(replica, minerId));
    assert.equal(jobId, submitted);
    await finish(replica, minerId, jobId as string);
    assert.equal(
      (await replica.call('GET', `/v1/jobs/${jobId}/result`, { headers: ALICE })).status,
      200,
      'the client has its result',
    );
  }
}

test('the life of a job reads few rows of a large table, though its plans are from when it was empty', {
  timeout: 120_000,
}, async () => {
  const client = postgres(await h.db(), { max: 1, onnotice: () => {} });
  h.cleanup(() => client.end());
  await client`alter table coordinator.jobs set (autovacuum_enabled = off)`;
  const replica = await openReplica(h, { DB_POOL_MAX: '2', SWEEP_INTERVAL_MS: '60000' });
  for (let n = 0; n < MINERS; n += 1) await register(replica, `m${n}`);
  await live(replica, LIVES_TO_PLAN);
  await client`
    insert into coordinator.jobs (job_id, client_id, request_digest, state, payload, constraints, requested_at, expires_at, finished_at,
      assigned_miner_id, attempts)
    select md5(n::text), 'alice', '', 'COMPLETED', '{}', '{}', now(), now() + interval '1 hour', now(), 'm' || n % ${MINERS}::int, 1
    from generate_series(1, ${FINISHED}::int) n`;
  await live(replica, LIVES_TO_PLAN);
  await replica.stop();
  // The backends tell what they have read when they end.
  const reads = async () => {
    const [row] = await client<{ n: number; submitted: number }[]>`
      select (seq_tup_read + idx_tup_fetch)::float8 as n, n_tup_ins::float8 as submitted
      from pg_stat_user_tables where schemaname = 'coordinator' and relname = 'jobs'`;
    return (row?.submitted ?? 0) === FINISHED + 2 * LIVES_TO_PLAN ? row?.n : undefined;
  };
  const read = await waitFor(reads, { what: 'the backends have told' });
  assert.ok(read < FINISHED / 10, `${read} rows were read for ${2 * LIVES_TO_PLAN} jobs`);
});

test('beside finished jobs the queue is found by its index', { timeout: 120_000 }, async () => {
  await db.run(
    (orm) =>
      orm.execute(sql`
      insert into coordinator.jobs (job_id, client_id, request_digest, state, payload, constraints, expires_at, finished_at, assigned_miner_id, slot)
      select md5('bulk' || n), 'bulk', '', case n % 50 when 0 then 'QUEUED' when 1 then 'RUNNING' else 'COMPLETED' end, '{}', '{}',
        now() + interval '1 hour', now(), 'm' || n % 100, case when n % 50 = 1 then n end
      from generate_series(1, ${FINISHED}::int) n`),
    60_000,
  );
  await db.run((orm) => orm.execute(sql`analyze coordinator.jobs`), 60_000);
  const plan = async (query: ReturnType<typeof sql>) => {
    const rows = await db.run((orm) => orm.execute(sql`explain (costs off) ${query}`));
    return rows.map((row) => row['QUERY PLAN']).join('\n');
  };
  const offer = offerOf({}, null);
  const queued = await plan(sql`select job_id from coordinator.jobs
    where ${IS_OPEN} and ${fitsSql(offerValues(offer))}
    order by requested_at, job_id limit 1 for update skip locked`);
  assert.match(queued, /idx_jobs_queued/);
  const due =
    await plan(sql`select job_id from coordinator.jobs where state in ('QUEUED', 'RUNNING') and expires_at <= now()
    order by expires_at limit 200 for update skip locked`);
  assert.match(due, /idx_jobs_due/);
  const running = await plan(
    sql`select 1 from coordinator.jobs where assigned_miner_id = 'm1' and state = 'RUNNING' and slot = 1`,
  );
  assert.match(running, /idx_jobs_slot/);
  const listed = await plan(
    sql`select job_id from coordinator.jobs where client_id = 'bulk' order by job_id desc limit 51`,
  );
  for (const found of [queued, due, running, listed]) assert.doesNotMatch(found, /Seq Scan|Sort/, found);
});
