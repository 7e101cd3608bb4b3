import { batches, type Census, scanPairs, takeCensus } from './census.ts';
import type { Difference, Registry } from './difference.ts';

const READ_HASHES = 100;
/** A reservation made between two reads looks like a difference; a true one is still there when all is read again. */
const READINGS = 3;

/** Reservations of a shard as their hashes say. */
interface Held {
  /** By miner. */
  readonly ids: Map<string, string[]>;
  /** Held, but absent from the sorted set, so that it would never expire. */
  readonly unlisted: Set<string>;
}

/** A miner, its reserved places, and the ids of the reservations that name it. */
interface Suspect {
  readonly minerId: string;
  readonly detail: string;
  readonly seen: number;
  readonly ids: readonly string[];
}

/** Checks that the reserved places of each miner are those that reservations hold on it, and that each of these can expire. */
export async function* checkReservations(
  registry: Registry,
  shard: number,
  census: Census,
): AsyncGenerator<Difference> {
  let suspects = await findSuspects(registry, shard, census);
  for (let reading = 1; suspects.length > 0 && reading < READINGS; reading++) {
    const again = (await takeCensus(registry.store, registry.shards))[shard] as Census;
    const later = new Set(
      (await findSuspects(registry, shard, again)).map((suspect) => JSON.stringify(suspect)),
    );
    suspects = suspects.filter((suspect) => later.has(JSON.stringify(suspect)));
  }
  for (const { minerId, detail, seen, ids } of suspects) {
    yield {
      kind: 'wrong reservation',
      shard,
      subject: minerId,
      detail,
      mend: { by: 'reservations', minerId, seen, ids },
    };
  }
}

async function findSuspects(registry: Registry, shard: number, census: Census): Promise<Suspect[]> {
  const { store } = registry;
  const held = await readHeld(registry, shard, census.reservations);
  const suspects: Suspect[] = [];
  for (const batch of batches(census.miners, READ_HASHES)) {
    const reserved = await Promise.all(
      batch.map((id) => store.redis.hmget(store.key(shard, `miner:${id}`), 'slot', 'reserved')),
    );
    for (const [i, minerId] of batch.entries()) {
      const [slot, places] = reserved[i] as [string | null, string | null];
      const ids = [...(held.ids.get(minerId) ?? [])].sort();
      const seen = Number(places ?? 0);
      if (slot === null || (seen === 0 && ids.length === 0)) continue;
      const unlisted = ids.filter((id) => held.unlisted.has(id));
      const holding = await store.heldPlaces(shard, 'look', minerId, seen, ids);
      if (holding === undefined || (holding === seen && unlisted.length === 0)) continue;
      const detail = `${seen} places reserved, ${holding} held, ${unlisted.length} of them without an end`;
      suspects.push({ minerId, detail, seen, ids });
    }
  }
  return suspects;
}

async function readHeld(registry: Registry, shard: number, ids: readonly string[]): Promise<Held> {
  const { store } = registry;
  const listed = await scanPairs(store.redis, 'zscan', store.key(shard, 'reservations'));
  const found: Held = { ids: new Map(), unlisted: new Set() };
  for (const batch of batches(ids, READ_HASHES)) {
    const read = (id: string) =>
      store.redis.hmget(store.key(shard, `reservation:${id}`), 'state', 'miner_id');
    for (const [i, [state, minerId]] of (await Promise.all(batch.map(read))).entries()) {
      if (state !== 'held' || !minerId) continue;
      const id = batch[i] as string;
      found.ids.set(minerId, [...(found.ids.get(minerId) ?? []), id]);
      if (!listed.has(id)) found.unlisted.add(id);
    }
  }
  return found;
}
