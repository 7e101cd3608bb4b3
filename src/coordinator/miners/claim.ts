import { sql } from 'drizzle-orm';
import { type Database, isUniqueViolation, type Orm } from '../../platform/db.ts';
import { statement } from '../../platform/statement.ts';
import { report } from '../jobs/effects.ts';
import { jobOffers, jobs } from '../jobs/tables.ts';
import { change, mayChange } from '../jobs/transition.ts';
import { type ViewRow, viewColumnsOf } from '../jobs/view.ts';
import {
  fitsSql,
  IS_OPEN,
  type MinerOffer,
  OFFER_PLACEHOLDERS,
  type OfferValues,
  offerValues,
} from './fit.ts';
import { coordinatorMiners as miners } from './tables.ts';

/** A job that has just been assigned. */
export interface ClaimedJob {
  readonly row: ViewRow;
  /** JSON as the client sent it. */
  readonly payloadText: string;
  readonly constraintsText: string;
  /** How often it has been given to a miner, from 1. */
  readonly attempts: number;
  readonly waitedMs: number;
  /** Places that were held on other miners. */
  readonly reservationIds: readonly string[];
}

type ClaimedRow = ViewRow & {
  readonly payload: string;
  readonly constraints: string;
  readonly attempts: number;
  readonly waited_ms: number;
  readonly freed: string[] | null;
};

/** Polls of one miner at the same moment may reach for the same place; as many can lose in a row as there are polls. */
const CLAIM_ATTEMPTS = 5;

const minerId = sql`${sql.placeholder('minerId')}::text`;

const claim = statement<{ minerId: string; reports: boolean } & OfferValues>(sql`
    with place as materialized (
      select s.slot from ${miners} m, generate_series(1, m.concurrency) s (slot)
      where m.miner_id = ${minerId} and m.status = 'ONLINE'
        and not exists (select from ${jobs} r where r.assigned_miner_id = ${minerId} and r.state = 'RUNNING' and r.slot = s.slot)
      order by s.slot limit 1
    ), offered as materialized (
      select j.job_id from ${jobOffers} o join ${jobs} j on j.job_id = o.job_id
      where o.miner_id = ${minerId} and o.expires_at > now() and j.state = 'QUEUED' and j.expires_at > now()
        and exists (select from place)
      order by j.requested_at, j.job_id limit 1 for update of j skip locked
    ), open as materialized (
      select job_id from ${jobs}
      where ${IS_OPEN} and ${fitsSql(OFFER_PLACEHOLDERS)}
        and exists (select from place) and not exists (select from offered)
      order by requested_at, job_id limit 1 for update skip locked
    ), claimed as (
      update ${jobs} set ${change('assign')}, assigned_miner_id = ${minerId}, slot = place.slot, started_at = now(),
        attempts = attempts + 1
      from place
      where jobs.job_id in (select job_id from offered union all select job_id from open) and ${mayChange('assign')}
      returning ${sql.raw(viewColumnsOf('jobs'))}, payload, constraints, attempts, jobs.assigned_miner_id as miner_id,
        (extract(epoch from now() - requested_at) * 1000)::float8 as waited_ms
    ), freed as (
      delete from ${jobOffers} o using claimed c
      where o.job_id = c.job_id and (o.expires_at > now() or o.miner_id = c.miner_id)
      returning o.job_id, o.miner_id, o.reservation_id
    ), seen as (
      update ${miners} set last_seen_at = now() where miner_id in (select miner_id from claimed)
    ), reported as (${report(sql.placeholder('reports'), {
      from: 'claimed',
      outcome: 'accepted',
      reservationId:
        '(select f.reservation_id from freed f where f.job_id = r.job_id and f.miner_id = r.miner_id)',
    })})
    select c.*, (select array_to_json(array_agg(f.reservation_id)) from freed f
      where f.miner_id <> c.miner_id and f.reservation_id is not null) as freed
    from claimed c`);

/**
 * Gives a miner a job, in one statement: the oldest of those offered to it, else the oldest open one that it fits. Rows that
 * others are reaching for are skipped, so no job is given twice and nobody waits. The job holds a place of the miner
 * (`slot`), unique while it runs, so the miner never has more than its concurrency.
 * @param reports whether there is a pool hub that is told
 * @returns undefined when there is nothing for this miner, it is full, or it is not online
 */
export async function claimJob(
  db: Pick<Database, 'query'>,
  minerId: string,
  offer: MinerOffer,
  reports: boolean,
): Promise<ClaimedJob | undefined> {
  const values = { minerId, reports, ...offerValues(offer) };
  for (let attempt = 1; ; attempt += 1) {
    try {
      const [row] = await db.query<ClaimedRow, typeof values>(claim, values);
      return row === undefined ? undefined : claimedJob(row);
    } catch (error) {
      if (!isUniqueViolation(error) || attempt === CLAIM_ATTEMPTS) throw error;
    }
  }
}

/**
 * Puts a job back whose miner went away before it could be given to it. Does not count as an attempt.
 * @returns undefined when it is not this miner's any more
 */
export async function putBack(orm: Orm, claimed: ClaimedJob): Promise<ViewRow | undefined> {
  const [row] = await orm.execute<ViewRow>(sql`
    update ${jobs} set ${change('requeue')}, attempts = attempts - 1
    where job_id = ${claimed.row.job_id} and assigned_miner_id = ${claimed.row.assigned_miner_id}
      and attempts = ${claimed.attempts} and ${mayChange('requeue')}
    returning ${sql.raw(viewColumnsOf('jobs'))}`);
  return row;
}

function claimedJob(row: ClaimedRow): ClaimedJob {
  const { payload, constraints, attempts, waited_ms, freed } = row;
  return {
    row,
    payloadText: payload,
    constraintsText: constraints,
    attempts,
    waitedMs: waited_ms,
    reservationIds: freed ?? [],
  };
}
