/** What the pool hub is yet to be told. */
import { sql } from 'drizzle-orm';
import { bigint, doublePrecision, index, integer, text, uniqueIndex } from 'drizzle-orm/pg-core';
import { coordinator, moment } from '../pg-schema.ts';

/**
 * The feedback outbox: a row is written with the change that it reports, and sent until the hub has it. Rows stay for a while after
 * that, so that the same report is not written again.
 */
export const hubOutbox = coordinator.table(
  'hub_outbox',
  {
    id: bigint('id', { mode: 'number' }).primaryKey().generatedAlwaysAsIdentity(),
    jobId: text('job_id').notNull(),
    minerId: text('miner_id').notNull(),
    outcome: text('outcome').$type<'accepted' | 'rejected' | 'failed' | 'completed'>().notNull(),
    reservationId: text('reservation_id'),
    latencyMs: doublePrecision('latency_ms'),
    failCode: text('fail_code'),
    createdAt: moment('created_at').notNull().defaultNow(),
    attempts: integer('attempts').notNull().default(0),
    /** When it may be sent next; while a replica sends it, when the others may take it for lost. */
    dueAt: moment('due_at').notNull().defaultNow(),
    /** When the hub had it, or refused it for good. */
    doneAt: moment('done_at'),
    /** Why the hub refused it. */
    refusal: text('refusal'),
  },
  (table) => [
    uniqueIndex('idx_hub_outbox_once').on(table.jobId, table.minerId, table.outcome),
    index('idx_hub_outbox_due').on(table.dueAt, table.id).where(sql`${table.doneAt} is null`),
    index('idx_hub_outbox_done').on(table.doneAt).where(sql`${table.doneAt} is not null`),
  ],
);
