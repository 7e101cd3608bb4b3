import { formatTable } from '../../src/cli/table.ts';
import { waitFor } from '../../test/support/wait-for.ts';
import type { Latency } from '../hub/latency.ts';
import { matchSteadily } from '../sockets/steady-matches.ts';
import type { Benchmark, Options } from '../support/benchmark.ts';
import { cpuMs } from '../support/cpu.ts';
import { median, round } from '../support/statistics.ts';
import { type MeasuredPool, openMeasuredPool } from './pool.ts';
import { measureReadings, type Readings } from './readings.ts';

interface Percentiles {
  readonly p50_ms: number;
  readonly p99_ms: number;
}

interface SlaReport {
  readonly miners: number;
  /** Measurements of the past beside which all happens. */
  readonly rows: number;
  /** Matches a second, all the time. */
  readonly rate: number;
  /** A collection that has never seen a miner before, without matches. */
  readonly first_collection_s: number;
  /** One that adds to what is there, beside the matches. */
  readonly collection_s: number;
  /** Processor time of the worker in it; null where that is not told. */
  readonly worker_cpu_s: number | null;
  /** Miners that a collection did not count. */
  readonly missed: number;
  readonly match_usual: Percentiles;
  readonly match_during: Percentiles;
  /** Of the 99th percentiles, during to usual. */
  readonly p99_ratio: number;
  /** `GET /sla/metrics/{miner_id}` over HTTP. */
  readonly readings: Readings;
}

const COLLECTION_TIMEOUT_MS = 300_000;
const WARM_UP_SEC = 2;

/** Service levels: what a collection costs those who match meanwhile, and what reading costs beside a long past. */
export const slaBenchmark: Benchmark<SlaReport> = {
  async run(options, undo, progress) {
    const pool = await openMeasuredPool(options, undo, progress);
    progress('the first collection');
    const first = await collectionAfter(pool, undefined);
    const readings = await measureReadings(pool, options.calls);
    await matchSteadily(pool.client, pool.shapes, options.rate, Math.min(WARM_UP_SEC, options.seconds));
    const rounds: Round[] = [];
    for (let n = 1; n <= options.rounds; n += 1) {
      progress(`round ${n} of ${options.rounds}`);
      rounds.push(await measureRound(pool, options));
    }
    const of = (part: (round: Round) => number) => median(rounds.map(part));
    const usual = percentiles(rounds.map((round) => round.usual));
    const during = percentiles(rounds.map((round) => round.during));
    return {
      miners: options.miners,
      rows: pool.pastRows,
      rate: options.rate,
      first_collection_s: round(first.sec, 1),
      collection_s: round(
        of(({ collection }) => collection.sec),
        1,
      ),
      worker_cpu_s: rounds.some(({ cpuSec }) => cpuSec === undefined)
        ? null
        : round(
            of(({ cpuSec }) => cpuSec as number),
            1,
          ),
      missed: [first, ...rounds.map(({ collection }) => collection)].reduce(
        (sum, { miners }) => sum + Math.abs(options.miners - miners),
        0,
      ),
      match_usual: usual,
      match_during: during,
      p99_ratio: round(during.p99_ms / usual.p99_ms, 2),
      readings,
    };
  },
  failed: ({ missed, readings }) => missed > 0 || !readings.by_index,
  table(report) {
    const { match_usual, match_during, readings } = report;
    const rows = [
      ['first collection, s', report.first_collection_s, ''],
      ['collection beside matches, s', report.collection_s, ''],
      ['  processor time of the worker, s', report.worker_cpu_s ?? '-', ''],
      ['match, usually: p50, p99 ms', match_usual.p50_ms, match_usual.p99_ms],
      ['match, during a collection: p50, p99 ms', match_during.p50_ms, match_during.p99_ms],
      ['  p99 during to usual', '', report.p99_ratio],
      ['levels of a miner, last day: p50, p99 ms', readings.day.p50_ms, readings.day.p99_ms],
      ['levels of a miner, 1,000 rows: p50, p99 ms', readings.all.p50_ms, readings.all.p99_ms],
    ];
    return [
      formatTable(['', '', ''], rows),
      '',
      `${report.miners} miners, ${report.rows} rows of the past, ${report.rate} matches a second`,
      '',
      ...readings.plan,
    ].join('\n');
  },
};

interface Round {
  readonly usual: Latency;
  readonly during: Latency;
  readonly collection: Collection;
  readonly cpuSec: number | undefined;
}

/** Matches alone, then matches beside a collection. */
async function measureRound(pool: MeasuredPool, { rate, seconds }: Options): Promise<Round> {
  await pool.work();
  const usual = await matchSteadily(pool.client, pool.shapes, rate, seconds);
  const before = await lastCollection(pool);
  const cpuBefore = await cpuMs(pool.workerPid);
  let isOver = false;
  const matching = matchSteadily(pool.client, pool.shapes, rate, () => isOver);
  matching.catch(() => {}); // It is awaited below.
  try {
    await askForCollection(pool);
    const collection = await collectionAfter(pool, before);
    const cpuAfter = await cpuMs(pool.workerPid);
    const cpuSec =
      cpuBefore === undefined || cpuAfter === undefined ? undefined : (cpuAfter - cpuBefore) / 1000;
    isOver = true;
    return { usual, during: await matching, collection, cpuSec };
  } finally {
    isOver = true;
  }
}

/** Answers after 10 s at the latest, whether it is finished or not. */
async function askForCollection({ url, headers }: MeasuredPool): Promise<void> {
  const response = await fetch(`${url}/sla/metrics/collect`, { method: 'POST', headers });
  await response.text();
  if (!response.ok) throw new Error(`a collection was refused: ${response.status}`);
}

interface Collection {
  readonly slot: string;
  readonly miners: number;
  readonly sec: number;
}

/** Waits for a finished collection that comes after `before`. */
async function collectionAfter(pool: MeasuredPool, before: Collection | undefined): Promise<Collection> {
  const next = async () => {
    const found = await lastCollection(pool);
    return found !== undefined && found.slot !== before?.slot ? found : undefined;
  };
  return waitFor(next, { timeoutMs: COLLECTION_TIMEOUT_MS, what: 'a collection' });
}

async function lastCollection({ sql }: MeasuredPool): Promise<Collection | undefined> {
  const [row] = await sql<Collection[]>`
    select slot::text, miners::int as miners, extract(epoch from finished_at - started_at)::float8 as sec
    from poolhub.sla_collections where finished_at is not null order by finished_at desc limit 1`;
  return row;
}

function percentiles(rounds: readonly Latency[]): Percentiles {
  const of = (percent: number) => round(median(rounds.map((latency) => latency.percentileMs(percent))), 2);
  return { p50_ms: of(50), p99_ms: of(99) };
}
