import { batches, type Census, scanPairs } from './census.ts';
import type { Seen } from './check-miners.ts';
import type { Difference, Registry } from './difference.ts';
import { termsOf } from './expected.ts';
import { setBits } from './slot-set.ts';
import { PER_CALL } from './store.ts';

const PIECE_BYTES = 65_536;
const READ_BITMAPS = 64;
/** Slots that keep changing hands are left to the next run. */
const MAX_READS = 8;

/** Checks every bitmap and count of a shard against what its miners imply. */
export async function* checkIndex(
  registry: Registry,
  shard: number,
  census: Census,
  seen: Seen,
): AsyncGenerator<Difference> {
  for (const batch of batches(census.terms, READ_BITMAPS)) {
    const suspects = await Promise.all(batch.map((term) => suspectBits(registry, shard, term, seen)));
    for (const [i, slots] of suspects.entries()) {
      yield* checkBits(registry, shard, batch[i] as string, slots, seen);
    }
  }
  const { store } = registry;
  const counted = (await scanPairs(store.redis, 'hscan', store.key(shard, 'terms'))).keys();
  const terms = new Set([...census.terms, ...counted, ...seen.members.keys()]);
  const numbersOf = (family: string) => scanPairs(store.redis, 'hscan', store.key(shard, `count:${family}`));
  const numbers = await Promise.all(census.families.map(numbersOf));
  for (const [i, family] of census.families.entries()) {
    for (const number of numbers[i]?.keys() ?? []) terms.add(`${family}:${number}`);
  }
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

/** Slots whose bit is set although no miner that was seen there carries the term. */
async function suspectBits(registry: Registry, shard: number, term: string, seen: Seen): Promise<number[]> {
  const { store } = registry;
  const members = seen.members.get(term);
  const suspects: number[] = [];
  for (let from = 0; ; from += PIECE_BYTES) {
    const piece = await store.redis.getrangeBuffer(
      store.key(shard, `ix:${term}`),
      from,
      from + PIECE_BYTES - 1,
    );
    for (const slot of setBits(piece, from * 8)) {
      if (members?.has(slot) !== true) suspects.push(slot);
    }
    if (piece.length < PIECE_BYTES) return suspects;
  }
}

async function* checkBits(
  registry: Registry,
  shard: number,
  term: string,
  slots: readonly number[],
  seen: Seen,
): AsyncGenerator<Difference> {
  for (const batch of batches(slots, PER_CALL.probe)) {
    for (const slot of await strayBits(registry, shard, term, batch, seen)) {
      const detail = `slot ${slot}`;
      yield { kind: 'stray bit', shard, subject: `ix:${term}`, detail, mend: { by: 'clear', term, slot } };
    }
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
