import * as v from 'valibot';
import { PendingCommand } from '../miners/schema.ts';

const nullableNumber = v.nullable(v.number());

const summaryEntries = {
  miner_id: v.string(),
  state: v.picklist(['online', 'degraded']),
  busy: v.boolean(),
  draining: v.pipe(v.picklist(['no', 'self', 'admin']), v.description('who asked for it')),
  region: v.string(),
  addr: v.string(),
  proto: v.string(),
  gpu_name: v.string(),
  gpu_count: v.number(),
  gpu_vram_gb: nullableNumber,
  ram_gb: nullableNumber,
  accel: v.array(v.string()),
  price: v.pipe(v.string(), v.description('in force: override or own, never above the cap')),
  queue_len: v.number(),
  reserved: v.number(),
  max_parallel: v.number(),
  latency_ms: v.pipe(nullableNumber, v.description('observed through feedback, else self-reported')),
  trust_score: v.number(),
  last_seen_at: v.string(),
  lease_expires_at: v.string(),
};

export const MinerSummary = v.pipe(v.object(summaryEntries), v.metadata({ ref: 'MinerSummary' }));

export const MinerPage = v.pipe(
  v.object({
    miners: v.array(MinerSummary),
    total: v.pipe(v.number(), v.description('miners that the filters take')),
    totals: v.object({
      registered: v.number(),
      online: v.number(),
      degraded: v.number(),
      matchable: v.pipe(v.number(), v.description('online, with a free place, not busy or draining')),
      busy: v.number(),
      draining: v.number(),
      full: v.number(),
      reservations: v.number(),
    }),
    next_cursor: v.pipe(v.optional(v.string()), v.description('absent on the last page')),
  }),
  v.metadata({ ref: 'MinerPage' }),
);

/** Parts of a score in [0, 1], and their weighted sum, for a request that asks for nothing in particular. */
const ScoreParts = v.object({
  score: v.number(),
  cap: v.number(),
  price: v.number(),
  latency: v.number(),
  trust: v.number(),
  load: v.number(),
});

const LastFeedback = v.object({
  job_id: v.string(),
  outcome: v.picklist(['accepted', 'rejected', 'failed', 'completed']),
  latency_ms: nullableNumber,
  fail_code: v.nullable(v.string()),
  created_at: v.string(),
});

export const MinerDetail = v.pipe(
  v.object({
    ...summaryEntries,
    tags: v.array(v.string()),
    capabilities: v.array(v.string()),
    cpu_cores: nullableNumber,
    tenant_id: v.nullable(v.string()),
    wallet_address: v.nullable(v.string()),
    base_price: v.string(),
    price_override: v.nullable(v.object({ price: v.string(), expires_at: v.nullable(v.string()) })),
    price_cap: v.nullable(v.string()),
    current_jobs: nullableNumber,
    self_latency_ms: nullableNumber,
    observed_latency_ms: nullableNumber,
    observed_samples: v.number(),
    temp_c: nullableNumber,
    mem_free_gb: nullableNumber,
    trust: v.object({ alpha: v.number(), beta: v.number(), updates: v.number() }),
    registered_at: v.string(),
    uptime_ms: v.number(),
    scores: v.pipe(v.record(v.string(), ScoreParts), v.description('by strategy')),
    pending_commands: v.array(PendingCommand),
    last_feedback: v.pipe(
      v.nullable(LastFeedback),
      v.description('null when there is none, or Postgres is away'),
    ),
  }),
  v.metadata({ ref: 'MinerDetail' }),
);

export const KeyAnswer = v.pipe(
  v.object({
    status: v.literal('ok'),
    miner_id: v.string(),
    api_key: v.pipe(v.string(), v.description('shown here and never again')),
    created: v.pipe(v.boolean(), v.description('true when the miner was not enrolled before')),
  }),
  v.metadata({ ref: 'KeyAnswer' }),
);

export const CommandAnswer = v.pipe(
  v.object({ status: v.literal('ok'), miner_id: v.string(), command_id: v.string() }),
  v.metadata({ ref: 'CommandAnswer' }),
);

export const PriceOverrideAnswer = v.pipe(
  v.object({
    status: v.literal('ok'),
    miner_id: v.string(),
    price: v.string(),
    expires_at: v.nullable(v.string()),
  }),
  v.metadata({ ref: 'PriceOverrideAnswer' }),
);

export const DoneAnswer = v.pipe(
  v.object({ status: v.literal('ok'), miner_id: v.string() }),
  v.metadata({ ref: 'DoneAnswer' }),
);
