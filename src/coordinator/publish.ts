import { inArray } from 'drizzle-orm';
import type { CoordinatorDeps } from './deps.ts';
import type { TransitionName } from './jobs/states.ts';
import { jobs } from './jobs/tables.ts';
import { type ViewRow, viewOf } from './jobs/view.ts';
import type { JobNeeds } from './miners/fit.ts';

type PublishDeps = Pick<CoordinatorDeps, 'notices' | 'metrics'>;

/** Counts a change of state and tells every replica, once it is committed. */
export function publishChange(
  { notices, metrics }: PublishDeps,
  name: TransitionName | 'submit',
  row: ViewRow,
): void {
  metrics.transitions.inc({ transition: name });
  notices.publish({ kind: 'change', client_id: row.client_id, revision: row.revision, job: viewOf(row) });
}

/** Tells every replica that any miner which fits may take a job. */
export function publishOpen(
  { notices }: Pick<CoordinatorDeps, 'notices'>,
  jobId: string,
  needs: JobNeeds,
): void {
  notices.publish({ kind: 'waiting', job_id: jobId, needs, offered: [] });
}

/** The same for jobs whose needs are not at hand. */
export async function announceWaiting(
  { db, notices }: Pick<CoordinatorDeps, 'db' | 'notices'>,
  jobIds: readonly string[],
): Promise<void> {
  const rows = await db.run((orm) =>
    orm
      .select({
        jobId: jobs.jobId,
        gpu: jobs.needGpu,
        cuda: jobs.needCuda,
        vram_mb: jobs.needVramMb,
        models: jobs.needModels,
        region: jobs.needRegion,
        max_price: jobs.needMaxPrice,
      })
      .from(jobs)
      .where(inArray(jobs.jobId, [...jobIds])),
  );
  for (const { jobId, ...needs } of rows) publishOpen({ notices }, jobId, needs);
}
