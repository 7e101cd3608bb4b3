import { type SQL, sql } from 'drizzle-orm';
import type { Database, Orm } from '../../platform/db.ts';
import { isUniqueViolation } from '../../platform/db-errors.ts';
import { statement } from '../../platform/statement.ts';
import { jobOffers, jobs } from '../jobs/tables.ts';
import { change, isIn, mayChange } from '../jobs/transition.ts';
import { type ViewRow, viewColumnsOf } from '../jobs/view.ts';
import {
  fitsSql,
  IS_OPEN,
  type MinerOffer,
  OFFER_PLACEHOLDERS,
  type OfferValues,
  offerValues,
} from './fit.ts';
import { type MinerStatus, coordinatorMiners as miners } from './tables.ts';

/** A job that has just been assigned. */
export interface ClaimedJob {
  readonly row: ViewRow;
  /** JSON as the client sent it. */
  readonly payloadText: string;
  readonly constraintsText: string;
  /** How often it has been given to a miner, from 1. */
  readonly attempts: number;
  /** Of the session whose poll it was given to. */
  readonly sessionDigest: string;
  readonly waitedMs: number;
  /** The place that was held for the job on this miner; null when none was. */
  readonly reservationId: string | null;
  /** Places that were held on other miners. */
  readonly otherReservationIds: readonly string[];
}

type ClaimedRow = ViewRow & {
  readonly payload: string;
  readonly constraints: string;
  readonly attempts: number;
  readonly waited_ms: number;
  readonly reservation_id: string | null;
  readonly freed: string[] | null;
};

/** A row of an outer join with what was claimed. */
type MaybeClaimedRow = ClaimedRow | { readonly job_id: null };

/** Polls of one miner at the same moment may reach for the same place; as many can lose in a row as there are polls. */
const CLAIM_ATTEMPTS = 5;

const minerId = sql`${sql.placeholder('minerId')}::text`;
const sessionDigest = sql`${sql.placeholder('sessionDigest')}::text`;

/**
 * Assigns jobs: the expressions of a `with` from the update on, after one named `taken` with the columns job_id, miner_id and slot. The jobs
 * in it are locked and fit their miners. Jobs are found by a list of ids and not by a join, which Postgres, while it takes the table for empty, would begin
 * with all jobs. `claimed` has them then, `claimed_view` with the places that were held for them. That the miner has accepted the job, the pool hub is
 * told when the job has been sent to it (deliveries.ts).
 */
const assignTaken = sql`claimed as (
      update ${jobs} set ${change('assign')}, started_at = now(), attempts = attempts + 1,
        (assigned_miner_id, slot) = (select t.miner_id, t.slot from taken t where t.job_id = jobs.job_id)
      where jobs.job_id = any(array(select job_id from taken)) and ${mayChange('assign')}
      returning ${sql.raw(viewColumnsOf('jobs'))}, payload, constraints, attempts, jobs.assigned_miner_id as miner_id,
        (extract(epoch from now() - requested_at) * 1000)::float8 as waited_ms
    ), freed as (
      delete from ${jobOffers} o using claimed c
      where o.job_id = c.job_id and (o.expires_at > now() or o.miner_id = c.miner_id)
      returning o.job_id, o.miner_id, o.reservation_id
    ), claimed_view as (
      select c.*, (select f.reservation_id from freed f where f.job_id = c.job_id and f.miner_id = c.miner_id) as reservation_id,
        (select array_to_json(array_agg(f.reservation_id)) from freed f
        where f.job_id = c.job_id and f.miner_id <> c.miner_id and f.reservation_id is not null) as freed
      from claimed c
    )`;

/** The lowest free place of a miner, from a row of it named `m`. Not as an anti-join, which would read all that the miner ever ran. */
const freeSlot: SQL = sql`select s.slot from generate_series(1, m.concurrency) s (slot)
      where (select 1 from ${jobs} r where r.assigned_miner_id = m.miner_id and r.state = 'RUNNING' and r.slot = s.slot limit 1) is null
      order by s.slot limit 1`;

