import { type Placeholder, type SQL, sql } from 'drizzle-orm';
import { hubOutbox } from '../hub/tables.ts';
import { jobOffers } from './tables.ts';

/** A report to the pool hub, as SQL expressions over the rows of a common table expression. */
interface Report {
  /** Name of the expression, with columns `job_id` and `miner_id`. */
  readonly from: string;
  readonly outcome: 'accepted' | 'rejected' | 'failed' | 'completed';
  /** Reports before it that the miner had accepted the job: it may say how the job went before the note that it was sent the job is written. */
  readonly afterAccepted?: boolean;
  readonly reservationId?: SQL;
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
    afterAccepted = false,
    reservationId = sql`null::text`,
    latencyMs = 'null::float8',
    failCode = sql`null::text`,
    where = 'true',
  } = rest;
  const last = sql.raw(`'${outcome}'`);
  return sql`insert into ${hubOutbox} (job_id, miner_id, outcome, reservation_id, latency_ms, fail_code)
    select r.job_id, r.miner_id, o.outcome, case when o.place = 1 then ${reservationId} end,
      case when o.outcome = ${last} then ${sql.raw(latencyMs)} end, case when o.outcome = ${last} then ${failCode} end
    from ${sql.raw(from)} r, unnest(array[${afterAccepted ? sql.raw("'accepted', ") : sql``}${last}]) with ordinality o (outcome, place)
    where ${enabled}::boolean and ${sql.raw(where)} order by o.place
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
