import { sql } from 'drizzle-orm';
import type { Database, Orm } from '../../platform/db.ts';
import type { Logger } from '../../platform/logger.ts';
import { statement } from '../../platform/statement.ts';
import { jobs } from '../jobs/tables.ts';
import { change, isIn, mayChange } from '../jobs/transition.ts';
import { type ViewRow, viewColumnsOf } from '../jobs/view.ts';

/** A job as it was assigned: given out anew, it is another assignment. */
export interface Assignment {
  readonly jobId: string;
  readonly attempts: number;
}

/** Notes of so many milliseconds go together. */
const GATHER_MS = 50;
const BATCH = 500;
/** What cannot be noted for longer than it takes to gather so many is given out again, and its first miner is told with its result. */
const MAX_WAITING = 10_000;
/** Much longer than an answer and its note take. */
const LOST_AFTER_SEC = 10;

/**
 * Notes which jobs their miners have been sent. A process that dies between the assignment and the answer leaves a job that runs
 * nowhere, and a miner that is full without knowing why: such jobs are found by the missing note.
 */
export class Deliveries {
  readonly #db: Database;
  readonly #log: Logger;
  #waiting: Assignment[] = [];
  #timer: NodeJS.Timeout | undefined;

  constructor(db: Database, log: Logger) {
    this.#db = db;
    this.#log = log;
  }

  note(assignment: Assignment): void {
    if (this.#waiting.length < MAX_WAITING) this.#waiting.push(assignment);
    this.#timer ??= setTimeout(() => void this.flush(), GATHER_MS);
  }

  /** Writes down what has gathered; what Postgres does not take now stays for the next time. */
  async flush(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const batch = this.#waiting.splice(0, BATCH);
    if (batch.length === 0) return;
    try {
      await markDelivered(this.#db, batch);
    } catch (error) {
      this.#log.debug({ err: error }, 'deliveries are noted later');
      this.#waiting.unshift(...batch);
    }
    if (this.#waiting.length > 0) this.#timer ??= setTimeout(() => void this.flush(), GATHER_MS);
  }

  /** Writes down what it can at once. */
  async close(): Promise<void> {
    await this.flush();
    clearTimeout(this.#timer);
  }
}

/** By a list of ids: a join would read all jobs while Postgres takes the table for empty. */
const deliver = statement<{ attempts: string }>(sql`
    update ${jobs} set delivered_at = now()
    where job_id = any(array(select jsonb_object_keys(${sql.placeholder('attempts')}::jsonb)))
      and attempts = (${sql.placeholder('attempts')}::jsonb ->> job_id)::int and ${isIn('jobs', 'RUNNING')} and delivered_at is null`);

async function markDelivered(db: Pick<Database, 'query'>, assignments: readonly Assignment[]): Promise<void> {
  // Of a job that was given out twice meanwhile, the later assignment.
  const attempts = Object.fromEntries(assignments.map(({ jobId, attempts }) => [jobId, attempts]));
  await db.query(deliver, { attempts: JSON.stringify(attempts) });
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
