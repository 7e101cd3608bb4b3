import type { FleetKind } from '../../src/cli/fleet.ts';
import { formatTable } from '../../src/cli/table.ts';
import { priceBinTop } from '../../src/hub/matching/score.ts';
import type { MatchStore } from '../../src/hub/matching/store.ts';
import { masters } from '../../src/platform/redis.ts';
import type { Benchmark, Options } from '../support/benchmark.ts';
import { type LoadedMiner, loadFleet } from '../support/fleet-loader.ts';
import { type BenchRegistry, benchSettings, openRegistry } from '../support/registry.ts';
import { median, round } from '../support/statistics.ts';
import { benchDatabase, benchRedis } from '../support/stores.ts';
import type { Undo } from '../support/undo.ts';
import { BruteForce } from './brute-force.ts';
import { type PoolMiner, readPool } from './pool.ts';
import { DEFAULT_STRATEGY, newJobId, requestOf, type Shape, type ShapeQuery, shapesOf } from './shapes.ts';
import { SqlPool } from './sql.ts';
import { type ShapeTiming, timeHeartbeats, timeShapes } from './timing.ts';

interface ShapeResult extends ShapeTiming {
  readonly name: string;
  /** server_us / noop_us. */
  readonly ratio: number;
  /** Milliseconds of the same query in Postgres. */
  readonly sql_ms: number;
  /** Whether every sampled answer was what brute force says. */
  readonly exact: boolean;
  readonly feasible: number;
  /** Records read exactly by one match, mean. */
  readonly records_read: number;
  readonly query: ShapeQuery;
}

interface MatchReport {
  readonly miners: number;
  readonly fleet: FleetKind;
  readonly shapes: readonly ShapeResult[];
  readonly bytes_per_miner: number;
  /** Median and highest server_us of the shapes. */
  readonly typical_us: number;
  readonly worst_us: number;
  /** Server-side microseconds of a heartbeat that changes load and latency, in the same registry. */
  readonly heartbeat_us: number;
}

/** Answers of each shape that are held against brute force. */
const SAMPLES = 5;
const SQL_RUNS = 7;
/** Miners whose heartbeats are timed. */
const BEATING_MINERS = 500;

/** How long a match takes in the server, whether it is exact, and what a miner costs in memory. */
export const matchBenchmark: Benchmark<MatchReport> = {
  async run(options, undo, progress) {
    const redis = await benchRedis(undo);
    const dsn = await benchDatabase(undo, { migrated: false });
    const registry = await openRegistry(benchSettings(redis, dsn), undo);
    const { bytes_per_miner, sessions } = await loadAndWeigh(registry, options, progress);
    progress('reading every miner back');
    const pool = await readPool(registry, options.miners);
    const shapes = await measureShapes({ registry, pool, dsn, undo, options, progress });
    // Last, because it changes the registry.
    progress('timing heartbeats');
    const heartbeat_us = await timeHeartbeats(registry, sessions, options);
    const times = shapes.map(({ server_us }) => server_us);
    return {
      miners: options.miners,
      fleet: options.fleet,
      shapes,
      bytes_per_miner,
      typical_us: round(median(times), 1),
      worst_us: Math.max(...times),
      heartbeat_us,
    };
  },

  failed: ({ shapes }) => shapes.some(({ exact }) => !exact),

  table({ miners, fleet, shapes, bytes_per_miner, typical_us, worst_us, heartbeat_us }) {
    const rows = shapes.map((shape) => [
      shape.name,
      shape.server_us,
      shape.lone_us,
      shape.noop_us,
      shape.ratio,
      shape.explain_us ?? '',
      shape.sql_ms,
      shape.exact ? 'yes' : 'NO',
      shape.feasible,
      shape.records_read,
    ]);
    const headings = [
      'SHAPE',
      'MATCH us',
      'LONE us',
      'EMPTY us',
      'RATIO',
      'EXPLAIN us',
      'SQL ms',
      'EXACT',
      'FEASIBLE',
      'READ',
    ];
    return [
      formatTable(headings, rows),
      '',
      `${miners} miners (${fleet}): typical ${typical_us} us, worst ${worst_us} us; a heartbeat ${heartbeat_us} us; ${bytes_per_miner} bytes of Redis memory a miner`,
    ].join('\n');
  },
};

