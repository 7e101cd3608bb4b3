import { batches } from './census.ts';
import type { Seen } from './check-miners.ts';
import type { Difference, DifferenceKind, Registry } from './difference.ts';
import { PER_CALL } from './store.ts';

const FREE_PIECE = 10_000;

const VERDICTS: Readonly<Record<string, DifferenceKind>> = {
  lost: 'orphan slot',
  shared: 'shared slot',
  doubled: 'shared slot',
  uncounted: 'uncounted slot',
};

/** Checks that each slot below the counter is taken once or free once. */
export async function* checkSlots(registry: Registry, shard: number, seen: Seen): AsyncGenerator<Difference> {
  for (const batch of batches(await suspectSlots(registry, shard, seen), PER_CALL.slots)) {
    const verdicts = await registry.store.slots(shard, 'look', batch);
    for (const [i, verdict] of verdicts.entries()) {
      const kind = VERDICTS[verdict];
      if (kind === undefined) continue;
      const slot = batch[i] as number;
      yield { kind, shard, subject: `slot ${slot}`, detail: verdict, mend: { by: 'slots', slot } };
    }
  }
}

async function suspectSlots(registry: Registry, shard: number, seen: Seen): Promise<Set<number>> {
  const { store } = registry;
  const free = new Set<number>();
  const suspects = new Set<number>();
  for (let from = 0; ; from += FREE_PIECE) {
    const piece = await store.redis.lrange(store.key(shard, 'slots:free'), from, from + FREE_PIECE - 1);
    for (const slot of piece.map(Number)) {
      if (free.has(slot) || seen.owners.has(slot)) suspects.add(slot);
      free.add(slot);
    }
    if (piece.length < FREE_PIECE) break;
  }
  const next = Number((await store.redis.get(store.key(shard, 'slots:next'))) ?? 0);
  for (let slot = 0; slot < next; slot++) {
    if (!free.has(slot) && !seen.owners.has(slot)) suspects.add(slot);
  }
  // A counter that went back is mended once: by the highest of the slots that it does not count.
  const last = Math.max(highest(free), highest(seen.owners.keys()));
  if (last >= next) suspects.add(last);
  return suspects;
}

function highest(slots: Iterable<number>): number {
  let found = -1;
  for (const slot of slots) found = Math.max(found, slot);
  return found;
}
