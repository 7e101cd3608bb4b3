/**
 * Matching by brute force: every miner is scored from its readable hash, by the rules of the contract alone. What the scripts answer from their index
 * must be this.
 */
import { startOf } from '../../src/hub/matching/compile.ts';
import type { MatchInput } from '../../src/hub/matching/types.ts';
import { normaliseGpuName } from '../../src/hub/miners/profile.ts';
import type { MinerHash } from '../../src/hub/miners/types.ts';
import type { Weights } from '../../src/platform/settings.ts';
import type { StoredMiner } from './registry-world.ts';

/** Everything that an answer depends on beside the request. */
export interface Pool {
  readonly miners: readonly StoredMiner[];
  readonly strategies: Readonly<Record<string, Weights>>;
  readonly nowMs: number;
  /** Slots ever given out, for each shard: the tie break goes round them. */
  readonly slotCounts: readonly number[];
}

export interface Ranked {
  readonly id: string;
  readonly degraded: boolean;
  readonly score: number;
  readonly capFit: number;
  readonly priceNorm: number;
  readonly etaMs: number | null;
  readonly shard: number;
  /** The smallest of equals comes first. */
  readonly turn: number;
}

export interface OracleAnswer {
  /** Every miner that matches, best first. */
  readonly ranked: readonly Ranked[];
  readonly registered: number;
  readonly online: number;
  readonly degraded: number;
  readonly available: number;
  readonly matchable: number;
  /** For each clause of the request, by name. */
  readonly clauses: ReadonlyMap<string, { have: number; ifDropped: number }>;
  /** Names of what each miner fails, by its id. */
  readonly fails: ReadonlyMap<string, readonly string[]>;
}

const numberOf = (text: string | undefined): number | null =>
  text === undefined || text === '' ? null : Number(text);
const listOf = (text: string | undefined): string[] => (text ? JSON.parse(text) : []);
const lower = (text: string) => text.toLowerCase();

/** The facts of a miner, from the fields that a person reads. */
interface Facts {
  readonly stored: StoredMiner;
  readonly state: 'online' | 'degraded' | 'lapsed';
  readonly busy: boolean;
  readonly draining: boolean;
  readonly free: number;
  readonly places: number;
  readonly price: number;
  readonly etaMs: number | null;
  readonly accel: readonly string[];
  readonly tags: readonly string[];
  readonly capabilities: readonly string[];
}

function factsOf(stored: StoredMiner, nowMs: number): Facts {
  const { hash } = stored;
  const places = Number(hash.max_parallel);
  const taken = Number(hash.queue_len) + Number(hash.reserved);
  const latencyMs = latencyOf(hash);
  const online = hash.state === 'online';
  return {
    stored,
    state: online ? (Number(hash.lease_until_ms) >= nowMs ? 'online' : 'lapsed') : 'degraded',
    busy: hash.busy === '1',
    draining: hash.draining !== 'no',
    free: Math.max(0, places - taken),
    places,
    price: priceOf(hash, nowMs),
    etaMs: latencyMs === null ? null : latencyMs * (1 + taken / places),
    accel: listOf(hash.accel),
    tags: listOf(hash.tags),
    capabilities: listOf(hash.capabilities),
  };
}

function latencyOf(hash: MinerHash): number | null {
  return Number(hash.observed_samples) >= 3
    ? numberOf(hash.observed_latency_ms)
    : numberOf(hash.self_latency_ms);
}

function priceOf(hash: MinerHash, nowMs: number): number {
  const override = numberOf(hash.price_override);
  const until = numberOf(hash.price_override_until_ms) ?? Number.POSITIVE_INFINITY;
  const price = override !== null && nowMs < until ? override : Number(hash.base_price);
  return Math.min(price, numberOf(hash.price_cap) ?? Number.POSITIVE_INFINITY);
}

type Clause = [name: string, holds: (facts: Facts) => boolean];

