/** Jobs, and the offers of jobs to miners that the pool hub chose. */
import { sql } from 'drizzle-orm';
import { check, index, integer, primaryKey, text, uniqueIndex } from 'drizzle-orm/pg-core';
import { amount, coordinator, moment } from '../pg-schema.ts';
import type { JobState } from './states.ts';

/**
 * One row per job. `payload`, `constraints`, `result` and `metrics` are JSON texts as they came: another 1.0 than the one that was
 * signed would not verify. The `need_*` columns are the constraints as a poll compares them (see miners/fit.ts); null asks for nothing.
 */
export const jobs = coordinator.table(
  'jobs',
  {
    /** 32 hex digits that grow with time (UUID version 7), so that pages follow the primary key. */
    jobId: text('job_id').primaryKey(),
    clientId: text('client_id').notNull(),
    idempotencyKey: text('idempotency_key'),
    /** SHA-256 of the request, to tell a repeat from another job under the same key. */
    requestDigest: text('request_digest').notNull(),
    state: text('state').$type<JobState>().notNull().default('QUEUED'),
    /** Counts the changes of state; the event id of a stream. */
    revision: integer('revision').notNull().default(1),
    payload: text('payload').notNull(),
    constraints: text('constraints').notNull(),
    needGpu: text('need_gpu'),
    needCuda: integer('need_cuda'),
    needVramMb: integer('need_vram_mb'),
    needModels: text('need_models').array(),
    needRegion: text('need_region'),
    needMaxPrice: amount('need_max_price'),
    paymentAmount: amount('payment_amount'),
    paymentCurrency: text('payment_currency'),
    requestedAt: moment('requested_at').notNull().defaultNow(),
    /** Until then only the miners it is offered to may take it. */
    openAt: moment('open_at').notNull().defaultNow(),
    expiresAt: moment('expires_at').notNull(),
    /** The miner that runs it, or ran it last. Null while queued. */
    assignedMinerId: text('assigned_miner_id'),
    /** Which of the miner's places it holds, from 1; null unless running. */
    slot: integer('slot'),
    attempts: integer('attempts').notNull().default(0),
    startedAt: moment('started_at'),
    /** When the miner had been sent it; what stays null too long was lost on the way. */
    deliveredAt: moment('delivered_at'),
    finishedAt: moment('finished_at'),
    result: text('result'),
    metrics: text('metrics'),
    errorCode: text('error_code'),
    errorMessage: text('error_message'),
  },
  (table) => [
    uniqueIndex('idx_jobs_idempotency')
      .on(table.clientId, table.idempotencyKey)
      .where(sql`${table.idempotencyKey} is not null`),
    index('idx_jobs_client').on(table.clientId, table.jobId),
    index('idx_jobs_client_state').on(table.clientId, table.state, table.jobId),
    index('idx_jobs_state').on(table.state, table.jobId),
    // What polls and sweeps look for, however many finished jobs there are.
    // The first in words of its own: looking for `state = 'QUEUED'`, Postgres may take another index on states, read all that wait, and sort.
    index('idx_jobs_queued')
      .on(table.requestedAt, table.jobId)
      .where(sql`${table.state} is not distinct from 'QUEUED'`),
    index('idx_jobs_due').on(table.expiresAt).where(sql`${table.state} in ('QUEUED', 'RUNNING')`),
    // A place of a miner is held by one job: polls at the same moment cannot overfill it.
    uniqueIndex('idx_jobs_slot').on(table.assignedMinerId, table.slot).where(sql`${table.state} = 'RUNNING'`),
    index('idx_jobs_undelivered')
      .on(table.startedAt)
      .where(sql`${table.state} = 'RUNNING' and ${table.deliveredAt} is null`),
    index('idx_jobs_miner').on(table.assignedMinerId, table.jobId),
    check(
      'jobs_state',
      sql`${table.state} in ('QUEUED', 'RUNNING', 'COMPLETED', 'FAILED', 'CANCELED', 'EXPIRED')`,
    ),
    check('jobs_slot', sql`(${table.state} = 'RUNNING') = (${table.slot} is not null)`),
  ],
);

export type JobRow = typeof jobs.$inferSelect;

/** Jobs offered to miners that the pool hub reserved a place on. A row goes when the job is taken or the offer has lapsed. */
export const jobOffers = coordinator.table(
  'job_offers',
  {
    jobId: text('job_id')
      .notNull()
      .references(() => jobs.jobId, { onDelete: 'cascade' }),
    minerId: text('miner_id').notNull(),
    /** From 0, best first. */
    rank: integer('rank').notNull(),
    reservationId: text('reservation_id'),
    expiresAt: moment('expires_at').notNull(),
  },
  (table) => [
    primaryKey({ columns: [table.jobId, table.minerId] }),
    index('idx_job_offers_miner').on(table.minerId, table.expiresAt),
    index('idx_job_offers_expiry').on(table.expiresAt),
  ],
);

/** Signatures of requests that were taken, so that none is taken twice within its window. */
export const usedSignatures = coordinator.table(
  'used_signatures',
  {
    /** SHA-256 of key and signature, hex. */
    digest: text('digest').primaryKey(),
    expiresAt: moment('expires_at').notNull(),
  },
  (table) => [index('idx_used_signatures_expiry').on(table.expiresAt)],
);
