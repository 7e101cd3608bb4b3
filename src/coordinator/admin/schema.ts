import * as v from 'valibot';
import { body, maybe, pattern } from '../../platform/fields.ts';
import { JobAnswer, jobsQueryEntries, pageSize } from '../jobs/schema.ts';
import { JOB_STATES } from '../jobs/states.ts';

const Id = pattern(/^[A-Za-z0-9._:-]{1,64}$/, 'must be 1-64 of A-Z a-z 0-9 . _ : -');
const MinerStatus = v.picklist(['ONLINE', 'DRAINING', 'OFFLINE'], 'must be ONLINE, DRAINING or OFFLINE');

export const AdminJobsQuery = body({
  ...jobsQueryEntries,
  client_id: maybe(Id),
  miner_id: maybe(Id),
});

export const AdminJobPage = v.pipe(
  v.object({
    items: v.array(v.object({ ...JobAnswer.pipe[0].entries, client_id: v.string() })),
    next_cursor: v.optional(v.string()),
  }),
  v.metadata({ ref: 'AdminJobPage' }),
);

export const AdminMinersQuery = body({
  status: maybe(MinerStatus),
  limit: v.optional(pageSize(), '50'),
  cursor: maybe(Id),
});

export const AdminMinerPage = v.pipe(
  v.object({
    items: v.array(
      v.object({
        miner_id: v.string(),
        status: MinerStatus,
        concurrency: v.number(),
        running: v.pipe(v.number(), v.description('jobs that are assigned to it')),
        inflight: v.pipe(v.number(), v.description('jobs that it says it works on')),
        region: v.nullable(v.string()),
        capabilities: v.record(v.string(), v.unknown()),
        metadata: v.nullable(v.record(v.string(), v.unknown())),
        registered_at: v.string(),
        last_seen_at: v.string(),
        jobs_completed: v.number(),
        jobs_failed: v.number(),
        avg_job_duration_ms: v.nullable(v.number()),
      }),
    ),
    next_cursor: v.optional(v.string()),
  }),
  v.metadata({ ref: 'AdminMinerPage' }),
);

export const StatsAnswer = v.pipe(
  v.object({
    total_jobs: v.number(),
    active_jobs: v.pipe(v.number(), v.description('queued or running')),
    jobs_by_state: v.object(Object.fromEntries(JOB_STATES.map((state) => [state, v.number()]))),
    online_miners: v.number(),
    draining_miners: v.number(),
    registered_miners: v.number(),
    avg_miner_job_duration_ms: v.pipe(
      v.nullable(v.number()),
      v.description('over all completed jobs, from assignment to result; null before the first'),
    ),
    hub_reports_waiting: v.pipe(v.number(), v.description('reports that the pool hub has not taken yet')),
    as_of: v.pipe(v.string(), v.description('counts are shared for some seconds')),
  }),
  v.metadata({ ref: 'StatsAnswer' }),
);
