import { keys, shardPrefix } from '../../src/platform/keys.ts';
import { masters } from '../../src/platform/redis.ts';
import type { BenchRegistry } from '../support/registry.ts';

/** A miner as its readable hash says it, as small as a million of them must be. */
export interface PoolMiner {
  readonly id: string;
  readonly slot: number;
  /** Not busy, not draining, with a free place. Every miner of a loaded fleet is online. */
  readonly free: boolean;
  readonly price: number;
  /** -1 when it is not known. */
  readonly vramGb: number;
  /** The request-independent part of the score under the default strategy, 0..1 in steps of 1/1023. */
  readonly staticScore: number;
  readonly region: string;
  readonly gpuKey: string;
  readonly accel: readonly string[];
  readonly tags: readonly string[];
  readonly capabilities: readonly string[];
}

const FIELDS = [
  'slot',
  'state',
  'busy',
  'draining',
  'queue_len',
  'reserved',
  'max_parallel',
  'price',
  'gpu_vram_gb',
  'latency_norm',
  'trust',
  'region',
  'gpu_key',
  'accel',
  'tags',
  'capabilities',
] as const;

type Fields = Record<(typeof FIELDS)[number], string>;

const SCAN_COUNT = 1000;
const TOP_STEP = 1023;

/** Strings that many miners share are kept once, and so are lists of which there are few different ones. */
class Shared {
  readonly #strings = new Map<string, string>();
  readonly #lists = new Map<string, readonly string[]>();

  text(value: string): string {
    const known = this.#strings.get(value);
    if (known !== undefined) return known;
    this.#strings.set(value, value);
    return value;
  }

  texts(json: string): readonly string[] {
    return (JSON.parse(json) as string[]).map((value) => this.text(value));
  }

  list(json: string): readonly string[] {
    const known = this.#lists.get(json);
    if (known !== undefined) return known;
    const made = this.texts(json);
    this.#lists.set(json, made);
    return made;
  }
}

/**
 * Reads every miner back from its hash, whatever the index says of it.
 * @param expected how many there must be, all of them online; without it, whoever is
 * @throws Error when it is not so
 */
export async function readPool(registry: BenchRegistry, expected?: number): Promise<PoolMiner[]> {
  const { redis, config, scripts } = registry;
  const pool = new Map<string, PoolMiner>();
  const shared = new Shared();
  for (let shard = 0; shard < config.redis_shards; shard += 1) {
    const start = keys.miner(shardPrefix(scripts.prefix, shard), '');
    for (const node of masters(redis)) {
      // A scan may show a key twice.
      for await (const found of node.scanStream({ match: `${start}*`, count: SCAN_COUNT })) {
        const read = (found as string[]).map(
          async (key): Promise<[string, (string | null)[]]> => [
            key.slice(start.length),
            await redis.hmget(key, ...FIELDS),
          ],
        );
        for (const [id, values] of await Promise.all(read)) {
          const fields = fieldsOf(values);
          if (fields.state === 'online') pool.set(id, minerOf(id, fields, registry, shared));
          else if (expected !== undefined) throw new Error(`${id} is not online after loading`);
        }
      }
    }
  }
  if (pool.size !== (expected ?? pool.size)) {
    throw new Error(`${pool.size} miners are registered instead of ${expected}`);
  }
  return [...pool.values()];
}

function fieldsOf(values: readonly (string | null)[]): Fields {
  return Object.fromEntries(FIELDS.map((name, i) => [name, values[i] ?? ''])) as Fields;
}

function minerOf(id: string, fields: Fields, { config }: BenchRegistry, shared: Shared): PoolMiner {
  const places = Number(fields.max_parallel);
  const freePlaces = Math.max(0, places - Number(fields.queue_len) - Number(fields.reserved));
  const { balanced } = config.strategies;
  if (balanced === undefined) throw new Error('the default strategy is missing');
  const parts =
    balanced.latency * Number(fields.latency_norm) +
    balanced.trust * Number(fields.trust) +
    balanced.load * (freePlaces / (places + 1));
  const weight = balanced.latency + balanced.trust + balanced.load;
  const step = weight > 0 ? Math.floor((parts / weight) * TOP_STEP + 0.5) : 0;
  return {
    id,
    slot: Number(fields.slot),
    free: freePlaces > 0 && fields.busy !== '1' && fields.draining === 'no',
    price: Number(fields.price),
    vramGb: fields.gpu_vram_gb === '' ? -1 : Number(fields.gpu_vram_gb),
    staticScore: weight * (step / TOP_STEP),
    region: shared.text(fields.region),
    gpuKey: shared.text(fields.gpu_key),
    accel: shared.list(fields.accel),
    tags: shared.list(fields.tags),
    capabilities: shared.texts(fields.capabilities),
  };
}
