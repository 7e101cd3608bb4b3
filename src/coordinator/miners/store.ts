import { type Placeholder, type SQL, sql } from 'drizzle-orm';
import type { Database, Orm } from '../../platform/db.ts';
import { statement } from '../../platform/statement.ts';
import { report } from '../jobs/effects.ts';
import { jobs } from '../jobs/tables.ts';
import { change, mayChange } from '../jobs/transition.ts';
import { type ViewRow, viewColumnsOf } from '../jobs/view.ts';
import type { Capabilities } from './fit.ts';
import { coordinatorMiners as miners } from './tables.ts';

export interface Registration {
  readonly minerId: string;
  /** JSON. */
  readonly capabilitiesText: string;
  readonly concurrency: number;
  readonly region: string | null;
  readonly sessionDigest: string;
}

/** Stores a miner, or what it registers anew. */
export async function upsertMiner(orm: Orm, miner: Registration): Promise<void> {
  await orm.execute(sql`
    insert into ${miners} (miner_id, capabilities, concurrency, region, status, session_digest)
    values (${miner.minerId}, ${miner.capabilitiesText}::jsonb, ${miner.concurrency}, ${miner.region}, 'ONLINE', ${miner.sessionDigest})
    on conflict (miner_id) do update set capabilities = excluded.capabilities, concurrency = excluded.concurrency,
      region = excluded.region, status = 'ONLINE', inflight = 0, metadata = null, session_digest = excluded.session_digest,
      registered_at = now(), last_seen_at = now()`);
}

export interface Beat {
  /** Undefined when the miner does not say. */
  readonly inflight: number | undefined;
  readonly status: 'ONLINE' | 'DRAINING';
  readonly metadataText: string | null;
  /** The jobs that the miner says it works on; undefined when it says nothing of them. */
  readonly currentJobs: readonly string[] | undefined;
}

export interface BeatAnswer extends Record<string, unknown> {
  readonly status: 'ONLINE' | 'DRAINING';
  /** It was sent jobs of which it does not know any more. */
  readonly has_dropped: boolean;
}

/** Longer than a sign of life is on its way, all its repetitions counted: one that was written before the job came does not know of it. */
const DROPPED_AFTER_SEC = 30;

/** Whether a running job of a miner is none of those that it works on. */
function isDropped(currentJobs: readonly string[]): SQL {
  return sql`jobs.delivered_at < now() - ${DROPPED_AFTER_SEC}::float8 * interval '1 second'
    and jobs.job_id not in (select jsonb_array_elements_text(${JSON.stringify(currentJobs)}::jsonb))`;
}

/**
 * Whether a row of miners has this session, or any: a miner that drained and went silent has none, until it registers again.
 * @param sessionDigest of the session the miner says it has; null when it says nothing
 */
function hasSession(sessionDigest: string | null | Placeholder): SQL {
  return sql`(session_digest = coalesce(${sessionDigest}::text, session_digest) and session_digest <> '')`;
}

/**
 * Notes a sign of life. Who drains goes on draining until it registers again.
 * @param sessionDigest of the session the miner says it has; null when it says nothing
 * @returns undefined when the miner must register first: it is unknown, has registered under another session since, or drained and went silent
 */
export async function beat(
  orm: Orm,
  minerId: string,
  sessionDigest: string | null,
  { inflight, status, metadataText, currentJobs }: Beat,
): Promise<BeatAnswer | undefined> {
  const dropped =
    currentJobs === undefined
      ? sql`false`
      : sql`exists (select from ${jobs} where jobs.assigned_miner_id = ${minerId} and jobs.state = 'RUNNING' and ${isDropped(currentJobs)})`;
  const [row] = await orm.execute<BeatAnswer>(sql`
    update ${miners} set last_seen_at = now(), inflight = coalesce(${inflight ?? null}::int, inflight), metadata = coalesce(${metadataText}::jsonb, metadata),
      status = case when status = 'DRAINING' then 'DRAINING' else ${status} end
    where miner_id = ${minerId} and ${hasSession(sessionDigest)}
    returning status, ${dropped} as has_dropped`);
  return row;
}

/** A miner as a poll needs it. */
export interface PollingMiner extends Record<string, unknown> {
  readonly status: 'ONLINE' | 'DRAINING';
  readonly capabilities: Capabilities;
  readonly region: string | null;
  readonly session_digest: string;
}

const seenStatement = statement<{ minerId: string; sessionDigest: string | null }>(sql`
    update ${miners} set last_seen_at = now(), status = case when status = 'OFFLINE' then 'ONLINE' else status end
    where miner_id = ${sql.placeholder('minerId')} and ${hasSession(sql.placeholder('sessionDigest'))}
    returning status, capabilities, region, session_digest`);

/** The same for a poll, which needs to know what the miner can do. */
export async function seen(
  db: Pick<Database, 'query'>,
  minerId: string,
  sessionDigest: string | null,
): Promise<PollingMiner | undefined> {
  const [row] = await db.query<PollingMiner, { minerId: string; sessionDigest: string | null }>(
    seenStatement,
    {
      minerId,
      sessionDigest,
    },
  );
  return row;
}

