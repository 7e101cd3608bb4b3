import type { Redis } from 'ioredis';
import { formatTable } from '../../src/cli/table.ts';
import { masters } from '../../src/platform/redis.ts';
import { readPool } from '../match/pool.ts';
import { serverMicros } from '../match/server-time.ts';
import { DEFAULT_STRATEGY, newJobId, requestOf, type Shape, shapesOf } from '../match/shapes.ts';
import type { Benchmark, Options } from '../support/benchmark.ts';
import { loadFleet } from '../support/fleet-loader.ts';
import { redisCpuMs } from '../support/redis-cpu.ts';
import { type BenchRegistry, benchSettings, openRegistry } from '../support/registry.ts';
import { ascending, median, quantile, round } from '../support/statistics.ts';
import { benchRedis } from '../support/stores.ts';
import type { Undo } from '../support/undo.ts';

/** Sizes that a run measures, as far as `--miners` allows. */
const SIZES = [10_000, 30_000, 100_000, 300_000, 1_000_000];
const SHARDS = [1, 4, 16];

const US_PER_MS = 1000;

export interface ScalePoint {
  readonly miners: number;
  readonly shards: number;
  /** Server time of one match, all its shards together: median of the kinds of requests. */
  readonly server_us: number;
  /** Processor time of the server for one match, with taking it in and answering: the same on a busy machine, nearly. Median of the kinds. */
  readonly cpu_us: number;
  /** The kind that takes longest, as server_us. */
  readonly worst_us: number;
  /** One match at a time over loopback, all kinds in turn. */
  readonly e2e_p50_ms: number;
  readonly e2e_p99_ms: number;
}

interface ScaleReport {
  readonly fleet: string;
  readonly points: readonly ScalePoint[];
  /** Of the curve server_us ~ miners^exponent in one shard; null with fewer than two sizes. */
  readonly exponent: number | null;
}

/** A registry that grows from size to size. */
interface Growing {
  readonly shards: number;
  readonly registry: BenchRegistry;
}

/** How the cost of a match grows with the pool, in one shard and over several. */
export const scaleBenchmark: Benchmark<ScaleReport> = {
  async run(options, undo, progress) {
    const stores: Growing[] = [];
    for (const shards of SHARDS) stores.push({ shards, registry: await openStore(shards, undo) });
    const points: ScalePoint[] = [];
    let loaded = 0;
    for (const miners of sizesUpTo(options.miners)) {
      const plan = { miners, loaded, kind: options.fleet, seed: options.seed };
      // A script runs on one core: the servers of the three load side by side.
      await Promise.all(
        stores.map(({ shards, registry }) =>
          loadFleet(registry, plan, 0, (online) => progress(`${online} miners over ${shards} shards`)),
        ),
      );
      loaded = miners;
      // The fleet is the same however it is spread, and so are the requests that are made from it.
      const shapes = shapesOf(await readPool((stores[0] as Growing).registry, miners));
      for (const { shards, registry } of stores) {
        progress(`measuring ${miners} miners over ${shards} shards`);
        points.push({ miners, shards, ...(await measureMatches(registry, shapes, options)) });
      }
    }
    return {
      fleet: options.fleet,
      points,
      exponent: exponentOf(points.filter(({ shards }) => shards === 1)),
    };
  },

  failed: () => false,

  table({ fleet, points, exponent }) {
    const smallest = points.find(({ shards }) => shards === 1)?.server_us ?? Number.NaN;
    const rows = points.map((p) => [
      p.miners,
      p.shards,
      p.server_us,
      round(p.server_us / smallest, 2),
      p.cpu_us,
      p.worst_us,
      p.e2e_p50_ms,
      p.e2e_p99_ms,
    ]);
    const headings = ['MINERS', 'SHARDS', 'MATCH us', 'RATIO', 'CPU us', 'WORST us', 'P50 ms', 'P99 ms'];
    const growth = exponent === null ? '' : `; in one shard a match costs as miners^${exponent}`;
    return `${formatTable(headings, rows)}\n\n${fleet} fleet; ratio to the smallest pool in one shard${growth}`;
  },
};

function sizesUpTo(miners: number): number[] {
  const sizes = SIZES.filter((size) => size <= miners);
  return sizes.length > 0 ? sizes : [miners];
}

/** Each number of shards has a server of its own. */
async function openStore(shards: number, undo: Undo): Promise<BenchRegistry> {
  const redis = await benchRedis(undo);
  // Postgres has no part in a match.
  const settings = benchSettings(redis, 'postgresql://127.0.0.1/none');
  return await openRegistry({ ...settings, REDIS_SHARDS: String(shards) }, undo);
}

async function measureMatches(
  registry: BenchRegistry,
  shapes: readonly Shape[],
  { rounds, calls }: Options,
): Promise<Omit<ScalePoint, 'miners' | 'shards'>> {
  const { store } = await registry.matching();
  const [node] = masters(registry.redis) as [Redis];
  const means = shapes.map((): number[] => []);
  const cpuMeans = shapes.map((): number[] => []);
  const latencies: number[] = [];
  // One round more than is counted: the first warms up.
  for (let n = 0; n <= rounds; n += 1) {
    for (const [at, shape] of shapes.entries()) {
      const find = () =>
        store.find(requestOf(shape, newJobId()), DEFAULT_STRATEGY.position, shape.query.top_k);
      const cpuBefore = await redisCpuMs(node);
      const perCall = await serverMicros(node, () => Promise.all(Array.from({ length: calls }, find)));
      const cpuMs = (await redisCpuMs(node)) - cpuBefore;
      for (let call = 0; call < calls / 2; call += 1) {
        const startedMs = performance.now();
        await find();
        if (n > 0) latencies.push(performance.now() - startedMs);
      }
      if (n === 0) continue;
      // A match asks every shard.
      means[at]?.push(perCall * registry.config.redis_shards);
      cpuMeans[at]?.push((cpuMs * US_PER_MS) / calls);
    }
  }
  const times = means.map(median);
  const sorted = ascending(latencies);
  return {
    server_us: round(median(times), 1),
    cpu_us: round(median(cpuMeans.map(median)), 1),
    worst_us: round(Math.max(...times), 1),
    e2e_p50_ms: round(quantile(sorted, 0.5), 3),
    e2e_p99_ms: round(quantile(sorted, 0.99), 3),
  };
}

/** Slope of the least squares line through the logarithms. */
function exponentOf(points: readonly ScalePoint[]): number | null {
  if (points.length < 2) return null;
  const xs = points.map(({ miners }) => Math.log(miners));
  const ys = points.map(({ server_us }) => Math.log(server_us));
  const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const [mx, my] = [mean(xs), mean(ys)];
  const covariance = xs.reduce((sum, x, i) => sum + (x - mx) * ((ys[i] as number) - my), 0);
  return round(covariance / xs.reduce((sum, x) => sum + (x - mx) ** 2, 0), 3);
}
