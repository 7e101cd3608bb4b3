import { type SQL, sql } from 'drizzle-orm';
import type { Database } from '../../platform/db.ts';
import { AppError } from '../../platform/errors.ts';
import { statement } from '../../platform/statement.ts';
import type { CoordinatorDeps } from '../deps.ts';
import { report } from '../jobs/effects.ts';
import type { JobState } from '../jobs/states.ts';
import { jobs } from '../jobs/tables.ts';
import { change, mayChange } from '../jobs/transition.ts';
import { type ViewRow, viewColumnsOf } from '../jobs/view.ts';
import { completionEffects } from '../settlement/effects.ts';
import { mustRegister } from './poll.ts';
import { coordinatorMiners as miners } from './tables.ts';

/** The miner that reports. */
export interface Reporter {
  readonly minerId: string;
  /** Of the session the miner says it has; null when it says nothing. */
  readonly sessionDigest: string | null;
}

/** What a miner reports of a job. Texts are JSON as received. */
export interface Completion {
  readonly resultText: string;
  readonly metricsText: string | null;
}

export interface Failure {
  readonly errorCode: string;
  readonly errorMessage: string;
  /** What the miner sent as result beside; null when nothing. */
  readonly resultText: string | null;
  readonly metricsText: string | null;
}

interface AssignedRow extends Record<string, unknown> {
  readonly state: JobState;
  readonly is_due: boolean;
  /** Whether the session that reports is the miner's. */
  readonly is_current: boolean;
  readonly now: string;
  readonly client_id: string;
  readonly payload: string;
  readonly constraints: string;
  readonly payment_amount: string | null;
  readonly payment_currency: string | null;
  readonly attempts: number;
  readonly started_at: string;
}

export interface Completed {
  readonly row: ViewRow;
  /** JSON; null when no signing key is set. */
  readonly receiptText: string | null;
}

const view = sql.raw(viewColumnsOf('jobs'));
const runMs = sql.raw('(extract(epoch from jobs.finished_at - jobs.started_at) * 1000)::float8 as run_ms');

/**
 * Takes the result of a job: job, receipt, settlement, usage, counters and the report to the pool hub in one statement, so all of it or
 * nothing.
 * @throws AppError `not_found` for another miner's job, `session_unknown` for a former session of this one, `conflict` for a job that is over
 */
export async function completeJob(
  { db, money, hub, deliveries }: Pick<CoordinatorDeps, 'db' | 'money' | 'hub' | 'deliveries'>,
  reporter: Reporter,
  jobId: string,
  { resultText, metricsText }: Completion,
): Promise<Completed> {
  const job = await findRunning(db, reporter, jobId);
  const startedAtMs = Date.parse(job.started_at);
  // By the clock that started it: those of replicas differ, and the time between is billed. Moments are rounded when they are stored.
  const completedAtMs = Math.max(startedAtMs, Date.parse(job.now));
  const assigned = {
    jobId,
    clientId: job.client_id,
    minerId: reporter.minerId,
    payloadText: job.payload,
    constraintsText: job.constraints,
    paymentAmount: job.payment_amount,
    paymentCurrency: job.payment_currency,
    startedAtMs,
  };
  const effects = completionEffects(money, assigned, { resultText, metricsText, completedAtMs });
  const finishedAt = new Date(completedAtMs).toISOString();
  const [row] = await db.queryBuilt<ViewRow>(sql`
    with completed as (
      update ${jobs} set ${change('complete')}, result = ${resultText}, metrics = ${metricsText}
      where ${isStill(reporter, jobId, job.attempts)} and ${mayChange('complete')}
      returning ${view}, jobs.assigned_miner_id as miner_id,
        (extract(epoch from ${finishedAt}::timestamptz - jobs.started_at) * 1000)::float8 as run_ms
    ), counted as (
      update ${miners} m set jobs_completed = m.jobs_completed + 1, busy_ms = m.busy_ms + round(c.run_ms)::int8, last_seen_at = now()
      from completed c where m.miner_id = c.miner_id
    ), reported as (${report(hub !== undefined, { from: 'completed', outcome: 'completed', afterAccepted: true, reservationId: sql`${deliveries.reservationOf(jobId)}::text`, latencyMs: 'r.run_ms' })}),
    ${effects.inserts}
    select * from completed`);
  if (row === undefined) throw await whyNot(db, reporter, jobId);
  return { row, receiptText: effects.receiptText };
}

