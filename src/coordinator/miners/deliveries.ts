import { sql } from 'drizzle-orm';
import type { Database, Orm } from '../../platform/db.ts';
import type { Logger } from '../../platform/logger.ts';
import { statement } from '../../platform/statement.ts';
import { fullJitterMs } from '../../sdk/backoff.ts';
import { report } from '../jobs/effects.ts';
import { jobs } from '../jobs/tables.ts';
import { change, isIn, mayChange } from '../jobs/transition.ts';
import { type ViewRow, viewColumnsOf } from '../jobs/view.ts';
import { coordinatorMiners as miners } from './tables.ts';

/** A job as it was assigned: given out anew, it is another assignment. */
export interface Assignment {
  readonly jobId: string;
  readonly attempts: number;
  /** Of the session whose poll got it. */
  readonly sessionDigest: string;
  /** The place that the pool hub holds for it on its miner. */
  readonly reservationId: string | null;
}

/** Notes of so many milliseconds go together. */
const GATHER_MS = 50;
const BATCH = 500;
/** What cannot be noted for longer than it takes to gather so many is given out again, and its first miner is told with its result. */
const MAX_WAITING = 10_000;
/** Between attempts while Postgres does not take them: never so long that a job is taken for lost meanwhile. */
const RETRY = { baseMs: GATHER_MS, capMs: 1000 };
/** Much longer than an answer and its note take. */
const LOST_AFTER_SEC = 10;

/**
 * Notes which jobs their miners have been sent. A process that dies between the assignment and the answer leaves a job that runs
 * nowhere, and a miner that is full without knowing why: such jobs are found by the missing note. With the note goes the report to the pool hub that the
 * miner has accepted the job, which is billed: one that never reached it is not.
 */
export class Deliveries {
  readonly #db: Database;
  readonly #log: Logger;
  readonly #reports: boolean;
  /** By job; of one that was given out twice meanwhile, the later assignment. Those under way are in it until they are written. */
  readonly #waiting = new Map<string, Assignment>();
  #timer: NodeJS.Timeout | undefined;
  #writing: Promise<void> | undefined;
  #failures = 0;
  #isClosed = false;

  /** @param reports whether there is a pool hub that is told */
  constructor(db: Database, log: Logger, reports: boolean) {
    this.#db = db;
    this.#log = log;
    this.#reports = reports;
  }

  note(assignment: Assignment): void {
    if (this.#waiting.size < MAX_WAITING) this.#waiting.set(assignment.jobId, assignment);
    if (this.#writing === undefined) this.#schedule(GATHER_MS);
  }

  /** The place on its miner that was held for a job of which the note is not written yet. */
  reservationOf(jobId: string): string | null {
    return this.#waiting.get(jobId)?.reservationId ?? null;
  }

  /** Writes down all of it, or as much as Postgres takes at once. */
  async close(): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    await this.#writing;
    while (this.#waiting.size > 0 && (await this.#write()));
  }

  #schedule(waitMs: number): void {
    if (!this.#isClosed) this.#timer ??= setTimeout(() => this.#flush(), waitMs);
  }

  #flush(): void {
    this.#timer = undefined;
    this.#writing = this.#write().then((isWritten) => {
      this.#writing = undefined;
      this.#failures = isWritten ? 0 : this.#failures + 1;
      if (this.#waiting.size > 0)
        this.#schedule(GATHER_MS + (isWritten ? 0 : fullJitterMs(this.#failures, RETRY)));
    });
  }

  /** Writes a batch down. @returns whether Postgres took it; what it did not take stays for the next time */
  async #write(): Promise<boolean> {
    const batch = [...this.#waiting.values()].slice(0, BATCH);
    try {
      await markDelivered(this.#db, batch, this.#reports);
    } catch (error) {
      this.#log.debug({ err: error }, 'deliveries are noted later');
      return false;
    }
    for (const assignment of batch)
      if (this.#waiting.get(assignment.jobId) === assignment) this.#waiting.delete(assignment.jobId);
    return true;
  }
}

interface DeliverValues extends Record<string, unknown> {
  /** JSON objects by job. */
  readonly attempts: string;
  readonly sessions: string;
  readonly reservations: string;
  readonly reports: boolean;
}

/**
 * By a list of ids: a join would read all jobs while Postgres takes the table for empty. A job that its miner has finished meanwhile was reported as accepted
 * with that; one that ended otherwise was sent to it all the same. A job that a poll got while its miner registered anew went to a process that is gone.
 */
const deliver = statement<DeliverValues>(sql`
    with delivered as (
      update ${jobs} set delivered_at = now()
      where job_id = any(array(select jsonb_object_keys(${sql.placeholder('attempts')}::jsonb)))
        and attempts = (${sql.placeholder('attempts')}::jsonb ->> job_id)::int and ${isIn('jobs', 'RUNNING', 'CANCELED', 'EXPIRED')}
        and delivered_at is null
        and (select m.session_digest from ${miners} m where m.miner_id = jobs.assigned_miner_id) = ${sql.placeholder('sessions')}::jsonb ->> job_id
      returning job_id, assigned_miner_id as miner_id
    ) ${report(sql.placeholder('reports'), {
      from: 'delivered',
      outcome: 'accepted',
      reservationId: sql`${sql.placeholder('reservations')}::jsonb ->> r.job_id`,
    })}`);

async function markDelivered(
  db: Pick<Database, 'query'>,
  assignments: readonly Assignment[],
  reports: boolean,
): Promise<void> {
  const byJob = (memberOf: (assignment: Assignment) => unknown) =>
    JSON.stringify(Object.fromEntries(assignments.map((one) => [one.jobId, memberOf(one)])));
  const values = {
    attempts: byJob(({ attempts }) => attempts),
    sessions: byJob(({ sessionDigest }) => sessionDigest),
    reservations: byJob(({ reservationId }) => reservationId),
    reports,
  };
  await db.query(deliver, values);
}

/** Queues jobs again that were assigned a while ago and never sent, at most `limit`. It does not count as an attempt, nor against the miner. */
export async function takeBackUndelivered(orm: Orm, limit: number): Promise<ViewRow[]> {
  return orm.execute<ViewRow>(sql`
    update ${jobs} set ${change('requeue')}, attempts = jobs.attempts - 1
    where job_id in (
      select job_id from ${jobs} where state = 'RUNNING' and delivered_at is null
        and started_at < now() - ${LOST_AFTER_SEC}::float8 * interval '1 second'
      order by started_at limit ${limit} for update skip locked)
      and ${mayChange('requeue')}
    returning ${sql.raw(viewColumnsOf('jobs'))}`);
}