/** Which of these jobs are not, or not any more, running on the miner. */
export async function notRunningOn(orm: Orm, minerId: string, jobIds: readonly string[]): Promise<string[]> {
  const rows = await orm.execute<{ job_id: string }>(sql`
    select given.job_id from jsonb_array_elements_text(${JSON.stringify(jobIds)}::jsonb) as given (job_id)
    where not exists (select from ${jobs} j
      where j.job_id = given.job_id and j.assigned_miner_id = ${minerId} and j.state = 'RUNNING')`);
  return rows.map(({ job_id }) => job_id);
}

/** The miner gets no more jobs; it finishes those it has. @returns false when it must register first, as `beat` */
export async function drain(orm: Orm, minerId: string, sessionDigest: string | null): Promise<boolean> {
  const rows = await orm.execute(sql`
    update ${miners} set status = 'DRAINING', last_seen_at = now()
    where miner_id = ${minerId} and ${hasSession(sessionDigest)}
    returning miner_id`);
  return rows.length === 1;
}

const view = sql.raw(viewColumnsOf('jobs'));

/** Why a miner loses its jobs, as the error and the fail code of the pool hub say it. */
export interface Loss {
  readonly errorCode: string;
  readonly errorMessage: string;
  /** What the pool hub is told; `preempted` weighs little there. */
  readonly failCode: string;
}

export interface TakeBackOptions {
  readonly maxAttempts: number;
  readonly reports: boolean;
  readonly loss: Loss;
}

/**
 * Takes its running jobs back from a miner that has left them: they are queued again, or have failed when they were given out `maxAttempts`
 * times.
 */
export async function takeBackFrom(orm: Orm, minerId: string, options: TakeBackOptions): Promise<ViewRow[]> {
  return takeBack(orm, options, sql`jobs.assigned_miner_id = ${minerId}`, 1000);
}

/** The same for those of them that the miner was sent and does not work on: the answer was lost on its way, or the miner could not deliver the result. */
export async function takeBackDropped(
  orm: Orm,
  minerId: string,
  currentJobs: readonly string[],
  options: TakeBackOptions,
): Promise<ViewRow[]> {
  return takeBack(orm, options, sql`jobs.assigned_miner_id = ${minerId} and ${isDropped(currentJobs)}`, 1000);
}

/** The same for all miners that have been silent for `silentSec` seconds, at most `limit` jobs. */
export async function takeBackFromSilent(
  orm: Orm,
  silentSec: number,
  limit: number,
  options: TakeBackOptions,
): Promise<ViewRow[]> {
  const silent = sql`jobs.assigned_miner_id in (select miner_id from ${miners}
    where status <> 'OFFLINE' and last_seen_at < now() - ${silentSec}::float8 * interval '1 second'
    order by last_seen_at limit ${limit})`;
  return takeBack(orm, options, silent, limit);
}

async function takeBack(
  orm: Orm,
  { maxAttempts, reports, loss }: TakeBackOptions,
  whose: ReturnType<typeof sql>,
  limit: number,
): Promise<ViewRow[]> {
  return orm.execute<ViewRow>(sql`
    with lost as (
      select job_id, attempts, assigned_miner_id as miner_id, delivered_at from ${jobs}
      where state = 'RUNNING' and ${whose} limit ${limit} for update skip locked
    ), requeued as (
      update ${jobs} set ${change('requeue')} from lost
      where jobs.job_id = lost.job_id and lost.attempts < ${maxAttempts}::int and ${mayChange('requeue')} returning ${view}
    ), exhausted as (
      update ${jobs} set ${change('exhaust')}, error_code = ${loss.errorCode}, error_message = ${loss.errorMessage} from lost
      where jobs.job_id = lost.job_id and lost.attempts >= ${maxAttempts}::int and ${mayChange('exhaust')} returning ${view}
    ), reported as (${report(reports, { from: 'lost', outcome: 'failed', failCode: sql`${loss.failCode}`, where: 'r.delivered_at is not null' })})
    select * from requeued union all select * from exhausted`);
}

/** Marks miners offline that are silent and have no jobs any more; those that drained must register again. @returns how many */
export async function markOffline(orm: Orm, silentSec: number, limit: number): Promise<number> {
  const rows = await orm.execute(sql`
    update ${miners} set status = 'OFFLINE', inflight = 0,
      session_digest = case when status = 'DRAINING' then '' else session_digest end
    where miner_id in (
      select m.miner_id from ${miners} m
      where m.status <> 'OFFLINE' and m.last_seen_at < now() - ${silentSec}::float8 * interval '1 second'
        and not exists (select from ${jobs} j where j.assigned_miner_id = m.miner_id and j.state = 'RUNNING')
      order by m.last_seen_at limit ${limit} for update skip locked)
    returning miner_id`);
  return rows.length;
}

/** Forgets miners that are offline and were last heard of more than `keepDays` ago, at most `limit`. @returns how many */
export async function forgetMiners(orm: Orm, keepDays: number, limit: number): Promise<number> {
  const rows = await orm.execute(sql`
    delete from ${miners} where miner_id in (
      select miner_id from ${miners}
      where status = 'OFFLINE' and last_seen_at < now() - ${keepDays}::float8 * interval '1 day'
      order by last_seen_at limit ${limit} for update skip locked)
    returning 1 as one`);
  return rows.length;
}
