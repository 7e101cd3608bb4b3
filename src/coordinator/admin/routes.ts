import type { Hono } from 'hono';
import type { AppEnv } from '../../platform/app-env.ts';
import { operation } from '../../platform/openapi.ts';
import { query } from '../../platform/validation.ts';
import type { CoordinatorDeps } from '../deps.ts';
import type { Guards } from '../guards.ts';
import { JOB_STATES } from '../jobs/states.ts';
import { listJobs } from '../jobs/store.ts';
import { viewOf } from '../jobs/view.ts';
import { AdminJobPage, AdminJobsQuery, AdminMinerPage, AdminMinersQuery, StatsAnswer } from './schema.ts';
import { listMiners, readStats } from './store.ts';

const admin = { tag: 'Administration', auth: ['operator_key'] } as const;

/** Counting all jobs takes a walk through an index: it is shared by all who ask within this time. */
const STATS_FRESH_MS = 5000;

/** The calls of administrators. */
export function adminRoutes(app: Hono<AppEnv>, deps: CoordinatorDeps, { permit }: Guards): void {
  const stats = sharedStats(deps);
  app.get(
    '/v1/admin/stats',
    operation({ ...admin, summary: 'Counts of jobs and miners', answers: { 200: StatsAnswer } }),
    permit('admin'),
    async (c) => c.json(await stats()),
  );

  app.get(
    '/v1/admin/jobs',
    operation({
      ...admin,
      summary: 'Jobs of all clients, newest first',
      answers: { 200: AdminJobPage },
      errors: ['invalid'],
    }),
    permit('admin'),
    query(AdminJobsQuery),
    async (c) => {
      const { state, limit, cursor, client_id: clientId, miner_id: minerId } = c.req.valid('query');
      const rows = await deps.db.run((orm) => listJobs(orm, { clientId, minerId, state, limit, cursor }));
      const items = rows.slice(0, limit).map((row) => ({ ...viewOf(row), client_id: row.client_id }));
      return c.json({ items, ...nextCursor(rows.length > limit, items.at(-1)?.job_id) });
    },
  );

  app.get(
    '/v1/admin/miners',
    operation({
      ...admin,
      summary: 'Miners by id',
      answers: { 200: AdminMinerPage },
      errors: ['invalid'],
    }),
    permit('admin'),
    query(AdminMinersQuery),
    async (c) => {
      const { status, limit, cursor } = c.req.valid('query');
      const rows = await deps.db.run((orm) => listMiners(orm, { status, limit, cursor }));
      const items = rows.slice(0, limit);
      return c.json({ items, ...nextCursor(rows.length > limit, items.at(-1)?.miner_id) });
    },
  );
}

function nextCursor(isMore: boolean, last: string | undefined): { next_cursor?: string } {
  return isMore && last !== undefined ? { next_cursor: last } : {};
}

function sharedStats({ db }: Pick<CoordinatorDeps, 'db'>) {
  let latest: Promise<object> | undefined;
  let startedMs = 0;
  return () => {
    if (latest === undefined || performance.now() - startedMs > STATS_FRESH_MS) {
      startedMs = performance.now();
      latest = countAll({ db });
      latest.catch(() => {
        latest = undefined;
      });
    }
    return latest;
  };
}

async function countAll({ db }: Pick<CoordinatorDeps, 'db'>): Promise<object> {
  const asOf = new Date().toISOString();
  const row = await db.run(readStats);
  const byState = Object.fromEntries(JOB_STATES.map((state) => [state, row.by_state?.[state] ?? 0]));
  const total = Object.values(byState).reduce((sum, count) => sum + count, 0);
  return {
    total_jobs: total,
    active_jobs: (row.by_state?.QUEUED ?? 0) + (row.by_state?.RUNNING ?? 0),
    jobs_by_state: byState,
    online_miners: row.online,
    draining_miners: row.draining,
    registered_miners: row.registered,
    avg_miner_job_duration_ms: row.avg_ms,
    hub_reports_waiting: row.reports,
    as_of: asOf,
  };
}
