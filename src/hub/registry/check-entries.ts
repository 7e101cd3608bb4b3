import { batches, type Census, scanMembers, scanPairs } from './census.ts';
import type { Seen } from './check-miners.ts';
import type { Difference, Registry } from './difference.ts';
import { type EntryKind, PER_CALL } from './store.ts';

/** Checks that nothing is kept of miners that are gone, but for their online time, which expires. */
export async function* checkEntries(
  registry: Registry,
  shard: number,
  census: Census,
  seen: Seen,
): AsyncGenerator<Difference> {
  const { store } = registry;
  const ids = new Set(seen.owners.values());
  const slots = new Set([...seen.owners.keys()].map(String));
  const zset = async (key: string) => (await scanPairs(store.redis, 'zscan', store.key(shard, key))).keys();
  const kept: [kind: EntryKind, members: Iterable<string>, known: Set<string>][] = [
    ['miner', census.miners, ids],
    ['leases', await zset('leases'), ids],
    ['overrides', await zset('overrides'), ids],
    ['changed', await scanMembers(store.redis, store.key(shard, 'changed')), ids],
    ['commands', census.commands, ids],
    ['records', (await scanPairs(store.redis, 'hscan', store.key(shard, 'records'))).keys(), slots],
    ['prices', await zset('prices'), slots],
    ['etas', await zset('etas'), slots],
    ['uptime', census.uptimes, new Set()],
    ['tmp', census.tmp, new Set()],
  ];
  for (const [kind, members, known] of kept) {
    const suspects = [...members].filter((member) => !known.has(member));
    for (const batch of batches(suspects, PER_CALL.entries)) {
      for (const member of await store.strayEntries(shard, 'look', kind, batch)) {
        yield {
          kind: kind === 'leases' ? 'stale lease' : 'stray entry',
          shard,
          subject: `${kind} ${member}`,
          detail: kind === 'uptime' ? 'no online time that expires' : 'no such miner',
          mend: { by: 'entries', kind, member },
        };
      }
    }
  }
}
