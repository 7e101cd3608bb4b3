import { sql } from 'drizzle-orm';
import type { Orm } from '../../platform/db.ts';
import { hubOutbox } from '../hub/tables.ts';
import type { JobState } from '../jobs/states.ts';
import { jobs } from '../jobs/tables.ts';
import { isoOf } from '../jobs/view.ts';
import { type MinerStatus, coordinatorMiners as miners } from '../miners/tables.ts';

interface StatsRow extends Record<string, unknown> {
  readonly by_state: Partial<Record<JobState, number>> | null;
  readonly online: number;
  readonly draining: number;
  readonly registered: number;
  readonly avg_ms: number | null;
  readonly reports: number;
}

/** The counts of the whole coordinator. Finished jobs are counted in an index, without looking at them. */
export async function readStats(orm: Orm): Promise<StatsRow> {
  const [row] = await orm.execute<StatsRow>(sql`
    select (select json_object_agg(state, n) from (select state, count(*) as n from ${jobs} group by state) counts) as by_state,
      count(*) filter (where status = 'ONLINE')::int as online,
      count(*) filter (where status = 'DRAINING')::int as draining,
      count(*)::int as registered,
      (sum(busy_ms) / nullif(sum(jobs_completed), 0))::float8 as avg_ms,
      (select count(*)::int from ${hubOutbox} where done_at is null) as reports
    from ${miners}`);
  if (row === undefined) throw new TypeError('an aggregate without a row');
  return row;
}

/** Jobs that are not over, by state; miners online; reports not sent. What a scrape asks for: all of it by indexes. */
export async function readLive(
  orm: Orm,
): Promise<{ queued: number; running: number; online: number; reports: number }> {
  const [row] = await orm.execute<{ queued: number; running: number; online: number; reports: number }>(sql`
    select (select count(*)::int from ${jobs} where state = 'QUEUED') as queued,
      (select count(*)::int from ${jobs} where state = 'RUNNING') as running,
      (select count(*)::int from ${miners} where status = 'ONLINE') as online,
      (select count(*)::int from ${hubOutbox} where done_at is null) as reports`);
  if (row === undefined) throw new TypeError('a select without a row');
  return row;
}

interface MinerListRow extends Record<string, unknown> {
  readonly miner_id: string;
  readonly status: MinerStatus;
  readonly concurrency: number;
  readonly running: number;
  readonly inflight: number;
  readonly region: string | null;
  readonly capabilities: Record<string, unknown>;
  readonly metadata: Record<string, unknown> | null;
  readonly registered_at: string;
  readonly last_seen_at: string;
  readonly jobs_completed: number;
  readonly jobs_failed: number;
  readonly avg_job_duration_ms: number | null;
}

/** Miners by id: one more than `limit` when there is another page. */
export async function listMiners(
  orm: Orm,
  filter: {
    readonly status?: MinerStatus | undefined;
    readonly cursor?: string | undefined;
    readonly limit: number;
  },
): Promise<MinerListRow[]> {
  const { status = null, cursor = null, limit } = filter;
  const rows = await orm.execute<MinerListRow>(sql`
    select m.miner_id, m.status, m.concurrency, m.inflight, m.region, m.capabilities, m.metadata, m.registered_at, m.last_seen_at,
      m.jobs_completed::float8 as jobs_completed, m.jobs_failed::float8 as jobs_failed,
      (m.busy_ms / nullif(m.jobs_completed, 0)::float8) as avg_job_duration_ms,
      (select count(*)::int from ${jobs} j where j.assigned_miner_id = m.miner_id and j.state = 'RUNNING') as running
    from ${miners} m
    where (${status}::text is null or m.status = ${status}) and (${cursor}::text is null or m.miner_id > ${cursor})
    order by m.miner_id limit ${limit + 1}`);
  return rows.map((row) => ({
    ...row,
    registered_at: isoOf(row.registered_at),
    last_seen_at: isoOf(row.last_seen_at),
  }));
}
