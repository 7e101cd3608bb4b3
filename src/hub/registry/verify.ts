import { takeCensus } from './census.ts';
import { checkEntries } from './check-entries.ts';
import { checkIndex } from './check-index.ts';
import { checkMiners, type Seen } from './check-miners.ts';
import { checkReservations } from './check-reservations.ts';
import { checkSlots } from './check-slots.ts';
import { checkTallies } from './check-tallies.ts';
import type { Difference, DifferenceKind, Registry } from './difference.ts';

/** What a look at the whole registry found. */
export interface VerifyReport {
  /** Miners looked at. */
  readonly miners: number;
  /** How many differences there are of each kind; empty when the registry is right. */
  readonly counts: Partial<Record<DifferenceKind, number>>;
  /** The first differences, at most as many as asked for. */
  readonly differences: readonly Difference[];
}

/**
 * Derives from the hash of each miner all that the registry keeps beside it, and compares. Reads in small steps, so it may run beside a
 * registry at work: a difference counts only if it is there at one instant, or still there when all is read again. The memory it takes grows with
 * the miners of a shard.
 * @param shown differences to return in full at most; all are counted
 * @throws what Redis throws
 */
export async function verifyRegistry(registry: Registry, shown = 100): Promise<VerifyReport> {
  const counts: VerifyReport['counts'] = {};
  const differences: Difference[] = [];
  let miners = 0;
  const counted = (shardMiners: number) => {
    miners += shardMiners;
  };
  for await (const difference of findDifferences(registry, counted)) {
    counts[difference.kind] = (counts[difference.kind] ?? 0) + 1;
    if (differences.length < shown) differences.push(difference);
  }
  return { miners, counts, differences };
}

/**
 * All differences, one shard after the other, and in each the miners first: what a miner should have is known only then.
 * @param counted is told how many miners each shard has
 */
export async function* findDifferences(
  registry: Registry,
  counted: (miners: number) => void,
): AsyncGenerator<Difference> {
  const censuses = await takeCensus(registry.store, registry.shards);
  for (const [shard, census] of censuses.entries()) {
    const seen: Seen = { owners: new Map(), members: new Map() };
    yield* checkMiners(registry, shard, census.miners, seen);
    counted(seen.owners.size);
    yield* checkSlots(registry, shard, seen);
    yield* checkEntries(registry, shard, census, seen);
    yield* checkIndex(registry, shard, census, seen);
    yield* checkTallies(registry, shard, census);
    yield* checkReservations(registry, shard, census);
  }
}
