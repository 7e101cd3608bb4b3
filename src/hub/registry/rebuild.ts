import { batches } from './census.ts';
import type { Difference, DifferenceKind, Mend, Registry } from './difference.ts';
import { PER_CALL, type RegistryStore } from './store.ts';
import { findDifferences } from './verify.ts';

/** What a rebuild did. */
export interface RebuildReport {
  readonly miners: number;
  /** Differences mended, by kind; one that shows in several rounds counts in each. */
  readonly mended: Partial<Record<DifferenceKind, number>>;
  /** Differences that the last round still found; 0 when the registry is right. */
  readonly left: number;
}

/** Mending a miner moves its bits and counts, which the next round sees: two rounds mend all, a registry at work may need one more. */
const MAX_ROUNDS = 6;
const WINDOW = 256;

/**
 * Mends every difference between the hashes of the miners and what is kept beside them, in small steps, while the registry serves. Also to be
 * run after a change of the strategies: the steps in the index follow from their weights.
 * @throws what Redis throws; run it again then
 */
export async function rebuildRegistry(registry: Registry): Promise<RebuildReport> {
  const mended: RebuildReport['mended'] = {};
  let left = 0;
  let miners = 0;
  for (let round = 0; round < MAX_ROUNDS; round++) {
    left = 0;
    miners = 0;
    const counted = (shardMiners: number) => {
      miners += shardMiners;
    };
    let window: Difference[] = [];
    for await (const difference of findDifferences(registry, counted)) {
      left++;
      mended[difference.kind] = (mended[difference.kind] ?? 0) + 1;
      window.push(difference);
      if (window.length < WINDOW) continue;
      await mendAll(registry, window);
      window = [];
    }
    await mendAll(registry, window);
    if (left === 0) break;
  }
  return { miners, mended, left };
}

async function mendAll(registry: Registry, differences: readonly Difference[]): Promise<void> {
  // The same mend serves all that is wrong with one miner, and runs once.
  const groups = new Map<string, Map<string, Mend>>();
  for (const { shard, mend } of differences) {
    const name = JSON.stringify([shard, mend.by, mend.by === 'entries' ? mend.kind : '']);
    const group = groups.get(name) ?? new Map();
    group.set(JSON.stringify(mend), mend);
    groups.set(name, group);
  }
  for (const [name, mends] of groups) {
    const [shard, by] = JSON.parse(name) as [number, Mend['by']];
    for (const batch of batches(mends.values(), PER_CALL[by])) await mendBatch(registry.store, shard, batch);
  }
}

type MendBy<B extends Mend['by']> = Extract<Mend, { by: B }>;

/** Mends of one kind, in one call. */
async function mendBatch(store: RegistryStore, shard: number, batch: readonly Mend[]): Promise<void> {
  const all = <B extends Mend['by']>(by: B) => batch.filter((mend): mend is MendBy<B> => mend.by === by);
  const first = batch[0];
  switch (first?.by) {
    case 'reindex': {
      const ids = all('reindex').map(({ minerId }) => minerId);
      return await store.reindex(shard, ids);
    }
    case 'clear': {
      const pairs = all('clear').map(({ term, slot }) => [term, slot] as const);
      return await store.clear(shard, pairs);
    }
    case 'recount': {
      const terms = all('recount').map(({ term }) => term);
      return void (await store.recount(shard, 'mend', terms));
    }
    case 'slots': {
      const slots = all('slots').map(({ slot }) => slot);
      return void (await store.slots(shard, 'mend', slots));
    }
    case 'entries': {
      const members = all('entries').map(({ member }) => member);
      return void (await store.strayEntries(shard, 'mend', first.kind, members));
    }
    case 'adjust':
      for (const { hash, field, amount } of all('adjust')) await store.adjust(shard, hash, field, amount);
      return;
    case 'reservations':
      for (const { minerId, seen, ids } of all('reservations'))
        await store.heldPlaces(shard, 'mend', minerId, seen, ids);
  }
}