/** The clauses that a request makes, each as a question to a miner. */
function clausesOf({ requirements: r, hints }: MatchInput): Clause[] {
  const given = <T>(list: readonly T[] | undefined) =>
    list === undefined || list.length === 0 ? undefined : list;
  const clauses: [string, false | undefined | ((facts: Facts) => boolean)][] = [
    ['accel', given(r.accel) && ((m) => r.accel?.some((name) => m.accel.includes(lower(name))) === true)],
    [
      'capabilities_any',
      given(r.capabilities_any) &&
        ((m) => r.capabilities_any?.some((c) => m.capabilities.includes(c)) === true),
    ],
    [
      'capabilities_all',
      given(r.capabilities_all) &&
        ((m) => r.capabilities_all?.every((c) => m.capabilities.includes(c)) === true),
    ],
    ['tags_any', given(r.tags_any) && ((m) => r.tags_any?.some((t) => m.tags.includes(t)) === true)],
    ['tags_all', given(r.tags_all) && ((m) => r.tags_all?.every((t) => m.tags.includes(t)) === true)],
    ['tags_none', given(r.tags_none) && ((m) => r.tags_none?.every((t) => !m.tags.includes(t)) === true)],
    [
      'gpu_name_any',
      given(r.gpu_name_any) &&
        ((m) => r.gpu_name_any?.some((g) => normaliseGpuName(g) === m.stored.hash.gpu_key) === true),
    ],
    [
      'region',
      hints.region !== undefined &&
        ((m) => `${m.stored.hash.region}-`.startsWith(`${lower(hints.region ?? '')}-`)),
    ],
    ['task', r.task !== undefined && ((m) => takesTask(m, r.task ?? ''))],
    ['min_vram_gb', atLeast('gpu_vram_gb', r.min_vram_gb)],
    ['min_ram_gb', atLeast('ram_gb', r.min_ram_gb)],
    ['max_price', hints.max_price !== undefined && ((m) => m.price <= Number(hints.max_price))],
    ['deadline_ms', hints.deadline_ms !== undefined && ((m) => (m.etaMs ?? 0) <= (hints.deadline_ms ?? 0))],
    ['exclude_miners', given(r.exclude_miners) && ((m) => r.exclude_miners?.includes(m.stored.id) === false)],
  ];
  return clauses.filter((clause): clause is Clause => typeof clause[1] === 'function');
}

function atLeast(field: 'gpu_vram_gb' | 'ram_gb', minimum: number | undefined) {
  return (minimum ?? 0) > 0 && ((m: Facts) => (numberOf(m.stored.hash[field]) ?? -1) >= (minimum ?? 0));
}

/** A miner that declares no task takes any. */
function takesTask(m: Facts, task: string): boolean {
  const declared = m.tags.filter((tag) => tag.startsWith('task:'));
  return declared.length === 0 || declared.includes(`task:${task}`);
}

/** The exact answer to a request. */
export function askOracle(pool: Pool, input: MatchInput): OracleAnswer {
  const all = pool.miners.map((miner) => factsOf(miner, pool.nowMs));
  const clauses = clausesOf(input);
  const isFree = (m: Facts) => m.free > 0 && !m.busy && !m.draining;
  const available = all.filter((m) => isFree(m) && m.state !== 'lapsed');
  const passes = (m: Facts, dropped?: string) =>
    clauses.every(([name, holds]) => name === dropped || holds(m));
  const count = (holds: (m: Facts) => boolean) => available.filter(holds).length;
  return {
    ranked: rank(
      pool,
      input,
      all,
      available.filter((m) => passes(m)),
    ),
    registered: all.length,
    online: all.filter((m) => m.state === 'online').length,
    degraded: all.filter((m) => m.state === 'degraded').length,
    available: available.length,
    matchable: count((m) => m.state === 'online'),
    clauses: new Map(
      clauses.map(([name, holds]) => [
        name,
        { have: count(holds), ifDropped: count((m) => passes(m, name)) },
      ]),
    ),
    fails: new Map(
      all.map((m) => [
        m.stored.id,
        [
          ...(m.busy ? ['busy'] : []),
          ...(m.draining ? ['draining'] : []),
          ...(m.free === 0 ? ['full'] : []),
          ...clauses.flatMap(([name, holds]) => (holds(m) ? [] : [name])),
        ],
      ]),
    ),
  };
}

