import { createHash } from 'node:crypto';
import type { Config } from '../../platform/config.ts';
import { strategiesKey } from '../../platform/keys.ts';
import type { RedisClient } from '../../platform/redis.ts';
import type { Scripts } from '../../platform/scripts.ts';
import { alone } from './alone.ts';
import type { Registry } from './difference.ts';
import type { Homes } from './homes.ts';
import { shardCount } from './layout.ts';
import { type RebuildReport, rebuildRegistry } from './rebuild.ts';
import { RegistryStore } from './store.ts';

interface RegistryDeps {
  readonly scripts: Scripts;
  readonly redis: RedisClient;
  readonly homes: Homes;
  readonly config: Pick<Config, 'heartbeat_grace_sec' | 'strategies'>;
}

/** The registry as it is now, by these settings. */
export async function registryOf({ scripts, redis, homes, config }: RegistryDeps): Promise<Registry> {
  return {
    store: new RegistryStore(scripts, redis),
    shards: shardCount(await homes.layouts.refresh()),
    strategies: Object.entries(config.strategies).map(([name, weights]) => ({ name, ...weights })),
    graceMs: config.heartbeat_grace_sec * 1000,
  };
}

/** Raised when the records of the registry change their layout (lua/include/record.lua): then they are written anew as for other weights. */
const RECORD_LAYOUT = 2;

/**
 * Brings the stored static steps to the weights of these settings, when they are of others: the registry notes the
 * weights that it was last rebuilt for. Until it is done, steps of the old weights rank the miners that have not beaten since.
 * A large registry takes minutes, in which the task comes due again, here and in other workers: one is at it at a time.
 * @returns the report of the rebuild, or undefined when the weights are the registry's already, or somebody is at it
 * @throws what Redis throws; run it again then
 */
export async function keepStrategies(deps: RegistryDeps): Promise<RebuildReport | undefined> {
  const key = strategiesKey(deps.scripts.prefix);
  const wanted = createHash('sha256')
    .update(JSON.stringify([RECORD_LAYOUT, deps.config.strategies]))
    .digest('hex');
  const isDone = async () => (await deps.redis.get(key)) === wanted;
  if (await isDone()) return undefined;
  const rebuild = async () => {
    if (await isDone()) return undefined;
    const report = await rebuildRegistry(await registryOf(deps));
    if (report.left === 0) await deps.redis.set(key, wanted);
    return report;
  };
  return alone<RebuildReport | undefined>(deps.redis, `${key}:rebuild`, rebuild, () => undefined);
}
