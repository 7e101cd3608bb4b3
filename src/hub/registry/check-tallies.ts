import { setTimeout as sleep } from 'node:timers/promises';
import { batches, type Census, scanPairs, takeCensus } from './census.ts';
import type { Difference, Registry } from './difference.ts';
import { latencyBucket } from './expected.ts';

const READ_MINERS = 100;
/**
 * Miners that move while they are read look like differences. A true one is the same, to the unit, each time that all miners are read again;
 * this many times in all. Miners that beat in step look alike at regular distances, so those are random.
 */
const READINGS = 6;
const PAUSE_MS = { least: 2, most: 20 };

/** What to add to which count: `hash field` -> amount. */
type Corrections = Map<string, number>;

/** Checks the latency histograms and the totals of a shard. Reads the miners again only where something looks wrong. */
export async function* checkTallies(
  registry: Registry,
  shard: number,
  census: Census,
): AsyncGenerator<Difference> {
  let corrections = await readCorrections(registry, shard, census);
  for (let reading = 1; corrections.size > 0 && reading < READINGS; reading++) {
    await sleep(PAUSE_MS.least + Math.random() * (PAUSE_MS.most - PAUSE_MS.least));
    const again = (await takeCensus(registry.store, registry.shards))[shard] as Census;
    const later = await readCorrections(registry, shard, again);
    corrections = new Map([...corrections].filter(([name, amount]) => later.get(name) === amount));
  }
  for (const [name, amount] of corrections) {
    const [hash, field] = JSON.parse(name) as [string, string];
    yield {
      kind: hash === 'stats' ? 'wrong total' : 'wrong histogram',
      shard,
      subject: `${hash} ${field}`,
      detail: `off by ${-amount}`,
      mend: { by: 'adjust', hash, field, amount },
    };
  }
}

async function readCorrections(registry: Registry, shard: number, census: Census): Promise<Corrections> {
  const { store } = registry;
  const expected = await readTallies(registry, shard, census.miners);
  const stored: Corrections = new Map();
  for (const region of census.regions) {
    const buckets = await scanPairs(store.redis, 'hscan', store.key(shard, `latency:${region}`));
    for (const [bucket, count] of buckets) add(stored, `latency:${region}`, bucket, Number(count));
  }
  const [sum, known] = await store.redis.hmget(store.key(shard, 'stats'), 'latency_sum_ms', 'latency_known');
  add(stored, 'stats', 'latency_sum_ms', Number(sum));
  add(stored, 'stats', 'latency_known', Number(known));
  const corrections: Corrections = new Map();
  for (const name of new Set([...expected.keys(), ...stored.keys()])) {
    const amount = (expected.get(name) ?? 0) - (stored.get(name) ?? 0);
    if (amount !== 0) corrections.set(name, amount);
  }
  return corrections;
}

async function readTallies(
  registry: Registry,
  shard: number,
  minerIds: readonly string[],
): Promise<Corrections> {
  const { store } = registry;
  const tallies: Corrections = new Map();
  for (const batch of batches(minerIds, READ_MINERS)) {
    const read = (id: string) =>
      store.redis.hmget(store.key(shard, `miner:${id}`), 'slot', 'region', 'bins', 'state', 'latency_ms');
    for (const [slot, region, bins, state, latencyMs] of await Promise.all(batch.map(read))) {
      if (!slot) continue;
      const bucket = latencyBucket({ bins: bins ?? '' });
      if (bucket !== null) add(tallies, `latency:${region}`, String(bucket), 1);
      if (state !== 'online' || !latencyMs) continue;
      add(tallies, 'stats', 'latency_sum_ms', Math.floor(Number(latencyMs) + 0.5));
      add(tallies, 'stats', 'latency_known', 1);
    }
  }
  return tallies;
}

function add(tallies: Corrections, hash: string, field: string, amount: number): void {
  const name = JSON.stringify([hash, field]);
  tallies.set(name, (tallies.get(name) ?? 0) + amount);
}
