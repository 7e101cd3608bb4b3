import { sql } from 'drizzle-orm';
import type { Orm } from '../../platform/db.ts';
import type { MatchRequest } from '../../sdk/types.ts';
import type { CoordinatorDeps } from '../deps.ts';
import { report } from '../jobs/effects.ts';
import { jobOffers, jobs } from '../jobs/tables.ts';
import { NOW_MS } from '../jobs/transition.ts';
import type { Constraints, JobNeeds } from '../miners/fit.ts';
import { coordinatorMiners as miners } from '../miners/tables.ts';
import { publishOpen } from '../publish.ts';

type OfferDeps = Pick<CoordinatorDeps, 'db' | 'config' | 'hub' | 'notices' | 'metrics' | 'log'>;

interface Candidate {
  readonly miner_id: string;
  readonly reservation_id?: string | undefined;
}

/** A reservation outlives its offer by this, for the report of who took the job. */
const RESERVATION_MARGIN_MS = 5000;

/**
 * Asks the pool hub for miners and offers them the job; opens it to all when there are none. Never throws: a job that
 * this does not get to is open when its window has passed.
 */
export async function offerJob(
  deps: OfferDeps,
  jobId: string,
  constraints: Constraints,
  needs: JobNeeds,
): Promise<void> {
  try {
    const candidates = await askHub(deps, jobId, constraints);
    const offered =
      candidates.length === 0 ? [] : await deps.db.run((orm) => insertOffers(orm, jobId, candidates));
    const chosen = new Set(offered);
    deps.hub?.release(
      candidates.flatMap(({ miner_id, reservation_id = '' }) =>
        chosen.has(miner_id) || reservation_id === '' ? [] : [reservation_id],
      ),
    );
    if (offered.length > 0) {
      deps.notices.publish({ kind: 'waiting', job_id: jobId, needs, offered });
      const announce = () => void announceOpen(deps, jobId, needs);
      setTimeout(announce, deps.config.offer_window_ms).unref();
      return;
    }
    const isOpened = await deps.db.run((orm) => openJob(orm, jobId));
    if (isOpened) publishOpen(deps, jobId, needs);
  } catch (error) {
    deps.log.warn({ err: error, job_id: jobId }, 'the job waits until its window has passed');
  }
}

/** The constraints of a job in the words of the hub. */
function matchRequestOf(
  jobId: string,
  { gpu, cuda, min_vram_gb, models, region, max_price }: Constraints,
  { count, ttlMs }: { readonly count: number; readonly ttlMs: number },
): MatchRequest {
  return {
    job_id: jobId,
    requirements: {
      ...(gpu === undefined ? {} : { gpu_name_any: [gpu] }),
      ...(cuda === undefined || cuda === false ? {} : { accel: ['cuda'] }),
      ...(min_vram_gb === undefined ? {} : { min_vram_gb }),
      ...(models === undefined || models.length === 0 ? {} : { capabilities_any: [...models] }),
    },
    hints: {
      ...(region === undefined ? {} : { region }),
      ...(max_price === undefined ? {} : { max_price }),
    },
    top_k: count,
    reserve: { count, ttl_ms: ttlMs },
  };
}

/** Candidates with a reservation, best first; none when the hub does not answer well in time. */
async function askHub(
  deps: OfferDeps,
  jobId: string,
  constraints: Constraints,
): Promise<readonly Candidate[]> {
  const { hub, config, metrics, log } = deps;
  if (hub === undefined) return [];
  const started = performance.now();
  let result = 'error';
  try {
    const places = { count: config.offer_count, ttlMs: config.offer_window_ms + RESERVATION_MARGIN_MS };
    const { candidates } = await hub.match(matchRequestOf(jobId, constraints, places));
    result = candidates.length > 0 ? 'matched' : 'empty';
    return candidates.filter(({ reservation_id }) => reservation_id !== undefined);
  } catch (error) {
    log.debug({ err: error, job_id: jobId }, 'the pool hub was of no help');
    return [];
  } finally {
    metrics.hubMatchMs.observe({ result }, performance.now() - started);
  }
}

/**
 * Offers a job that is held to those of the candidates that are online here too, until it is open to all.
 * @returns the miners it is offered to, best first
 */
async function insertOffers(orm: Orm, jobId: string, candidates: readonly Candidate[]): Promise<string[]> {
  const listed = JSON.stringify(
    candidates.map(({ miner_id, reservation_id }, rank) => ({ miner_id, reservation_id, rank })),
  );
  const rows = await orm.execute<{ miner_id: string }>(sql`
    with job as (
      select job_id, open_at from ${jobs} where job_id = ${jobId} and state = 'QUEUED' and open_at > now() for update
    ), offered as (
      insert into ${jobOffers} (job_id, miner_id, rank, reservation_id, expires_at)
      select job.job_id, c.miner_id, c.rank, c.reservation_id, job.open_at
      from job, jsonb_to_recordset(${listed}::jsonb) as c (miner_id text, reservation_id text, rank int)
      join ${miners} m on m.miner_id = c.miner_id and m.status = 'ONLINE'
      on conflict do nothing
      returning miner_id, rank
    )
    select miner_id from offered order by rank`);
  return rows.map(({ miner_id }) => miner_id);
}

/** Opens a job that is held. @returns whether it still was */
async function openJob(orm: Orm, jobId: string): Promise<boolean> {
  const rows = await orm.execute(
    sql`update ${jobs} set open_at = ${sql.raw(NOW_MS)} where job_id = ${jobId} and state = 'QUEUED' and open_at > now() returning job_id`,
  );
  return rows.length === 1;
}

/** Tells of a job that nobody has taken within its window. Should this fail, the sweep finds it. */
async function announceOpen(deps: OfferDeps, jobId: string, needs: JobNeeds): Promise<void> {
  try {
    const rows = await deps.db.run((orm) =>
      orm.execute(sql`select 1 as one from ${jobs} where job_id = ${jobId} and state = 'QUEUED'`),
    );
    if (rows.length > 0) publishOpen(deps, jobId, needs);
  } catch (error) {
    deps.log.debug({ err: error, job_id: jobId }, 'an open job is left to the sweep');
  }
}

/** Ends offers whose window has passed and reports that they were not taken, at most `limit`. @returns how many */
export async function lapseOffers(orm: Orm, limit: number, reports: boolean): Promise<number> {
  const rows = await orm.execute(sql`
    with due as (
      select job_id, miner_id from ${jobOffers} where expires_at <= now()
      order by expires_at limit ${limit} for update skip locked
    ), lapsed as (
      delete from ${jobOffers} o using due where o.job_id = due.job_id and o.miner_id = due.miner_id
      returning o.job_id, o.miner_id, o.reservation_id
    ), reported as (${report(reports, { from: 'lapsed', outcome: 'rejected', reservationId: sql`r.reservation_id` })})
    select 1 as one from lapsed`);
  return rows.length;
}