interface LookValues extends OfferValues {
  readonly minerId: string;
  readonly sessionDigest: string;
}

const lookStatement = statement<LookValues>(sql`
    with seen as (
      update ${miners} set last_seen_at = now(), status = case when status = 'OFFLINE' then 'ONLINE' else status end
      where miner_id = ${minerId} and session_digest = ${sessionDigest}
      returning miner_id, status, concurrency
    ), place as materialized (
      select m.miner_id, s.slot from seen m, lateral (${freeSlot}) s where m.status = 'ONLINE'
    ), offered as materialized (
      select job_id from ${jobs}
      where job_id = any(array(select o.job_id from ${jobOffers} o where o.miner_id = ${minerId} and o.expires_at > now()))
        and ${isIn('jobs', 'QUEUED')} and expires_at > now() and exists (select from place)
      order by requested_at, job_id limit 1 for update skip locked
    ), open as materialized (
      select job_id from ${jobs}
      where ${IS_OPEN} and ${fitsSql(OFFER_PLACEHOLDERS)}
        and exists (select from place) and not exists (select from offered)
      order by requested_at, job_id limit 1 for update skip locked
    ), taken as materialized (
      select j.job_id, place.miner_id, place.slot
      from (select job_id from offered union all select job_id from open) j, place
    ), ${assignTaken}
    select seen.status, c.* from seen left join claimed_view c on true`);

/** What a poll finds at first. */
export interface Look {
  readonly status: MinerStatus;
  readonly claimed: ClaimedJob | undefined;
}

/**
 * Notes that a miner polls, and gives it a job, in one statement: the oldest of those offered to it, else the oldest open one that it fits.
 * Rows that others are reaching for are skipped, so no job is given twice and nobody waits. The job holds a place of the
 * miner (`slot`), unique while it runs, so the miner never has more than its concurrency.
 * @param sessionDigest of the session that polls
 * @param offer what the miner registered with it
 * @returns undefined when the miner has registered under another session since. It gets no job when there is none for it,
 * it is full, or it is not online
 */
export async function look(
  db: Pick<Database, 'query'>,
  miner: { readonly minerId: string; readonly sessionDigest: string; readonly offer: MinerOffer },
): Promise<Look | undefined> {
  const { minerId, sessionDigest, offer } = miner;
  const values: LookValues = { minerId, sessionDigest, ...offerValues(offer) };
  type Row = MaybeClaimedRow & { readonly status: MinerStatus };
  const [row] = await repeatedly(() => db.query<Row, LookValues>(lookStatement, values));
  return row === undefined ? undefined : { status: row.status, claimed: claimedJob(row, sessionDigest) };
}

/** A job for a miner whose poll is held, and which it fits. */
export interface Pair {
  readonly jobId: string;
  readonly minerId: string;
  /** Of the session that polls. */
  readonly sessionDigest: string;
}

export interface Assignment extends Pair {
  /** Whether the session is still the miner's; nothing is given to another. */
  readonly isCurrent: boolean;
  /** Whether the miner was online and had a free place; if not, the job may still be there for another one. */
  readonly hadPlace: boolean;
  readonly claimed: ClaimedJob | undefined;
}

interface AssignValues extends Record<string, unknown> {
  /** JSON lists: the first job is for the first miner. */
  readonly jobIds: string;
  readonly minerIds: string;
  readonly sessionDigests: string;
}

