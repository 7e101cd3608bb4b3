/** What a pool is to carry. */
export interface PoolDemand {
  readonly miners: number;
  readonly matchesPerSec: number;
  /** Heartbeats a second of the whole fleet. */
  readonly heartbeatsPerSec: number;
  /** Memory that a master may use, bytes. */
  readonly maxMemoryBytes: number;
}

/** What things cost, as `npm run bench` measures them; microseconds are of the Redis server. */
export interface Costs {
  readonly bytesPerMiner: number;
  readonly heartbeatUs: number;
  /** One match in a shard of MEASURED_AT miners. */
  readonly matchUs: number;
  /** A match costs as the miners of the shard to this power. */
  readonly matchExponent: number;
}

/** How many miners were in the shard when `matchUs` was measured. */
export const MEASURED_AT = 30_000;

/**
 * `npm run bench -- match --miners 30000`, mixed fleet, Redis 7.0.15 on a shared machine of two cores, rounded up: `bytes_per_miner` 3,438,
 * `heartbeat_us` 126 (16 in a call), `typical_us` 298. The exponent is that of `npm run bench -- scale`
 * from 30,000 to 100,000 miners, as many as a shard is planned for.
 */
export const MEASURED: Costs = { bytesPerMiner: 3_500, heartbeatUs: 130, matchUs: 300, matchExponent: 0.3 };

/** How to set a pool up, and what each master does then. */
export interface ShardPlan {
  readonly shards: number;
  /** 1: a single server; else the masters of a cluster. */
  readonly masters: number;
  /** Redis servers that stand by, one for each master. */
  readonly redisReplicas: number;
  readonly hubs: number;
  readonly minersPerShard: number;
  readonly memoryBytesPerMaster: number;
  /** Script calls: a match asks every shard. */
  readonly callsPerSecPerMaster: number;
  /** Of the one core that a Redis server works on. */
  readonly loadPerMaster: number;
}

/** Up to this size of a shard no script call holds Redis for 5 ms. */
const MINERS_PER_SHARD = 100_000;
const MIN_CLUSTER_SHARDS = 16;
const MIN_CLUSTER_MASTERS = 3;
export const MAX_SHARDS = 1024;
/** A server that is busier makes calls wait for each other; a master must also carry the load of a slot that moves in. */
const MAX_LOAD = 0.5;
/** Fragmentation, buffers, and pages that are copied while a replica is being filled. */
const MEMORY_HEADROOM = 1.5;
/** Idle miners on one hub, below its default limit of sockets. */
const SOCKETS_PER_HUB = 20_000;
/** One may restart. */
const MIN_HUBS = 2;
const US_PER_SEC = 1_000_000;

/** Chooses the fewest masters that carry a demand, and the fewest shards: each shard makes every match dearer. */
export function planShards(demand: PoolDemand, costs: Costs = MEASURED): ShardPlan {
  const single = planFor(demand, costs, 1, 1);
  if (fits(single, demand)) return single;
  let shards = powerOfTwo(Math.max(MIN_CLUSTER_SHARDS, demand.miners / MINERS_PER_SHARD));
  for (let masters = MIN_CLUSTER_MASTERS; ; masters += 1) {
    // A shard is on one master: with fewer shards than masters some would have nothing to do.
    if (masters > shards) shards *= 2;
    const plan = planFor(demand, costs, shards, masters);
    if (fits(plan, demand)) return plan;
    if (masters >= MAX_SHARDS) throw new RangeError(`more than ${MAX_SHARDS} shards would be needed`);
  }
}

function planFor(demand: PoolDemand, costs: Costs, shards: number, masters: number): ShardPlan {
  const minersPerShard = Math.ceil(demand.miners / shards);
  // The master with the most shards.
  const share = Math.ceil(shards / masters) / shards;
  const matchUs = costs.matchUs * (minersPerShard / MEASURED_AT) ** costs.matchExponent;
  const matchCalls = demand.matchesPerSec * shards;
  const us = demand.heartbeatsPerSec * costs.heartbeatUs + matchCalls * matchUs;
  return {
    shards,
    masters,
    redisReplicas: masters,
    hubs: Math.max(MIN_HUBS, Math.ceil(demand.miners / SOCKETS_PER_HUB)),
    minersPerShard,
    memoryBytesPerMaster: Math.ceil(demand.miners * share * costs.bytesPerMiner * MEMORY_HEADROOM),
    callsPerSecPerMaster: Math.ceil((demand.heartbeatsPerSec + matchCalls) * share),
    loadPerMaster: (us * share) / US_PER_SEC,
  };
}

function fits(plan: ShardPlan, { maxMemoryBytes }: PoolDemand): boolean {
  return (
    plan.minersPerShard <= MINERS_PER_SHARD &&
    plan.loadPerMaster <= MAX_LOAD &&
    plan.memoryBytesPerMaster <= maxMemoryBytes
  );
}

function powerOfTwo(atLeast: number): number {
  return 2 ** Math.ceil(Math.log2(atLeast));
}
