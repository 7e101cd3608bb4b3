import { createHash } from 'node:crypto';
import type { MinerHash } from '../miners/types.ts';
import { batches } from './census.ts';
import type { Difference, DifferenceKind, Registry } from './difference.ts';
import { derive, possiblePrices, recordOf, sameTerms, TERM_FIELDS, termsOf, wrongBins } from './expected.ts';
import { SlotSet } from './slot-set.ts';
import { PER_CALL, type Probed } from './store.ts';

/** What the miners of a shard imply together, as seen while they were checked. */
export interface Seen {
  readonly owners: Map<number, string>;
  readonly members: Map<string, SlotSet>;
}

/** Calls under way at a time: the server is at the next while the answer of one is read. */
const READ_AHEAD = 2;
/** A miner that changes its terms this often between two reads is left to the next run. */
const MAX_READS = 8;
/** What counts for a miner whose latency is unknown. */
const UNKNOWN_LATENCY_NORM = 0.5;

/**
 * Checks each miner against all that is kept of it. The state of a miner is read at one instant, so a registry at work gives no false
 * differences. What is seen goes to `seen`.
 */
export async function* checkMiners(
  registry: Registry,
  shard: number,
  minerIds: readonly string[],
  seen: Seen,
): AsyncGenerator<Difference> {
  for (const group of batches(minerIds, READ_AHEAD * PER_CALL.probe)) {
    const reads = [...batches(group, PER_CALL.probe)].map((batch) => readMiners(registry, shard, batch));
    for (const [minerId, probed, terms] of (await Promise.all(reads)).flat()) {
      yield* checkSlot(shard, minerId, Number(probed.hash.slot), terms, seen);
      for (const [kind, detail] of compare(registry, minerId, probed, terms)) {
        yield { kind, shard, subject: minerId, detail, mend: { by: 'reindex', minerId } };
      }
    }
  }
}

function* checkSlot(
  shard: number,
  minerId: string,
  slot: number,
  terms: readonly string[],
  seen: Seen,
): Generator<Difference> {
  const owner = seen.owners.get(slot);
  if (owner !== undefined) {
    const detail = `slot ${slot} is also that of ${owner}`;
    yield { kind: 'shared slot', shard, subject: minerId, detail, mend: { by: 'reindex', minerId } };
    return;
  }
  seen.owners.set(slot, minerId);
  for (const term of terms) {
    let members = seen.members.get(term);
    if (members === undefined) {
      members = new SlotSet();
      seen.members.set(term, members);
    }
    members.add(slot);
  }
}

type Read = [minerId: string, probed: Probed, terms: readonly string[]];

/** Reads miners with the bits of their terms; those that are gone, or have no slot, are left out. */
async function readMiners(registry: Registry, shard: number, minerIds: readonly string[]): Promise<Read[]> {
  const { store } = registry;
  let waiting = await Promise.all(
    minerIds.map(async (minerId) => {
      const values = await store.redis.hmget(store.key(shard, `miner:${minerId}`), ...TERM_FIELDS);
      const fields = TERM_FIELDS.map((name, i) => [name, values[i]]);
      return { minerId, hash: Object.fromEntries(fields.filter(([, value]) => value !== null)) as MinerHash };
    }),
  );
  const found: Read[] = [];
  for (let reads = 0; waiting.length > 0 && reads < MAX_READS; reads++) {
    const known = waiting.filter(({ hash }) => hash.slot !== undefined);
    const asks = known.map(({ minerId, hash }) => ({
      minerId,
      slot: hash.slot as string,
      terms: [...termsOf(hash, registry.strategies)],
    }));
    const answers = asks.length === 0 ? [] : await store.probe(shard, asks);
    waiting = [];
    for (const [i, probed] of answers.entries()) {
      const { minerId, hash } = known[i] as (typeof known)[number];
      if (sameTerms(hash, probed.hash)) found.push([minerId, probed, asks[i]?.terms ?? []]);
      else waiting.push({ minerId, hash: probed.hash });
    }
  }
  return found;
}

type Finding = [kind: DifferenceKind, detail: string];

function compare(registry: Registry, minerId: string, probed: Probed, terms: readonly string[]): Finding[] {
  const { hash } = probed;
  const derived = derive(hash, registry.strategies);
  const findings: Finding[] = [];
  const expect = (kind: DifferenceKind, holds: boolean, detail: string) => {
    if (!holds) findings.push([kind, detail]);
  };
  const field = (name: string, value: number | null) =>
    expect(
      'wrong field',
      value === null ? (hash[name] ?? '') === '' : (hash[name] ?? '') !== '' && Number(hash[name]) === value,
      `${name} is ${hash[name]}, should be ${value ?? 'empty'}`,
    );

  const prices = possiblePrices(hash, probed.nowMs);
  expect(
    'wrong field',
    prices.includes(derived.price),
    `price is ${hash.price}, should be ${prices.join(' or ')}`,
  );
  field('latency_ms', derived.latencyMs);
  field('eta_ms', derived.etaMs);
  if (derived.latencyMs === null) field('latency_norm', UNKNOWN_LATENCY_NORM);
  const wrong = wrongBins(hash, derived);
  expect('wrong field', wrong.length === 0, `bins ${hash.bins} are wrong in ${wrong.join(', ')}`);

  const names = registry.strategies.map(({ name }) => name).join(',');
  expect('wrong field', hash.strategies === names, `strategies is ${hash.strategies}, should be ${names}`);

  const expectedSha1 = createHash('sha1')
    .update(recordOf(minerId, hash, derived))
    .digest('hex');
  expect('wrong record', probed.recordSha1 === expectedSha1, `slot ${hash.slot}`);
  for (const [i, term] of terms.entries())
    expect('lost bit', probed.bits[i] === '1', `ix:${term} slot ${hash.slot}`);

  expect('wrong entry', sameNumber(probed.price, hash.price), `prices has ${probed.price}`);
  expect('wrong entry', sameNumber(probed.eta, hash.eta_ms), `etas has ${probed.eta}`);
  const ends = (hash.price_override ?? '') === '' ? '' : hash.price_override_until_ms;
  expect('wrong entry', sameNumber(probed.override, ends), `overrides has ${probed.override}`);
  findings.push(...compareLease(registry, probed));
  return findings;
}

function compareLease(registry: Registry, { hash, lease }: Probed): Finding[] {
  const online = hash.state === 'online';
  const step = Number(hash.lease_until_ms) + (online ? 0 : registry.graceMs);
  // The removal of a degraded miner may be held back.
  const holds = lease !== '' && (online ? Number(lease) === step : Number(lease) >= step);
  return holds ? [] : [['wrong entry', `leases has ${lease}, should be ${step}`]];
}

function sameNumber(entry: string, text: string | undefined): boolean {
  if (text === undefined || text === '') return entry === '';
  return entry !== '' && Number(entry) === Number(text);
}
