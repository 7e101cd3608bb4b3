import type { DifferenceKind } from '../../src/hub/registry/difference.ts';
import type { StoredMiner, World } from './registry-world.ts';

/** One way to damage a registry, and what verify calls it. */
export interface Corruption {
  readonly name: string;
  readonly kind: DifferenceKind;
  /** `key` names a key of the victim's shard. */
  readonly damage: (world: World, victim: StoredMiner, key: (name: string) => string) => Promise<unknown>;
}

/** A slot that nobody has. */
const FREE_SLOT = 777;

export const CORRUPTIONS: readonly Corruption[] = [
  {
    name: 'a bit is cleared',
    kind: 'lost bit',
    damage: ({ redis }, { hash }, key) => redis.setbit(key(`ix:region:${hash.region}`), Number(hash.slot), 0),
  },
  {
    name: 'a bitmap is deleted',
    kind: 'lost bit',
    damage: ({ redis }, _, key) => redis.del(key('ix:all')),
  },
  {
    name: 'a bit is set for a miner that has not the term',
    kind: 'stray bit',
    damage: ({ redis }, { hash }, key) => redis.setbit(key('ix:tag:unheard of'), Number(hash.slot), 1),
  },
  {
    name: 'a bit is set at a slot of nobody',
    kind: 'stray bit',
    damage: ({ redis }, _, key) => redis.setbit(key('ix:on'), FREE_SLOT, 1),
  },
  {
    name: 'a count is off',
    kind: 'wrong count',
    damage: ({ redis }, _, key) => redis.hincrby(key('terms'), 'all', 2),
  },
  {
    name: 'a term is counted that nobody has',
    kind: 'wrong count',
    damage: ({ redis }, _, key) => redis.hset(key('count:vram-hi'), '62', 1),
  },
  {
    name: 'a family is not counted',
    kind: 'wrong count',
    damage: ({ redis }, _, key) => redis.del(key('count:price')),
  },
  {
    name: 'a record is lost',
    kind: 'wrong record',
    damage: ({ redis }, { hash }, key) => redis.hdel(key('records'), hash.slot as string),
  },
  {
    name: 'a record is that of another miner',
    kind: 'wrong record',
    damage: async ({ redis }, { id, hash }, key) => {
      const record = await redis.hgetBuffer(key('records'), hash.slot as string);
      const other = record?.toString('latin1').replace(`${id}\n`, `${id}x\n`);
      await redis.hset(key('records'), hash.slot as string, Buffer.from(other ?? '', 'latin1'));
    },
  },
  {
    name: 'a record is left of a miner that is gone',
    kind: 'stray entry',
    damage: async ({ redis }, { hash }, key) => {
      const record = await redis.hgetBuffer(key('records'), hash.slot as string);
      await redis.hset(key('records'), String(FREE_SLOT), record ?? Buffer.alloc(48));
    },
  },
  {
    name: 'a price is not what the rules give',
    kind: 'wrong field',
    damage: ({ redis }, { id }, key) => redis.hset(key(`miner:${id}`), 'price', '123'),
  },
  {
    name: 'the bins cannot be read',
    kind: 'wrong field',
    damage: ({ redis }, { id }, key) => redis.hset(key(`miner:${id}`), 'bins', 'a,b'),
  },
  {
    name: 'a step is off',
    kind: 'wrong field',
    damage: ({ redis }, { id, hash }, key) =>
      redis.hset(
        key(`miner:${id}`),
        'bins',
        (hash.bins ?? '').replace(/\d+$/, (step) => String(1023 - Number(step))),
      ),
  },
  {
    name: 'a price is missing among the sorted',
    kind: 'wrong entry',
    damage: ({ redis }, { hash }, key) => redis.zrem(key('prices'), hash.slot as string),
  },
  {
    name: 'an eta is there that should not be',
    kind: 'stray entry',
    damage: ({ redis }, _, key) => redis.zadd(key('etas'), 5, String(FREE_SLOT)),
  },
  {
    name: 'a lease is lost, so that the miner would never lapse',
    kind: 'wrong entry',
    damage: ({ redis }, { id }, key) => redis.zrem(key('leases'), id),
  },
  {
    name: 'a lease is left of a miner that is gone',
    kind: 'stale lease',
    damage: ({ redis, nowMs }, _, key) => redis.zadd(key('leases'), nowMs + 50_000, 'ghost'),
  },
  {
    name: 'an override would end that is not there',
    kind: 'wrong entry',
    damage: ({ redis, nowMs }, { id }, key) => redis.zadd(key('overrides'), nowMs + 50_000, id),
  },
  {
    name: 'commands wait for nobody',
    kind: 'stray entry',
    damage: ({ redis }, _, key) => redis.xadd(key('commands:ghost'), '*', 'name', 'x', 'args', '{}'),
  },
  {
    name: 'an online time never expires',
    kind: 'stray entry',
    damage: ({ redis }, _, key) => redis.set(key('uptime:gone'), '5000'),
  },
  {
    name: 'an online time is no number',
    kind: 'stray entry',
    damage: ({ redis }, { id }, key) => redis.set(key(`uptime:${id}`), 'long', 'EX', 1000),
  },
  {
    name: 'nobody changed',
    kind: 'stray entry',
    damage: ({ redis }, _, key) => redis.sadd(key('changed'), 'ghost'),
  },
  {
    name: 'a hash is no miner',
    kind: 'stray entry',
    damage: ({ redis }, _, key) => redis.hset(key('miner:ghost'), 'price', '1'),
  },
  {
    name: 'a temporary bitmap is left',
    kind: 'stray entry',
    damage: ({ redis }, _, key) => redis.set(key('tmp:1'), 'x'),
  },
  {
    name: 'a free slot is lost',
    kind: 'orphan slot',
    damage: ({ redis }, _, key) => redis.incr(key('slots:next')),
  },
  {
    name: 'a taken slot is free too',
    kind: 'shared slot',
    damage: ({ redis }, { hash }, key) => redis.rpush(key('slots:free'), hash.slot as string),
  },
  {
    name: 'a slot is free twice',
    kind: 'shared slot',
    damage: async ({ redis }, _, key) => {
      const next = (await redis.incr(key('slots:next'))) - 1;
      await redis.rpush(key('slots:free'), next, next);
    },
  },
  {
    name: 'two miners have one slot',
    kind: 'shared slot',
    damage: ({ redis }, { hash, shard }, key) => {
      const { session, key_digest, ...twin } = hash;
      const others = { session: `${session}2`, key_digest: `${key_digest}2` };
      // Of the shard, for no two shards have the same miner.
      return redis.hset(key(`miner:twin-${shard}`), { ...twin, ...others });
    },
  },
  {
    name: 'the counter of slots went back',
    kind: 'uncounted slot',
    damage: ({ redis }, _, key) => redis.set(key('slots:next'), '0'),
  },
  {
    name: 'a histogram is off',
    kind: 'wrong histogram',
    damage: ({ redis }, { hash }, key) => redis.hincrby(key(`latency:${hash.region}`), '7', 3),
  },
  {
    name: 'a histogram is lost',
    kind: 'wrong histogram',
    damage: async ({ redis }, _, key) => {
      const histograms = await redis.keys(key('latency:*').replace(/[{}]/g, '?'));
      if (histograms.length > 0) await redis.del(...histograms);
    },
  },
  {
    name: 'the sum of latencies is off',
    kind: 'wrong total',
    damage: ({ redis }, _, key) => redis.hincrby(key('stats'), 'latency_sum_ms', 100),
  },
  {
    name: 'a place is reserved by nothing',
    kind: 'wrong reservation',
    damage: ({ redis }, { id }, key) => redis.hincrby(key(`miner:${id}`), 'reserved', 1),
  },
];

/** Damages what belongs to one of the miners, and says whether there was one. */
export async function corrupt(world: World, { damage }: Corruption, which: number): Promise<boolean> {
  const miners = (await world.hashes()).filter(({ hash }) => hash.bins !== undefined);
  const victim = miners.sort((a, b) => (a.id < b.id ? -1 : 1))[which % Math.max(1, miners.length)];
  if (victim === undefined) return false;
  await damage(world, victim, (name) => world.registry.store.key(victim.shard, name));
  return true;
}
