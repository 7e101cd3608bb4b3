import { sql } from 'drizzle-orm';
import type { Database } from '../../platform/db.ts';
import { firstIdOf } from './job-id.ts';
import { isTerminal, JOB_STATES } from './states.ts';
import { jobs } from './tables.ts';

const DAY_MS = 86_400_000;

const TERMINAL = sql.raw(
  JOB_STATES.filter(isTerminal)
    .map((state) => `'${state}'`)
    .join(', '),
);

/**
 * Deletes jobs that have been over for longer than `keepDays`, and with them their payloads, results and idempotency keys. Receipts,
 * settlements and usage records stay. Ids grow with time, so an index leads to the oldest, and none on the time of their end is needed.
 * @returns deletes the next of them, at most `limit`; says how many
 */
export function createRetention(
  { db }: { readonly db: Pick<Database, 'run'> },
  keepDays: number,
): (limit: number) => Promise<number> {
  // What is deleted stays in the index until a vacuum: the next batch begins behind it.
  let after = '';
  return async (limit) => {
    const before = firstIdOf(Date.now() - keepDays * DAY_MS);
    const rows = await db.run((orm) =>
      orm.execute<{ job_id: string }>(sql`
        delete from ${jobs} where job_id in (
          select job_id from ${jobs}
          where job_id > ${after} and job_id < ${before} and state in (${TERMINAL})
            and finished_at < now() - ${keepDays}::float8 * interval '1 day'
          order by job_id limit ${limit} for update skip locked)
        returning job_id`),
    );
    const last = rows.reduce((max, { job_id }) => (job_id > max ? job_id : max), after);
    after = rows.length === limit ? last : '';
    return rows.length;
  };
}
