import assert from 'node:assert/strict';
import { test } from 'node:test';
import { rebalance } from '../../src/hub/registry/rebalance.ts';
import { keys, shardPrefix } from '../../src/platform/keys.ts';
import { harness } from '../support/harness.ts';
import { openWorld, resetWorld, worldRedis } from '../support/registry-world.ts';

const h = await harness();
const connect = await worldRedis(h);

/** From 3 shards to one. */
const options = {
  shards: 1,
  perSecond: 1_000_000,
  parallel: 4,
  journalTimeoutMs: 0,
  signal: new AbortController().signal,
  begun: () => {},
  moved: () => {},
};

/** What the process that has these does until it dies: at its `steps`th call of Redis. */
function mortal<T extends object>(target: T, life: { steps: number }, methods: readonly string[]): T {
  const die = () => Promise.reject(new Error('died'));
  return new Proxy(target, {
    get(_, name) {
      const value = Reflect.get(target, name);
      if (typeof value !== 'function') return value;
      const alive = value.bind(target);
      if (!methods.includes(String(name))) return alive;
      return (...args: unknown[]) => (life.steps-- > 0 ? alive(...args) : die());
    },
  });
}

test('what outlives a shard that goes is handed on once, wherever the one who does it dies', async () => {
  const redis = await connect(0);
  const written = ['hsetnx', 'unlink', 'del', 'set'];
  const letters = Array.from({ length: 25 }, (_, n) => ['id', `${n}`, 'why', 'a test']);
  const inherited = { reaped: '12', reaper_held: '0', journal_skipped: '1' };
  let deaths = 0;
  for (let done = false; !done; deaths++) {
    const world = await resetWorld(openWorld(redis, { shards: 3 }));
    await world.homes.layouts.refresh();
    const name = (shard: number) => shardPrefix(world.scripts.prefix, shard);
    for (const letter of letters) await redis.xadd(keys.journalDead(name(2)), '*', ...letter);
    for (const shard of [0, 1, 2]) await redis.hset(keys.stats(name(shard)), { reaped: 4 });
    await redis.hset(keys.stats(name(1)), { journal_skipped: 1 });

    const life = { steps: deaths };
    const scripts = mortal(world.scripts, life, ['run']);
    const deps = { ...world, redis: mortal(redis, life, written), scripts };
    done = await rebalance(deps, options).then(
      (report) => report.done,
      (error: Error) => !/died/.test(error.message) && assert.fail(error),
    );
    await redis.del(keys.rebalance(name(0)));
    assert.equal((await rebalance(world, options)).done, true);
    const stats = await redis.hmget(keys.stats(name(0)), ...Object.keys(inherited));
    assert.deepEqual(
      stats.map((count) => count ?? '0'),
      Object.values(inherited),
      `death ${deaths}`,
    );
    const there = await redis.xrange(keys.journalDead(name(0)), '-', '+');
    assert.deepEqual(
      there.map(([, fields]) => fields),
      letters,
      `death ${deaths}`,
    );
    const left = await redis.keys('w:{*');
    assert.deepEqual(
      left.filter((key) => !key.startsWith(name(0))),
      [],
    );
  }
  assert.ok(deaths > 10, `${deaths} deaths`);
});
