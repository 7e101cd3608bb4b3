import type * as v from 'valibot';
import type { Weights } from '../../platform/settings.ts';
import type { MinerHash, PendingCommand } from '../miners/types.ts';
import type { MinerDetail, MinerSummary } from './schema.ts';

/** What the detail shows beside the hash of the miner. */
export interface DetailContext {
  readonly strategies: Readonly<Record<string, Weights>>;
  /** price_norm is 0 from this price on, tokens per 1,000 s. */
  readonly priceReference: number;
  readonly pendingCommands: PendingCommand[];
  readonly lastFeedback: v.InferOutput<typeof MinerDetail>['last_feedback'];
}

/** A miner's hash (all text) as the admin list shows it. */
export function summaryOf(minerId: string, hash: MinerHash): v.InferOutput<typeof MinerSummary> {
  return {
    miner_id: minerId,
    state: hash.state === 'degraded' ? 'degraded' : 'online',
    busy: hash.busy === '1',
    draining: hash.draining === 'self' || hash.draining === 'admin' ? hash.draining : 'no',
    region: textOf(hash, 'region'),
    addr: textOf(hash, 'addr'),
    proto: textOf(hash, 'proto'),
    gpu_name: textOf(hash, 'gpu_name'),
    gpu_count: countOf(hash, 'gpu_count'),
    gpu_vram_gb: numberOf(hash, 'gpu_vram_gb'),
    ram_gb: numberOf(hash, 'ram_gb'),
    accel: listOf(hash, 'accel'),
    price: textOf(hash, 'price'),
    queue_len: countOf(hash, 'queue_len'),
    reserved: countOf(hash, 'reserved'),
    max_parallel: countOf(hash, 'max_parallel'),
    latency_ms: latencyOf(hash),
    trust_score: countOf(hash, 'trust'),
    last_seen_at: timeOf(hash, 'last_seen_ms'),
    lease_expires_at: timeOf(hash, 'lease_until_ms'),
  };
}

/** A miner's hash as the admin detail shows it, with the parts of its score per strategy. */
export function detailOf(
  minerId: string,
  hash: MinerHash,
  context: DetailContext,
): v.InferOutput<typeof MinerDetail> {
  return {
    ...summaryOf(minerId, hash),
    tags: listOf(hash, 'tags'),
    capabilities: listOf(hash, 'capabilities'),
    cpu_cores: numberOf(hash, 'cpu_cores'),
    tenant_id: hash.tenant_id || null,
    wallet_address: hash.wallet_address || null,
    base_price: textOf(hash, 'base_price'),
    price_override: overrideOf(hash),
    price_cap: hash.price_cap || null,
    current_jobs: numberOf(hash, 'current_jobs'),
    self_latency_ms: numberOf(hash, 'self_latency_ms'),
    observed_latency_ms: numberOf(hash, 'observed_latency_ms'),
    observed_samples: countOf(hash, 'observed_samples'),
    temp_c: numberOf(hash, 'temp_c'),
    mem_free_gb: numberOf(hash, 'mem_free_gb'),
    trust: {
      alpha: countOf(hash, 'alpha'),
      beta: countOf(hash, 'beta'),
      updates: countOf(hash, 'trust_seq'),
    },
    registered_at: timeOf(hash, 'registered_at_ms'),
    uptime_ms: countOf(hash, 'uptime_ms'),
    scores: scoresOf(hash, context),
    pending_commands: context.pendingCommands,
    last_feedback: context.lastFeedback,
  };
}

/** The formula of matching for a request without requirements: cap_fit is 1, price_norm is against the dearest of the pool. */
function scoresOf(hash: MinerHash, { strategies, priceReference }: DetailContext) {
  const maxParallel = countOf(hash, 'max_parallel');
  const free = Math.max(0, maxParallel - countOf(hash, 'queue_len') - countOf(hash, 'reserved'));
  const parts = {
    cap: 1,
    price: priceReference > 0 ? Math.max(0, 1 - countOf(hash, 'price') / priceReference) : 0,
    latency: countOf(hash, 'latency_norm'),
    trust: countOf(hash, 'trust'),
    load: free / (maxParallel + 1),
  };
  const names = Object.keys(parts) as (keyof typeof parts)[];
  const scoreWith = (weights: Weights) =>
    names.reduce((total, name) => total + weights[name] * parts[name], 0) *
    (hash.state === 'degraded' ? 0.5 : 1);
  return Object.fromEntries(
    Object.entries(strategies).map(([name, weights]) => [name, { score: scoreWith(weights), ...parts }]),
  );
}

function overrideOf(hash: MinerHash): { price: string; expires_at: string | null } | null {
  if (!hash.price_override) return null;
  return {
    price: hash.price_override,
    expires_at: hash.price_override_until_ms ? timeOf(hash, 'price_override_until_ms') : null,
  };
}

/** The registry writes -1 for a latency that nobody knows. */
function latencyOf(hash: MinerHash): number | null {
  const latency = numberOf(hash, 'latency_ms');
  return latency === null || latency < 0 ? null : latency;
}

function textOf(hash: MinerHash, field: string): string {
  return hash[field] ?? '';
}

function numberOf(hash: MinerHash, field: string): number | null {
  const text = hash[field];
  return text === undefined || text === '' ? null : Number(text);
}

function countOf(hash: MinerHash, field: string): number {
  return numberOf(hash, field) ?? 0;
}

function listOf(hash: MinerHash, field: string): string[] {
  return JSON.parse(hash[field] || '[]') as string[];
}

function timeOf(hash: MinerHash, field: string): string {
  return new Date(countOf(hash, field)).toISOString();
}
