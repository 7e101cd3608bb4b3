import { setTimeout as sleep } from 'node:timers/promises';
import type { HubDeps } from '../deps.ts';
import { batches, takeCensus } from './census.ts';
import { RegistryStore } from './store.ts';

type CompactDeps = Pick<HubDeps, 'redis' | 'scripts'>;

/** Moving a miner to another slot costs about as much as registering it. */
const STEPS = 8;
const TERMS = 32;
/** Waits this many times as long as a call took, so that it takes no more than a fifth of a server. */
const PAUSE_RATIO = 4;

/**
 * Makes the bitmaps of some shards as short as their miners are few: a match reads all of a bitmap, holes or not. May be ended at any time; the
 * next run goes on.
 */
export async function compactShards({ redis, scripts }: CompactDeps, shards: number): Promise<void> {
  const censuses = await takeCensus(new RegistryStore(scripts, redis), shards);
  const calmly = async (work: () => Promise<unknown[]>) => {
    const startedMs = performance.now();
    const reply = await work();
    await sleep((performance.now() - startedMs) * PAUSE_RATIO);
    return reply;
  };
  for (const [shard, { terms }] of censuses.entries()) {
    for (let more = true; more; ) {
      const [, left] = await calmly(() => scripts.run('registry/compact', shard, [STEPS]));
      more = left === 1;
    }
    for (const batch of batches(terms, TERMS)) {
      await calmly(() => scripts.run('registry/trim', shard, [...batch]));
    }
  }
}
