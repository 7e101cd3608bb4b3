/** What completed jobs are owed: the outbox between the coordinator and the chain node. */
import { sql } from 'drizzle-orm';
import { check, index, integer, text } from 'drizzle-orm/pg-core';
import { amount, coordinator, moment } from '../pg-schema.ts';

/**
 * `kept`: nothing is sent (driver none, or nothing is owed). Else `pending` -> `escrowed` -> `released`, or `refunded`
 * on demand, or `rejected` by the node until an administrator tries again.
 */
export const SETTLEMENT_STATES = ['kept', 'pending', 'escrowed', 'released', 'refunded', 'rejected'] as const;

export type SettlementState = (typeof SETTLEMENT_STATES)[number];

/** At most one row for each job. */
export const settlements = coordinator.table(
  'settlements',
  {
    jobId: text('job_id').primaryKey(),
    buyer: text('buyer').notNull(),
    provider: text('provider').notNull(),
    amount: amount('amount').notNull(),
    currency: text('currency'),
    driver: text('driver').$type<'none' | 'rpc'>().notNull(),
    state: text('state').$type<SettlementState>().notNull(),
    /** How it shall end. */
    goal: text('goal').$type<'release' | 'refund'>().notNull().default('release'),
    /** Tries since the last success. */
    attempts: integer('attempts').notNull().default(0),
    /** When the next try is due; while one runs, when it counts as lost. */
    dueAt: moment('due_at').notNull().defaultNow(),
    /** Whose try it is; an answer that comes after another has taken over changes nothing. */
    claim: text('claim'),
    lastError: text('last_error'),
    createdAt: moment('created_at').notNull().defaultNow(),
    updatedAt: moment('updated_at').notNull().defaultNow(),
  },
  (table) => [
    index('idx_settlements_due').on(table.dueAt).where(sql`${table.state} in ('pending', 'escrowed')`),
    // What somebody may have to look at, however many are settled.
    index('idx_settlements_open')
      .on(table.state, table.createdAt)
      .where(sql`${table.state} in ('pending', 'escrowed', 'rejected')`),
    index('idx_settlements_created').on(table.createdAt.desc().nullsFirst(), table.jobId.desc().nullsFirst()),
    check(
      'settlements_state',
      sql`${table.state} in ('kept', 'pending', 'escrowed', 'released', 'refunded', 'rejected')`,
    ),
    check('settlements_goal', sql`${table.goal} in ('release', 'refund')`),
    check('settlements_driver', sql`${table.driver} in ('none', 'rpc')`),
  ],
);
