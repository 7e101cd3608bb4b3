import { masters, type RedisClient } from '../../platform/redis.ts';
import type { RegistryStore } from './store.ts';

/** What the names of the keys of one shard tell: which miners, terms and so on there are. */
export interface Census {
  miners: string[];
  /** Terms that have a bitmap. */
  terms: string[];
  /** Families of numbered terms that have counts. */
  families: string[];
  commands: string[];
  regions: string[];
  reservations: string[];
  /** Miners that left, and whose online time is kept. */
  uptimes: string[];
  /** Temporary bitmaps; a script deletes its own, so any that SCAN sees was left behind. */
  tmp: string[];
}

/** Of a large hash or sorted set, so many take Redis about half a millisecond. */
export const SCAN_COUNT = 200;

const KINDS: Readonly<Record<string, keyof Census>> = {
  miner: 'miners',
  ix: 'terms',
  count: 'families',
  commands: 'commands',
  latency: 'regions',
  reservation: 'reservations',
  uptime: 'uptimes',
  tmp: 'tmp',
};

/** Reads the names of all keys of the registry by SCAN, by shard. A key that is there throughout is in it once. */
export async function takeCensus({ redis, prefix }: RegistryStore, shards: number): Promise<Census[]> {
  const found = Array.from({ length: shards }, () => ({
    miners: new Set<string>(),
    terms: new Set<string>(),
    families: new Set<string>(),
    commands: new Set<string>(),
    regions: new Set<string>(),
    reservations: new Set<string>(),
    uptimes: new Set<string>(),
    tmp: new Set<string>(),
  }));
  const start = `${prefix}:{`;
  for (const node of masters(redis)) {
    for await (const key of scanKeys((cursor) =>
      node.scan(cursor, 'MATCH', `${start}*`, 'COUNT', SCAN_COUNT),
    )) {
      const end = key.indexOf('}:', start.length);
      const [kind = '', ...rest] = key.slice(end + 2).split(':');
      const name = Object.hasOwn(KINDS, kind) ? KINDS[kind] : undefined;
      const shard = found[Number(key.slice(start.length, end))];
      if (name !== undefined && rest.length > 0) shard?.[name].add(rest.join(':'));
    }
  }
  return found.map((shard) => ({
    miners: [...shard.miners],
    terms: [...shard.terms],
    families: [...shard.families],
    commands: [...shard.commands],
    regions: [...shard.regions],
    reservations: [...shard.reservations],
    uptimes: [...shard.uptimes],
    tmp: [...shard.tmp],
  }));
}

/** All that a SCAN, from cursor to cursor, names. */
export async function* scanKeys(
  scan: (cursor: string) => Promise<[string, string[]]>,
): AsyncGenerator<string> {
  let cursor = '0';
  do {
    const [next, keys] = await scan(cursor);
    yield* keys;
    cursor = next;
  } while (cursor !== '0');
}

/** The members of a sorted set or a set, or the fields of a hash, by its SCAN command, with their scores or values. */
export async function scanPairs(
  redis: RedisClient,
  command: 'hscan' | 'zscan',
  key: string,
): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  const pairs = scanKeys((cursor) => redis[command](key, cursor, 'COUNT', SCAN_COUNT));
  let member: string | undefined;
  for await (const text of pairs) {
    if (member === undefined) {
      member = text;
    } else {
      found.set(member, text);
      member = undefined;
    }
  }
  return found;
}

/** The members of a set. */
export async function scanMembers(redis: RedisClient, key: string): Promise<Set<string>> {
  const found = new Set<string>();
  for await (const member of scanKeys((cursor) => redis.sscan(key, cursor, 'COUNT', SCAN_COUNT)))
    found.add(member);
  return found;
}

/** Splits a list into parts of at most `size`. */
export function* batches<T>(items: Iterable<T>, size: number): Generator<T[]> {
  let batch: T[] = [];
  for (const item of items) {
    batch.push(item);
    if (batch.length === size) {
      yield batch;
      batch = [];
    }
  }
  if (batch.length > 0) yield batch;
}
