import { batches, scanPairs } from './census.ts';
import type { Seen } from './check-miners.ts';
import type { Difference, Registry } from './difference.ts';
import { termsOf } from './expected.ts';
import { setBits } from './slot-set.ts';
import { PER_CALL } from './store.ts';

const PIECE_BYTES = 65_536;
/** Slots that keep changing hands are left to the next run. */
const MAX_READS = 8;

/** Checks every bitmap and count of a shard against what its miners imply. `indexed`: terms that have a bitmap. */
export async function* checkIndex(
  registry: Registry,
  shard: number,
  indexed: readonly string[],
  seen: Seen,
): AsyncGenerator<Difference> {
  for (const term of indexed) yield* checkBitmap(registry, shard, term, seen);
  const { store } = registry;
  const counts = await scanPairs(store.redis, 'hscan', store.key(shard, 'terms'));
  const terms = new Set([...indexed, ...counts.keys(), ...seen.members.keys()]);
  for (const batch of batches(terms, PER_CALL.recount)) {
    for (const [i, { counted, bits, hasBitmap }] of (await store.recount(shard, 'look', batch)).entries()) {
      // A bitmap without bits is deleted with its last count.
      if (counted === bits && hasBitmap === bits > 0) continue;
      const term = batch[i] as string;
      const detail = `counted ${counted}, has ${bits} bits`;
      yield { kind: 'wrong count', shard, subject: term, detail, mend: { by: 'recount', term } };
    }
  }
}

async function* checkBitmap(
  registry: Registry,
  shard: number,
  term: string,
  seen: Seen,
): AsyncGenerator<Difference> {
  const { store } = registry;
  const key = store.key(shard, `ix:${term}`);
  const members = seen.members.get(term);
  for (let from = 0; ; from += PIECE_BYTES) {
    const piece = await store.redis.getrangeBuffer(key, from, from + PIECE_BYTES - 1);
    const suspects = [...setBits(piece, from * 8)].filter((slot) => members?.has(slot) !== true);
    for (const batch of batches(suspects, PER_CALL.probe)) {
      for (const slot of await strayBits(registry, shard, term, batch, seen)) {
        const detail = `slot ${slot}`;
        yield { kind: 'stray bit', shard, subject: `ix:${term}`, detail, mend: { by: 'clear', term, slot } };
      }
    }
    if (piece.length < PIECE_BYTES) return;
  }
}

/** Those slots whose bit is set although the miner that lives there now, if any, does not carry the term. */
async function strayBits(
  registry: Registry,
  shard: number,
  term: string,
  slots: readonly number[],
  seen: Seen,
): Promise<number[]> {
  const stray: number[] = [];
  let waiting = slots.map((slot) => ({ slot, minerId: seen.owners.get(slot) ?? '' }));
  for (let reads = 0; waiting.length > 0 && reads < MAX_READS; reads++) {
    const asks = waiting.map(({ slot, minerId }) => ({ minerId, slot: String(slot), terms: [term] }));
    const answers = await registry.store.probe(shard, asks);
    const again: typeof waiting = [];
    for (const [i, { slot, minerId }] of waiting.entries()) {
      const probed = answers[i];
      if (probed === undefined || probed.bits !== '1') continue;
      if (probed.hash.slot === String(slot)) {
        if (!termsOf(probed.hash, registry.strategies).has(term)) stray.push(slot);
      } else if (probed.holder !== '' && probed.holder !== minerId) {
        again.push({ slot, minerId: probed.holder });
      } else {
        stray.push(slot);
      }
    }
    waiting = again;
  }
  return stray;
}
