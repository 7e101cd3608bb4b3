import { shardBeside } from '../../platform/keys.ts';
import { masters, type RedisClient } from '../../platform/redis.ts';
import { SCAN_COUNT, scanKeys } from './census.ts';
import { formerHomeOf, type Layout } from './layout.ts';

/** Something that is not, or not yet, at the home that a layout gives it. */
export interface Away {
  /** `miner`: with all that belongs to it, or its uptime alone. */
  readonly kind: 'miner' | 'job' | 'reservation';
  readonly id: string;
}

interface WalkDeps {
  readonly redis: RedisClient;
  readonly scripts: { readonly prefix: string };
}

const KINDS: Readonly<Record<string, Away['kind']>> = {
  miner: 'miner',
  moving: 'miner',
  uptime: 'miner',
  job: 'job',
  reservation: 'reservation',
};

/**
 * Everything that has another home now, by the names of the keys, in pages of SCAN. What has been away all the time is found; some may be named
 * twice, or be home by then.
 */
export async function* findAway({ redis, scripts }: WalkDeps, layout: Layout): AsyncGenerator<Away> {
  const start = `${scripts.prefix}:{`;
  for (const node of masters(redis)) {
    const read = (cursor: string) => node.scan(cursor, 'MATCH', `${start}*`, 'COUNT', SCAN_COUNT);
    for await (const key of scanKeys(read)) {
      const end = key.indexOf('}:', start.length);
      const shard = Number(key.slice(start.length, end));
      const [name = '', ...rest] = key.slice(end + 2).split(':');
      const kind = Object.hasOwn(KINDS, name) ? KINDS[name] : undefined;
      const id = rest.join(':');
      if (kind === undefined || id === '') continue;
      // Whoever was taken out of a shard has no home until it is put into one.
      if (name === 'moving' || formerOf(kind, id, layout) === shard) yield { kind, id };
    }
  }
}

function formerOf(kind: Away['kind'], id: string, layout: Layout): number | undefined {
  if (kind !== 'reservation') return formerHomeOf(layout, id);
  const former = shardBeside(id, layout.shards);
  return former === shardBeside(id, layout.moving?.shards ?? layout.shards) ? undefined : former;
}
