import { forEachLimited } from '../../src/cli/bulk.ts';
import { type FleetKind, type FleetMiner, type FleetProfile, fleetMiner } from '../../src/cli/fleet.ts';
import { between, seededRandom } from '../../src/cli/random.ts';
import { normaliseProfile, type ProfileInput } from '../../src/hub/miners/profile.ts';
import { newSession } from '../../src/hub/miners/session.ts';
import type { Beat, DurableState } from '../../src/hub/miners/types.ts';
import { keys, shardPrefix } from '../../src/platform/keys.ts';
import type { BenchRegistry } from './registry.ts';

export interface FleetPlan {
  /** How many there are afterwards. */
  readonly miners: number;
  /** So many of the same fleet are online already (0). */
  readonly loaded?: number;
  readonly kind: FleetKind;
  readonly seed: number;
}

/** A miner that was loaded, with the session it may beat with. */
export interface LoadedMiner {
  readonly minerId: string;
  readonly sessionToken: string;
}

/** Calls under way at a time: they share round trips. */
const IN_FLIGHT = 256;
/** The durable effects are dropped after so many miners, as a worker that keeps up would have written them. */
const CHUNK = 20_000;
/** Of a mixed fleet, one miner of so many says that it is busy. */
const BUSY_ONE_IN = 20;
const MAX_PAST_JOBS = 200;
/** Differs from the seed of the fleet generator, so that loads do not follow from hardware. */
const LOAD_STREAM = 0x10ad;

/**
 * Brings a fleet online through the real scripts of registration and heartbeat. A mixed fleet has loads, latencies and pasts; an equal one is
 * brand new: no latency, no feedback, no load.
 * @param keep of so many miners, the first, the sessions are returned
 * @param progress called now and then with how many are online
 */
export async function loadFleet(
  registry: BenchRegistry,
  plan: FleetPlan,
  keep: number,
  progress: (online: number) => void,
): Promise<LoadedMiner[]> {
  const kept: LoadedMiner[] = [];
  for (let from = plan.loaded ?? 0; from < plan.miners; from += CHUNK) {
    const to = Math.min(plan.miners, from + CHUNK);
    await forEachLimited(range(from, to), IN_FLIGHT, undefined, async (index) => {
      const loaded = await loadMiner(registry, plan, index);
      if (index < keep) kept.push(loaded);
    });
    await dropDurableEffects(registry);
    progress(to);
  }
  return kept;
}

function* range(from: number, to: number): Generator<number> {
  for (let index = from; index < to; index += 1) yield index;
}

async function loadMiner(
  registry: BenchRegistry,
  { kind, seed }: FleetPlan,
  index: number,
): Promise<LoadedMiner> {
  const miner = fleetMiner(index, { seed, kind });
  const { miner_id: minerId } = miner.profile;
  const { token, digest } = newSession(minerId);
  const random = seededRandom(seed, LOAD_STREAM, index);
  const registered = await registry.miners.register({
    minerId,
    keyDigest: digest,
    sessionDigest: digest,
    profile: normaliseProfile(profileInput(miner.profile), registry.config.default_region),
    durable: kind === 'equal' ? pastOf(0, miner) : pastOf(between(random, 0, MAX_PAST_JOBS), miner),
  });
  if (registered.status !== 'ok') throw new Error(`the registry refused ${minerId}: ${registered.status}`);
  const beat = kind === 'equal' ? {} : beatOf(miner, random);
  const beaten = await registry.miners.heartbeat(minerId, { kind: 'session', digest }, beat);
  if (beaten.status !== 'ok') throw new Error(`the registry refused a heartbeat: ${beaten.status}`);
  return { minerId, sessionToken: token };
}

/** A registration as the hub has it after checking; without the check, which takes longer than the script. */
function profileInput(profile: FleetProfile): ProfileInput {
  const { addr, proto, tags, capabilities, max_parallel } = profile;
  return {
    addr,
    proto,
    tags,
    capabilities,
    max_parallel,
    gpu_name: profile.gpu_name ?? undefined,
    gpu_count: profile.gpu_count ?? undefined,
    gpu_vram_gb: profile.gpu_vram ?? undefined,
    ram_gb: profile.ram_gb ?? undefined,
    cpu_cores: profile.cpu_cores ?? undefined,
    base_price: String(Number(profile.price_token_per_ksec)),
    region: profile.region ?? undefined,
  };
}

/** Some load, never more than the miner has places; the fewer the likelier, so that some are full but most are not. */
function beatOf({ profile, latency_ms }: FleetMiner, random: () => number): Beat {
  const places = Number(profile.max_parallel);
  return {
    queue_len: Math.floor((places + 1) * random() * random()),
    busy: between(random, 1, BUSY_ONE_IN) === 1,
    avg_latency_ms: latency_ms,
    current_jobs: 0,
  };
}

/** What feedback on so many jobs, the given share of them failed, leaves of trust. */
function pastOf(jobs: number, { failure_rate }: FleetMiner): DurableState {
  return {
    alpha: 2 + jobs * (1 - failure_rate),
    beta: 2 + jobs * failure_rate,
    trustSeq: jobs,
    observedLatencyMs: '',
    observedSamples: 0,
    priceOverride: '',
    priceOverrideUntilMs: '',
  };
}

/** The journal and the set of changed miners, which the worker empties within seconds. */
async function dropDurableEffects({ redis, config, scripts }: BenchRegistry): Promise<void> {
  for (let shard = 0; shard < config.redis_shards; shard += 1) {
    const prefix = shardPrefix(scripts.prefix, shard);
    await redis.xtrim(keys.journal(prefix), 'MAXLEN', 0);
    await redis.del(keys.changed(prefix));
  }
}