/** Miners that another statement has locked were seen by that one. */
const assignStatement = statement<AssignValues>(sql`
    with asked as materialized (
      select p.job_id, p.miner_id, p.session_digest, m.is_current, s.slot
      from unnest(array(select jsonb_array_elements_text(${sql.placeholder('jobIds')}::jsonb)),
        array(select jsonb_array_elements_text(${sql.placeholder('minerIds')}::jsonb)),
        array(select jsonb_array_elements_text(${sql.placeholder('sessionDigests')}::jsonb))) as p (job_id, miner_id, session_digest)
      left join lateral (
        select m.miner_id, m.session_digest = p.session_digest as is_current,
          case when m.status = 'ONLINE' and m.session_digest = p.session_digest then m.concurrency else 0 end as concurrency
        from ${miners} m where m.miner_id = p.miner_id limit 1
      ) m on true
      left join lateral (${freeSlot}) s on true
    ), taken as materialized (
      select j.job_id, a.miner_id, a.slot from asked a, lateral (
        select j.job_id from ${jobs} j
        where j.job_id = a.job_id and a.slot is not null and ${isIn('j', 'QUEUED')} and j.expires_at > now()
          and (j.open_at <= now() or exists (select from ${jobOffers} o
            where o.job_id = j.job_id and o.miner_id = a.miner_id and o.expires_at > now()))
        limit 1 for update skip locked) j
    ), ${assignTaken}, seen as (
      update ${miners} set last_seen_at = now() where miner_id in (
        select m.miner_id from claimed c, lateral (
          select m.miner_id from ${miners} m where m.miner_id = c.miner_id limit 1 for update skip locked) m)
    )
    select a.miner_id as asked_miner_id, a.job_id as asked_job_id, a.session_digest, coalesce(a.is_current, false) as is_current,
      a.slot is not null as had_place, c.*
    from asked a left join claimed_view c on c.job_id = a.job_id`);

/**
 * Gives each job to its miner, all in one statement, as far as it is still to be had and the miner has a place and the same session.
 * @param pairs no job and no miner twice
 * @throws what Postgres throws; a unique violation when another statement filled a place of one of the miners at that moment
 */
export async function assign(db: Pick<Database, 'query'>, pairs: readonly Pair[]): Promise<Assignment[]> {
  type Row = MaybeClaimedRow & {
    readonly asked_miner_id: string;
    readonly asked_job_id: string;
    readonly session_digest: string;
    readonly is_current: boolean;
    readonly had_place: boolean;
  };
  const values = {
    jobIds: JSON.stringify(pairs.map(({ jobId }) => jobId)),
    minerIds: JSON.stringify(pairs.map(({ minerId }) => minerId)),
    sessionDigests: JSON.stringify(pairs.map(({ sessionDigest }) => sessionDigest)),
  };
  const query = () => db.query<Row, AssignValues>(assignStatement, values);
  const rows = await (pairs.length === 1 ? repeatedly(query) : query());
  return rows.map((row) => ({
    jobId: row.asked_job_id,
    minerId: row.asked_miner_id,
    sessionDigest: row.session_digest,
    isCurrent: row.is_current,
    hadPlace: row.had_place,
    claimed: claimedJob(row, row.session_digest),
  }));
}

/**
 * Puts a job back whose miner went away before it could be given to it. Does not count as an attempt.
 * @returns undefined when it is not this miner's any more, or another answer has brought it the job
 */
export async function putBack(orm: Orm, claimed: ClaimedJob): Promise<ViewRow | undefined> {
  const [row] = await orm.execute<ViewRow>(sql`
    update ${jobs} set ${change('requeue')}, attempts = attempts - 1
    where job_id = ${claimed.row.job_id} and assigned_miner_id = ${claimed.row.assigned_miner_id}
      and attempts = ${claimed.attempts} and delivered_at is null and ${mayChange('requeue')}
    returning ${sql.raw(viewColumnsOf('jobs'))}`);
  return row;
}

/** Tries again when another statement was quicker to fill the place. */
async function repeatedly<T>(query: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await query();
    } catch (error) {
      if (!isUniqueViolation(error) || attempt === CLAIM_ATTEMPTS) throw error;
    }
  }
}

function claimedJob(row: MaybeClaimedRow, sessionDigest: string): ClaimedJob | undefined {
  if (row.job_id === null) return undefined;
  const { payload, constraints, attempts, waited_ms, reservation_id, freed } = row as ClaimedRow;
  return {
    row: row as ClaimedRow,
    payloadText: payload,
    constraintsText: constraints,
    attempts,
    sessionDigest,
    waitedMs: waited_ms,
    reservationId: reservation_id,
    otherReservationIds: freed ?? [],
  };
}
