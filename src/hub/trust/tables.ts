/** Stored feedback: what coordinators reported, and what each report did to trust. */
import { sql } from 'drizzle-orm';
import {
  bigint,
  boolean,
  check,
  doublePrecision,
  index,
  numeric,
  text,
  timestamp,
  uniqueIndex,
} from 'drizzle-orm/pg-core';
import { miners, poolhub } from '../miners/tables.ts';
import type { Outcome } from './trust.ts';

/**
 * One row per (job, miner, outcome). `seq` orders the rows of a miner as they moved trust; replayed in that
 * order, `alpha_added`, `beta_added` and `half_life_days` (the settings of that day) give the miner's alpha
 * and beta again. Rows go after FEEDBACK_RETENTION_DAYS, when what they added has faded from those of a miner that works.
 */
export const feedback = poolhub.table(
  'feedback',
  {
    id: bigint('id', { mode: 'number' }).primaryKey().generatedAlwaysAsIdentity(),
    jobId: text('job_id').notNull(),
    minerId: text('miner_id')
      .notNull()
      .references(() => miners.minerId),
    outcome: text('outcome').$type<Outcome>().notNull(),
    latencyMs: doublePrecision('latency_ms'),
    failCode: text('fail_code'),
    tokensSpent: numeric('tokens_spent', { precision: 20, scale: 8, mode: 'string' }),
    reservationId: text('reservation_id'),
    seq: bigint('seq', { mode: 'number' }).notNull(),
    alphaAdded: doublePrecision('alpha_added').notNull(),
    betaAdded: doublePrecision('beta_added').notNull(),
    halfLifeDays: doublePrecision('half_life_days').notNull(),
    /** Whether Redis has been told. The worker finishes the rows that a crash or an outage left false. */
    applied: boolean('applied').notNull().default(false),
    createdAt: timestamp('created_at', { withTimezone: true, precision: 3, mode: 'date' }).notNull(),
  },
  (table) => [
    uniqueIndex('idx_feedback_job_miner_outcome').on(table.jobId, table.minerId, table.outcome),
    uniqueIndex('idx_feedback_miner_seq').on(table.minerId, table.seq),
    index('idx_feedback_miner_time').on(table.minerId, table.createdAt.desc().nullsFirst()),
    index('idx_feedback_unapplied').on(table.id).where(sql`not ${table.applied}`),
    check('feedback_outcome', sql`${table.outcome} in ('accepted', 'rejected', 'failed', 'completed')`),
  ],
);