function rank(pool: Pool, input: MatchInput, all: readonly Facts[], feasible: readonly Facts[]): Ranked[] {
  const weights = pool.strategies[input.hints.strategy ?? 'balanced'];
  if (weights === undefined) throw new Error('no such strategy');
  const asked = [...new Set(input.requirements.capabilities_any ?? [])];
  const top = input.hints.max_price === undefined ? priceReference(all) : Number(input.hints.max_price);
  const ranked = feasible.map((m): Ranked => {
    const degraded = m.state === 'degraded';
    const had = asked.filter((capability) => m.capabilities.includes(capability)).length;
    const capFit = asked.length === 0 ? 1 : had / asked.length;
    const priceNorm = top > 0 ? Math.max(0, 1 - m.price / top) : Number(m.price <= 0);
    const score = scoreOf(weights, capFit, priceNorm, m);
    return {
      id: m.stored.id,
      degraded,
      score: degraded ? score / 2 : score,
      capFit,
      priceNorm,
      etaMs: m.etaMs,
      shard: m.stored.shard,
      turn: distanceOf(pool, input.job_id, m.stored),
    };
  });
  const byTurn = (a: Ranked, b: Ranked) =>
    Number(a.degraded) - Number(b.degraded) || b.score - a.score || a.turn - b.turn || (a.id < b.id ? -1 : 1);
  if (pool.slotCounts.length === 1) return ranked.sort(byTurn);
  const shards = pool.slotCounts.map((_, shard) => ranked.filter((m) => m.shard === shard).sort(byTurn));
  return shards.flatMap((shard) => takeTurns(input.job_id, shard)).sort(byTurn);
}

/** Equals of a shard come up as chance has it, at the rate of all in it that match; `shard` is best first. */
function takeTurns(jobId: string, shard: readonly Ranked[]): Ranked[] {
  let before: Ranked | undefined;
  let rank = 0;
  return shard.map((m) => {
    const isFirst = before?.score !== m.score || before.degraded !== m.degraded;
    rank = isFirst ? 0 : rank + 1;
    const wait = -Math.log(1 - startOf(`${m.shard}.${rank}.${jobId}`)) / shard.length;
    before = { ...m, turn: isFirst ? wait : (before?.turn ?? 0) + wait };
    return before;
  });
}

/** The part that does not depend on the request is defined in 1,024 steps. */
function scoreOf(weights: Weights, capFit: number, priceNorm: number, m: Facts): number {
  const { hash } = m.stored;
  const staticWeight = weights.latency + weights.trust + weights.load;
  const part =
    weights.latency * Number(hash.latency_norm) +
    weights.trust * Number(hash.trust) +
    weights.load * (m.free / (m.places + 1));
  const step = staticWeight > 0 ? Math.floor((part / staticWeight) * 1023 + 0.5) : 0;
  return weights.cap * capFit + weights.price * priceNorm + (staticWeight * step) / 1023;
}

/** Upper edge of the highest priced bin of the pool: bins grow by 1.25 from 0.000001, and the 128th holds the rest. */
function priceReference(all: readonly Facts[]): number {
  if (all.length === 0) return 0;
  const highest = Math.max(...all.map((m) => m.price));
  const edge = highest <= 1e-6 ? 0 : Math.min(127, Math.floor(Math.log(highest / 1e-6) / Math.log(1.25)) + 1);
  return 1e-6 * 1.25 ** edge;
}

/** How far round the slots of its shard a miner is from where the job starts, 0..1. */
function distanceOf(pool: Pool, jobId: string, { shard, hash }: StoredMiner): number {
  const slots = pool.slotCounts[shard] ?? 0;
  const start = Math.floor(startOf(jobId) * slots);
  return ((Number(hash.slot) - start + slots) % slots) / slots;
}
