/**
 * Durable state of miners in Postgres (schema `poolhub`). Redis owns what is live; these tables hold what
 * must survive the loss of Redis: who may register, the last known profile, trust, price overrides, status
 * snapshots.
 */
import { sql } from 'drizzle-orm';
import {
  bigint,
  boolean,
  doublePrecision,
  index,
  integer,
  jsonb,
  numeric,
  pgSchema,
  text,
  timestamp,
} from 'drizzle-orm/pg-core';

export const poolhub = pgSchema('poolhub');

/** Moments are stored with the millisecond precision that JavaScript and Redis TIME give us. */
const moment = (name: string) => timestamp(name, { withTimezone: true, precision: 3, mode: 'date' });

/** Money and prices: exact decimals, strings in TypeScript. */
const money = (name: string) => numeric(name, { precision: 20, scale: 8, mode: 'string' });

const stringList = (name: string) => jsonb(name).$type<string[]>().notNull().default(sql`'[]'::jsonb`);

/**
 * One row per miner that was ever enrolled. The profile columns are null until its first registration
 * has been drained from the journal.
 */
export const miners = poolhub.table(
  'miners',
  {
    minerId: text('miner_id').primaryKey(),
    /** HMAC-SHA-256 of the key, hex; null when the key was revoked and none replaced it. */
    apiKeyHash: text('api_key_hash'),
    keyCreatedAt: moment('key_created_at'),
    keyRevokedAt: moment('key_revoked_at'),
    createdAt: moment('created_at').notNull().defaultNow(),
    lastSeenAt: moment('last_seen_at'),
    removedAt: moment('removed_at'),
    addr: text('addr'),
    proto: text('proto'),
    gpuVramGb: doublePrecision('gpu_vram_gb'),
    gpuName: text('gpu_name'),
    gpuCount: integer('gpu_count'),
    cpuCores: integer('cpu_cores'),
    ramGb: doublePrecision('ram_gb'),
    maxParallel: integer('max_parallel'),
    basePrice: money('base_price'),
    tags: stringList('tags'),
    capabilities: stringList('capabilities'),
    accel: stringList('accel'),
    region: text('region'),
    tenantId: text('tenant_id'),
    walletAddress: text('wallet_address'),
    /** Version of the profile last drained; an older journal entry never overwrites a newer one. */
    profileVersion: bigint('profile_version', { mode: 'number' }).notNull().default(0),
    trustScore: doublePrecision('trust_score').notNull().default(0.5),
    trustAlpha: doublePrecision('trust_alpha').notNull().default(2),
    trustBeta: doublePrecision('trust_beta').notNull().default(2),
    /** When alpha or beta last moved: the decay of the next step starts here. */
    trustAt: moment('trust_at'),
    /** Number of feedback rows of this miner; the `seq` of the newest. */
    trustSeq: bigint('trust_seq', { mode: 'number' }).notNull().default(0),
    observedLatencyMs: doublePrecision('observed_latency_ms'),
    observedLatencySamples: integer('observed_latency_samples').notNull().default(0),
  },
  (table) => [
    // GIN over the capability list of miners still in the pool ...
    index('idx_miners_region_caps_gte_vram')
      .using('gin', table.capabilities.op('jsonb_path_ops'))
      .where(sql`${table.removedAt} is null`),
    // ... and its partial companion for "in this region, with at least this much VRAM".
    index('idx_miners_region_vram').on(table.region, table.gpuVramGb).where(sql`${table.removedAt} is null`),
  ],
);

/** The last flushed status of a miner: a snapshot, up to STATUS_FLUSH_SEC behind Redis. */
export const minerStatus = poolhub.table(
  'miner_status',
  {
    minerId: text('miner_id')
      .primaryKey()
      .references(() => miners.minerId, { onDelete: 'cascade' }),
    queueLen: integer('queue_len').notNull(),
    busy: boolean('busy').notNull(),
    avgLatencyMs: doublePrecision('avg_latency_ms'),
    tempC: doublePrecision('temp_c'),
    memFreeGb: doublePrecision('mem_free_gb'),
    updatedAt: moment('updated_at').notNull(),
  },
  (table) => [index('idx_status_updated_at').on(table.updatedAt)],
);

/** A price set by an administrator, which stands in for the miner's own until it expires or is deleted. */
export const priceOverrides = poolhub.table('price_overrides', {
  minerId: text('miner_id')
    .primaryKey()
    .references(() => miners.minerId, { onDelete: 'cascade' }),
  price: money('price').notNull(),
  expiresAt: moment('expires_at'),
  createdAt: moment('created_at').notNull().defaultNow(),
});