/** Loads the fleet, and weighs it: bytes of Redis memory for one miner, once the durable effects are written. */
async function loadAndWeigh(
  registry: BenchRegistry,
  options: Options,
  progress: (line: string) => void,
): Promise<{ bytes_per_miner: number; sessions: LoadedMiner[] }> {
  const before = await usedMemory(registry);
  const plan = { miners: options.miners, kind: options.fleet, seed: options.seed };
  const report = (online: number) => progress(`${online} of ${options.miners} miners online`);
  const sessions = await loadFleet(registry, plan, BEATING_MINERS, report);
  const bytes = (await usedMemory(registry)) - before;
  return { bytes_per_miner: Math.round(bytes / options.miners), sessions };
}

async function usedMemory({ redis }: BenchRegistry): Promise<number> {
  let bytes = 0;
  for (const node of masters(redis)) {
    bytes += Number(/^used_memory:(\d+)/m.exec(await node.info('memory'))?.[1]);
  }
  return bytes;
}

interface Bench {
  readonly registry: BenchRegistry;
  readonly pool: readonly PoolMiner[];
  readonly dsn: string;
  readonly undo: Undo;
  readonly options: Options;
  readonly progress: (line: string) => void;
}

async function measureShapes(bench: Bench): Promise<ShapeResult[]> {
  const { registry, pool, dsn, undo, options, progress } = bench;
  const { store, highestPriceBin } = await registry.matching();
  const weights = registry.config.strategies[DEFAULT_STRATEGY.name];
  if (weights === undefined) throw new Error('the default strategy is missing');
  const priceReference = priceBinTop(highestPriceBin);
  const shapes = shapesOf(pool);
  progress(`timing ${shapes.length} shapes in ${options.rounds} rounds`);
  const timings = await timeShapes(registry, store, shapes, options);
  progress('loading Postgres');
  const sql = await SqlPool.load(dsn, pool, { weights, priceReference }, undo);
  const results: ShapeResult[] = [];
  for (const [i, shape] of shapes.entries()) {
    progress(`checking "${shape.name}"`);
    const truth = new BruteForce(pool, shape.query, weights, priceReference);
    const check = await checkShape(store, shape, truth);
    await assertSameQuery(sql, shape, truth);
    const timing = timings[i] as ShapeTiming;
    results.push({
      name: shape.name,
      ...timing,
      ratio: round(timing.server_us / timing.noop_us, 1),
      sql_ms: round(await sql.executionMs(shape.query, SQL_RUNS), 3),
      ...check,
      feasible: truth.feasible.length,
      query: shape.query,
    });
  }
  return results;
}

async function checkShape(
  store: MatchStore,
  shape: Shape,
  truth: BruteForce,
): Promise<{ exact: boolean; records_read: number }> {
  let exact = true;
  let recordsRead = 0;
  for (let n = 0; n < SAMPLES; n += 1) {
    const jobId = newJobId();
    const found = await store.find(requestOf(shape, jobId), DEFAULT_STRATEGY.position, shape.query.top_k);
    exact &&= truth.confirms(found, jobId);
    recordsRead += found.recordsRead;
  }
  return { exact, records_read: round(recordsRead / SAMPLES, 1) };
}

/** @throws Error when Postgres answers another question: its time would mean nothing */
async function assertSameQuery(sql: SqlPool, shape: Shape, truth: BruteForce): Promise<void> {
  const scores = await sql.bestScores(shape.query);
  const best = truth.best(newJobId());
  const same =
    scores.length === best.length &&
    best.every(({ score }, i) => Math.abs(score - (scores[i] as number)) < 1e-9);
  if (!same) throw new Error(`Postgres finds others for "${shape.name}": ${scores.slice(0, 3).join(', ')}`);
}
