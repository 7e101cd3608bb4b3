/** What miners did for which tenant, at what price, and whether the coordinator has been told. */
import { sql } from 'drizzle-orm';
import {
  bigint,
  boolean,
  check,
  index,
  integer,
  jsonb,
  numeric,
  text,
  timestamp,
  uniqueIndex,
  uuid,
} from 'drizzle-orm/pg-core';
import { poolhub } from '../miners/tables.ts';

const moment = (name: string) => timestamp(name, { withTimezone: true, precision: 3, mode: 'date' });

/** Quantities and money: exact decimals, strings in TypeScript. */
const amount = (name: string) => numeric(name, { precision: 20, scale: 8, mode: 'string' }).notNull();

/**
 * One row per feedback and resource, or per call of `POST /sla/billing/usage/record`. A row waits (`due_at` null)
 * until a sync takes it up, is due until the coordinator accepts it, and has `sent_at` from then on. One that was tried and is
 * not there yet has a `last_error`, and `refused_at` when the coordinator said no to it, rather than nothing that is about it.
 */
export const usageRecords = poolhub.table(
  'usage_records',
  {
    /** Also the Idempotency-Key under which the coordinator takes it. */
    id: uuid('id').primaryKey().default(sql`gen_random_uuid()`),
    /** Null for a use that somebody reported. No foreign key: the record may outlive its feedback. */
    feedbackId: bigint('feedback_id', { mode: 'number' }),
    /** Digest of the Idempotency-Key of a reported use, and of what was reported under it. */
    requestKey: text('request_key'),
    requestDigest: text('request_digest'),
    /** Null until the profile of the miner is in Postgres: it names the tenant. */
    tenantId: text('tenant_id'),
    minerId: text('miner_id'),
    jobId: text('job_id'),
    resourceType: text('resource_type').notNull(),
    quantity: amount('quantity'),
    unitPrice: amount('unit_price'),
    totalAmount: amount('total_amount'),
    metadata: jsonb('metadata').$type<Record<string, unknown>>().notNull(),
    usedAt: moment('used_at').notNull(),
    /** When it may be sent, or, while somebody sends it, when others may try. */
    dueAt: moment('due_at'),
    /** The pass that is sending it. */
    claim: uuid('claim'),
    attempts: integer('attempts').notNull().default(0),
    lastError: text('last_error'),
    /** When the coordinator last said no to this very record; null when something else came of the last try. */
    refusedAt: moment('refused_at'),
    sentAt: moment('sent_at'),
  },
  (table) => [
    uniqueIndex('idx_usage_feedback_resource').on(table.feedbackId, table.resourceType),
    uniqueIndex('idx_usage_request_key').on(table.requestKey),
    index('idx_usage_waiting')
      .on(table.usedAt)
      .where(sql`${table.sentAt} is null and ${table.dueAt} is null`),
    index('idx_usage_due').on(table.dueAt).where(sql`${table.dueAt} is not null`),
    index('idx_usage_failures').on(table.usedAt, table.id).where(sql`${table.lastError} is not null`),
    index('idx_usage_no_tenant').on(table.minerId).where(sql`${table.tenantId} is null`),
    index('idx_usage_sent').on(table.sentAt).where(sql`${table.sentAt} is not null`),
    index('idx_usage_tenant_time').on(table.tenantId, table.usedAt),
    index('idx_usage_time').on(table.usedAt),
    check('usage_total', sql`${table.totalAmount} = round(${table.quantity} * ${table.unitPrice}, 8)`),
    check('usage_sent_is_not_due', sql`${table.sentAt} is null or ${table.dueAt} is null`),
  ],
);

/** One row: until when the coordinator has asked to be left alone. */
export const usagePause = poolhub.table('usage_pause', {
  isOnly: boolean('is_only').primaryKey().default(true),
  until: moment('until').notNull(),
});
