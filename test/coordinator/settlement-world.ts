import { randomBytes, randomInt } from 'node:crypto';
import { sql } from 'drizzle-orm';
import type { CompletedJob, JobOutcome } from '../../src/coordinator/receipts/receipt.ts';
import { completionEffects, type Money } from '../../src/coordinator/settlement/effects.ts';
import { connectDatabase, type Database, type Orm } from '../../src/platform/db.ts';
import type { Harness } from '../support/harness.ts';

export const SIGNING_SEED = 'e2c35a46318ec09cf1cc04f06c4ba18bf2cd3f0ed318d986f01228bdbf9fd326';
export const OTHER_SEED = '9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60';

/** The database of the test file, through the pool that the coordinator uses. */
export async function openDatabase(h: Harness): Promise<Database> {
  const config = await h.config();
  const db = connectDatabase(config, 'test');
  h.cleanup(() => db.close(2000));
  return db;
}

export function jobOf(more: Partial<CompletedJob> = {}): CompletedJob {
  return {
    jobId: randomBytes(16).toString('hex'),
    clientId: 'client-1',
    minerId: 'miner-1',
    payloadText: '{"task":"echo","x":1.0}',
    constraintsText: '{}',
    paymentAmount: '4.2',
    paymentCurrency: 'USD',
    startedAtMs: Date.UTC(2026, 0, 5, 10, 0, 0),
    ...more,
  };
}

export function outcomeOf(more: Partial<JobOutcome> = {}): JobOutcome {
  return {
    resultText: '{"ok":true,"n":1e16}',
    metricsText: '{"units":1.90,"price":0.00001}',
    completedAtMs: Date.UTC(2026, 0, 5, 10, 0, 2, 500),
    ...more,
  };
}

/** A row of a job as it is while its miner works on it. */
export async function insertRunning(orm: Orm, job: CompletedJob): Promise<void> {
  await orm.execute(sql`insert into coordinator.jobs (job_id, client_id, request_digest, state, payload, constraints,
      expires_at, assigned_miner_id, slot, started_at)
    select ${job.jobId}, ${job.clientId}, 'digest', 'RUNNING', ${job.payloadText}, ${job.constraintsText ?? '{}'},
      now() + interval '1 hour', ${job.minerId}, ${randomInt(2 ** 31)}::int, now()`);
}

/** Completes a job as the coordinator does: one statement. @returns the receipt, null without a key; undefined when the job is not running */
export async function complete(
  orm: Orm,
  money: Money,
  job: CompletedJob,
  outcome = outcomeOf(),
): Promise<string | null | undefined> {
  const { receiptText, inserts } = completionEffects(money, job, outcome);
  const rows = await orm.execute(sql`with completed as (
      update coordinator.jobs set state = 'COMPLETED', slot = null
      where job_id = ${job.jobId} and state = 'RUNNING' and assigned_miner_id = ${job.minerId} returning job_id
    ), ${inserts} select job_id from completed`);
  return rows.length === 1 ? receiptText : undefined;
}

export async function count(orm: Orm, table: string, jobId: string): Promise<number> {
  const [row] = await orm.execute<{ n: number }>(
    sql`select count(*)::int as n from ${sql.raw(`coordinator.${table}`)} where job_id = ${jobId}`,
  );
  return row?.n ?? 0;
}
