/** Miners as the coordinator knows them: registered over its own API, beside what the pool hub knows. */
import { sql } from 'drizzle-orm';
import { bigint, check, index, integer, jsonb, text } from 'drizzle-orm/pg-core';
import { coordinator, moment } from '../pg-schema.ts';

export type MinerStatus = 'ONLINE' | 'DRAINING' | 'OFFLINE';

export const coordinatorMiners = coordinator.table(
  'miners',
  {
    minerId: text('miner_id').primaryKey(),
    /** As registered. */
    capabilities: jsonb('capabilities').$type<Record<string, unknown>>().notNull(),
    /** Jobs at a time. */
    concurrency: integer('concurrency').notNull(),
    region: text('region'),
    status: text('status').$type<MinerStatus>().notNull(),
    /** Jobs that the miner says it works on. */
    inflight: integer('inflight').notNull().default(0),
    metadata: jsonb('metadata').$type<Record<string, unknown>>(),
    /** SHA-256 of the session token, hex; empty once the miner must register again. */
    sessionDigest: text('session_digest').notNull(),
    registeredAt: moment('registered_at').notNull().defaultNow(),
    lastSeenAt: moment('last_seen_at').notNull().defaultNow(),
    jobsCompleted: bigint('jobs_completed', { mode: 'number' }).notNull().default(0),
    jobsFailed: bigint('jobs_failed', { mode: 'number' }).notNull().default(0),
    /** Sum over the completed jobs, from assignment to result. */
    busyMs: bigint('busy_ms', { mode: 'number' }).notNull().default(0),
  },
  (table) => [
    index('idx_coordinator_miners_alive').on(table.lastSeenAt).where(sql`${table.status} <> 'OFFLINE'`),
    index('idx_coordinator_miners_offline').on(table.lastSeenAt).where(sql`${table.status} = 'OFFLINE'`),
    index('idx_coordinator_miners_session').on(table.sessionDigest),
    check('miners_status', sql`${table.status} in ('ONLINE', 'DRAINING', 'OFFLINE')`),
  ],
);

export type MinerRow = typeof coordinatorMiners.$inferSelect;
