import { desc, eq } from 'drizzle-orm';
import type * as v from 'valibot';
import type { Database } from '../../platform/db.ts';
import { isPostgresUnavailable } from '../../platform/db-errors.ts';
import { feedback } from '../trust/tables.ts';
import type { MinerDetail } from './schema.ts';

const BUDGET_MS = 700;

/** The newest feedback of a miner; null when there is none, or Postgres cannot say now. */
export async function lastFeedback(
  db: Database,
  minerId: string,
): Promise<v.InferOutput<typeof MinerDetail>['last_feedback']> {
  try {
    const rows = await db.run(
      (orm) =>
        orm
          .select()
          .from(feedback)
          .where(eq(feedback.minerId, minerId))
          .orderBy(desc(feedback.createdAt), desc(feedback.seq))
          .limit(1),
      BUDGET_MS,
    );
    const row = rows[0];
    if (row === undefined) return null;
    return {
      job_id: row.jobId,
      outcome: row.outcome,
      latency_ms: row.latencyMs,
      fail_code: row.failCode,
      created_at: row.createdAt.toISOString(),
    };
  } catch (error) {
    if (isPostgresUnavailable(error)) return null;
    throw error;
  }
}
