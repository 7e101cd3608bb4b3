/** Service levels and capacity in Postgres: what was measured, what was promised and not kept, who was told. */
import { sql } from 'drizzle-orm';
import {
  bigint,
  boolean,
  doublePrecision,
  index,
  integer,
  jsonb,
  primaryKey,
  smallint,
  text,
  timestamp,
  uniqueIndex,
} from 'drizzle-orm/pg-core';
import { poolhub } from '../miners/tables.ts';

const moment = (name: string) => timestamp(name, { withTimezone: true, precision: 3, mode: 'date' });
const count = (name: string) => bigint(name, { mode: 'number' }).notNull().default(0);
const amount = (name: string) => doublePrecision(name).notNull().default(0);

/**
 * What each collection added up, per miner and span of time: sums, not averages, so that spans can be added. The row
 * of the pool has the miner_id ''. A span is SLA_WINDOW_SEC long; older ones are merged into days.
 */
export const slaMetrics = poolhub.table(
  'sla_metrics',
  {
    minerId: text('miner_id').notNull(),
    startsAt: moment('starts_at').notNull(),
    spanSec: integer('span_sec').notNull(),
    /** When the last collection added to it. */
    collectedAt: moment('collected_at').notNull(),
    onlineMs: amount('online_ms'),
    /** Time since the miner first registered, less the outages of the hub. */
    expectedMs: amount('expected_ms'),
    completed: count('completed'),
    failed: count('failed'),
    latencySumMs: amount('latency_sum_ms'),
    latencyCount: count('latency_count'),
    /** Of the pool only: places of online and of all registered miners, added over the collections. */
    placesOnline: count('places_online'),
    placesTotal: count('places_total'),
  },
  (table) => [
    primaryKey({ columns: [table.minerId, table.startsAt, table.spanSec] }),
    index('idx_sla_metrics_time').on(table.startsAt, table.minerId),
    // What is to be merged is found without reading past years of days.
    index('idx_sla_metrics_unmerged').on(table.startsAt).where(sql`${table.spanSec} < 86400`),
  ],
);

/** What the last collection knew of a miner: the next one adds the differences. */
export const slaMiners = poolhub.table('sla_miners', {
  minerId: text('miner_id').primaryKey(),
  collectedAt: moment('collected_at').notNull(),
  /** `collected_at` before that. Of two collections that started from the same row, one finds it changed. */
  previousAt: moment('previous_at'),
  /** When a collection last found it in the registry. */
  liveAt: moment('live_at').notNull(),
  uptimeMs: doublePrecision('uptime_ms').notNull(),
  /** Outages of the hub so far, as the miner's shard counts them. */
  outageMs: doublePrecision('outage_ms').notNull(),
  /** `seq` of its newest feedback that was counted. */
  feedbackSeq: bigint('feedback_seq', { mode: 'number' }).notNull(),
  places: integer('places').notNull(),
});

/** One row per collection: where it stands, so that another worker goes on after a kill, and what came of it. */
export const slaCollections = poolhub.table('sla_collections', {
  slot: moment('slot').primaryKey(),
  /** By the clock of Redis. */
  startedAt: moment('started_at').notNull(),
  finishedAt: moment('finished_at'),
  /** The next page: shard, and slot of the registry in it. */
  nextShard: integer('next_shard').notNull().default(0),
  nextSlot: integer('next_slot').notNull().default(0),
  miners: count('miners'),
  online: count('online'),
  placesOnline: count('places_online'),
  placesUsed: count('places_used'),
  violationsOpened: count('violations_opened'),
  violationsResolved: count('violations_resolved'),
});

/** A promise that is not kept. One is open per miner and metric; the pool's have the miner_id ''. */
export const slaViolations = poolhub.table(
  'sla_violations',
  {
    id: bigint('id', { mode: 'number' }).primaryKey().generatedAlwaysAsIdentity(),
    minerId: text('miner_id').notNull(),
    violationType: text('violation_type').notNull(),
    /** 1 low, 2 medium, 3 high, 4 critical: the worst that it was. */
    severity: smallint('severity').notNull(),
    /** The newest value. */
    metricValue: doublePrecision('metric_value').notNull(),
    threshold: doublePrecision('threshold').notNull(),
    createdAt: moment('created_at').notNull(),
    resolvedAt: moment('resolved_at'),
  },
  (table) => [
    uniqueIndex('idx_sla_violations_open')
      .on(table.minerId, table.violationType)
      .where(sql`${table.resolvedAt} is null`),
    index('idx_sla_violations_miner').on(table.minerId, table.id),
    index('idx_sla_violations_resolved').on(table.resolvedAt),
  ],
);

/** Use of the pool at each collection. */
export const capacitySnapshots = poolhub.table('capacity_snapshots', {
  at: moment('at').primaryKey(),
  miners: integer('miners').notNull(),
  minersOnline: integer('miners_online').notNull(),
  placesTotal: integer('places_total').notNull(),
  placesOnline: integer('places_online').notNull(),
  placesUsed: integer('places_used').notNull(),
});

/** What watchers are told, in order: the feed of /v1/events and of the webhooks. */
export const slaAlerts = poolhub.table(
  'sla_alerts',
  {
    id: bigint('id', { mode: 'number' }).primaryKey().generatedAlwaysAsIdentity(),
    type: text('type').notNull(),
    data: jsonb('data').$type<Record<string, unknown>>().notNull(),
    createdAt: moment('created_at').notNull(),
    /** Whether the hubs have been told; whoever was not listening reads this table. */
    published: boolean('published').notNull().default(false),
  },
  (table) => [
    index('idx_sla_alerts_unpublished').on(table.id).where(sql`not ${table.published}`),
    index('idx_sla_alerts_time').on(table.createdAt),
  ],
);

/** Where alerts are sent. The secret signs them. */
export const slaWebhooks = poolhub.table('sla_webhooks', {
  id: bigint('id', { mode: 'number' }).primaryKey().generatedAlwaysAsIdentity(),
  url: text('url').notNull().unique(),
  secret: text('secret').notNull(),
  createdAt: moment('created_at').notNull().defaultNow(),
});

/** An alert on its way to a webhook; the row goes with its delivery. */
export const slaDeliveries = poolhub.table(
  'sla_deliveries',
  {
    id: bigint('id', { mode: 'number' }).primaryKey().generatedAlwaysAsIdentity(),
    alertId: bigint('alert_id', { mode: 'number' })
      .notNull()
      .references(() => slaAlerts.id, { onDelete: 'cascade' }),
    webhookId: bigint('webhook_id', { mode: 'number' })
      .notNull()
      .references(() => slaWebhooks.id, { onDelete: 'cascade' }),
    attempts: integer('attempts').notNull().default(0),
    nextAt: moment('next_at').notNull(),
    lastError: text('last_error'),
    /** Set when the attempts are used up. */
    failedAt: moment('failed_at'),
  },
  (table) => [
    uniqueIndex('idx_sla_deliveries_once').on(table.alertId, table.webhookId),
    index('idx_sla_deliveries_due').on(table.webhookId, table.nextAt).where(sql`${table.failedAt} is null`),
    index('idx_sla_deliveries_webhook').on(table.webhookId),
  ],
);

/** What administrators set while the hub runs; one row, absent until then. */
export const slaSettings = poolhub.table('sla_settings', {
  id: integer('id').primaryKey(),
  capacityAlertPct: doublePrecision('capacity_alert_pct').notNull(),
});