/**
 * Takes the report of a miner that a job has failed.
 * @throws AppError as completeJob
 */
export async function failJob(
  { db, hub, deliveries }: Pick<CoordinatorDeps, 'db' | 'hub' | 'deliveries'>,
  reporter: Reporter,
  jobId: string,
  { errorCode, errorMessage, resultText, metricsText }: Failure,
): Promise<ViewRow> {
  const job = await findRunning(db, reporter, jobId);
  const [row] = await db.queryBuilt<ViewRow>(sql`
    with failed as (
      update ${jobs} set ${change('fail')}, error_code = ${errorCode}, error_message = ${errorMessage},
        result = ${resultText}, metrics = ${metricsText}
      where ${isStill(reporter, jobId, job.attempts)} and ${mayChange('fail')}
      returning ${view}, jobs.assigned_miner_id as miner_id, ${runMs}
    ), counted as (
      update ${miners} m set jobs_failed = m.jobs_failed + 1, last_seen_at = now() from failed f where m.miner_id = f.miner_id
    ), reported as (${report(hub !== undefined, {
      from: 'failed',
      outcome: 'failed',
      afterAccepted: true,
      reservationId: sql`${deliveries.reservationOf(jobId)}::text`,
      latencyMs: 'r.run_ms',
      failCode: sql`${errorCode}`,
    })})
    select * from failed`);
  if (row === undefined) throw await whyNot(db, reporter, jobId);
  return row;
}

/** The assignment that was looked at: a job that was queued again and given to the same miner anew is another one. */
function isStill({ minerId, sessionDigest }: Reporter, jobId: string, attempts: number): SQL {
  return sql`jobs.job_id = ${jobId} and jobs.assigned_miner_id = ${minerId} and jobs.attempts = ${attempts}::int and jobs.expires_at > now()
    and ${isCurrent(sql`${minerId}`, sql`${sessionDigest}`)}`;
}

/** One that a former session of the miner reports may be running in the present one. */
function isCurrent(minerId: SQL, sessionDigest: SQL): SQL {
  return sql`(${sessionDigest}::text is null or exists (
    select from ${miners} m where m.miner_id = ${minerId} and m.session_digest = ${sessionDigest}))`;
}

type Queries = Pick<Database, 'query'>;

interface AssignedValues extends Reporter, Record<string, unknown> {
  readonly jobId: string;
}

const assigned = statement<AssignedValues>(sql`
    select state, expires_at <= now() as is_due, now() as now,
      ${isCurrent(sql`${sql.placeholder('minerId')}`, sql`${sql.placeholder('sessionDigest')}`)} as is_current, client_id, payload, constraints, payment_amount, payment_currency, attempts, started_at
    from ${jobs} where job_id = ${sql.placeholder('jobId')} and assigned_miner_id = ${sql.placeholder('minerId')}`);

async function findRunning(db: Queries, reporter: Reporter, jobId: string): Promise<AssignedRow> {
  const job = await findAssigned(db, reporter, jobId);
  if (job.state !== 'RUNNING' || job.is_due) throw isOver(job);
  return job;
}

async function findAssigned(db: Queries, reporter: Reporter, jobId: string): Promise<AssignedRow> {
  const [job] = await db.query<AssignedRow, AssignedValues>(assigned, { ...reporter, jobId });
  if (job === undefined) throw new AppError('not_found', 'this miner has no such job');
  if (!job.is_current) throw mustRegister();
  return job;
}

/** Why the guarded update found nothing although the job was running a moment ago. */
async function whyNot(db: Queries, reporter: Reporter, jobId: string): Promise<AppError> {
  return isOver(await findAssigned(db, reporter, jobId));
}

function isOver({ state, is_due }: AssignedRow): AppError {
  return new AppError('conflict', `the job is ${state === 'RUNNING' && is_due ? 'EXPIRED' : state}`);
}
