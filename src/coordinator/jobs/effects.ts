import { type Placeholder, type SQL, sql } from 'drizzle-orm';
import { hubOutbox } from '../hub/tables.ts';
import { jobOffers } from './tables.ts';

/** A report to the pool hub, as SQL expressions over the rows of a common table expression. */
interface Report {
  /** Name of the expression, with columns `job_id` and `miner_id`. */
  readonly from: string;
  readonly outcome: 'accepted' | 'rejected' | 'failed' | 'completed';
  readonly reservationId?: string;
  readonly latencyMs?: string;
  readonly failCode?: SQL;
  readonly where?: string;
}

/**
 * Writes reports into the outbox of the pool hub, in the statement that makes the change. One that is written already stays as it is.
 * @param enabled whether there is a hub to report to
 */
export function report(enabled: boolean | Placeholder, { from, outcome, ...rest }: Report): SQL {
  const {
    reservationId = 'null::text',
    latencyMs = 'null::float8',
    failCode = sql`null::text`,
    where = 'true',
  } = rest;
  return sql`insert into ${hubOutbox} (job_id, miner_id, outcome, reservation_id, latency_ms, fail_code)
    select r.job_id, r.miner_id, ${outcome}, ${sql.raw(reservationId)}, ${sql.raw(latencyMs)}, ${failCode}
    from ${sql.raw(from)} r where ${enabled}::boolean and ${sql.raw(where)}
    on conflict (job_id, miner_id, outcome) do nothing`;
}

/**
 * Ends the offers of jobs that need no taker any more; offers that have lapsed already stay for their report.
 * @param from name of a common table expression with the column `job_id`
 */
export function endOffers(from: string): SQL {
  return sql`delete from ${jobOffers} o using ${sql.raw(from)} e
    where o.job_id = e.job_id and o.expires_at > now() returning o.job_id, o.miner_id, o.reservation_id`;
}
